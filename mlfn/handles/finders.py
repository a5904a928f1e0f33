"""Finding runs, listing them, and waiting for several of them."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, overload

from mlfn.dispatch import hooks
from mlfn.dispatch.session import Session, current_session
from mlfn.errors import ParameterError, ResultTimeoutError, nearest
from mlfn.handles.run import Run, current_record, known_record
from mlfn.handles.run_query import find_run, find_runs, make_query
from mlfn.handles.version import Version, tagged
from mlfn.spec.record import RunRecord

if TYPE_CHECKING:
    import pandas as pd

R = TypeVar("R")


class Runs(Sequence[Run[Any]]):
    """A listing of runs; a table where it is shown.

    Parameters
    ----------
    metric: what it is ordered by, where that is a metric or numeric output.
    scores: the last value of that, by run id.
    note: why there is none, where that is known.
    """

    def __init__(
        self,
        items: Iterable[Run[Any]],
        *,
        metric: str | None = None,
        scores: Mapping[str, float] | None = None,
        note: str = "",
    ) -> None:
        self._items = list(items)
        self.metric = metric
        self.scores = scores or {}
        self.note = note

    @overload
    def __getitem__(self, index: int) -> Run[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Runs: ...
    def __getitem__(self, index: int | slice) -> Run[Any] | Runs:
        if not isinstance(index, slice):
            return self._items[index]
        return Runs(self._items[index], metric=self.metric, scores=self.scores)

    def __len__(self) -> int:
        return len(self._items)

    def table(self) -> pd.DataFrame:
        """Return a DataFrame with a row for each: run, name, project, state, created, seconds, parameters, numbers, error."""
        from mlfn.handles.run_table import make_table

        return make_table(current_session().store, [current_record(item) for item in self])

    def __repr__(self) -> str:
        lines = [f"{_count(len(self))}{f': {self.note}' if self.note else ''}"]
        for record in map(known_record, self):
            score = f"  {self.metric}={self.scores[record.id]:.4g}" if record.id in self.scores else ""
            created = datetime.fromtimestamp(record.created, tz=timezone.utc).astimezone()
            when = f"{created:%Y-%m-%d %H:%M:%S}"
            lines.append(f"{record.id[:8]}  {record.state.value:<10} {record.name:<24} {when}{score}")
        return "\n".join(lines)


def run(id: str) -> Run[Any]:  # noqa: A002 - the word that users know
    """Return the run whose id begins with `id`, from any process that sees the store.

    ``"last"`` is the newest run, and the name of a function or a sweep the newest run of it.
    """
    if not isinstance(id, str):
        raise ParameterError(
            f"run({id!r}): a text is allowed, the id of a run or its first digits; mlfn.runs() lists them."
        )
    session = current_session()
    session.reconcile()
    return handle_of(find_run(session.store, id), session)


def get_function(reference: str) -> Version[Run[Any]]:
    """Return the version that ``"project/name:tag"`` or ``"name:tag"`` names; see `Run.promote`."""
    session = current_session()
    row = tagged(session, reference)
    return Version(handle_of(session.store.get_run(row.run), session), row.tag, row.function, session=session)


def handle_of(record: RunRecord, session: Session) -> Run[Any]:
    """Return the handle that fits a stored run."""
    if record.sweep and hooks.sweep_handle is not None:
        found: Run[Any] = hooks.sweep_handle(record, session=session)
        return found
    return Run(record, session=session)


def runs(
    *,
    project: str | None = None,
    name: str | None = None,
    state: str | Sequence[str] | None = None,
    label: Mapping[str, str] | None = None,
    since: float | datetime | str | None = None,
    order: str = "newest",
    limit: int = 100,
    before: Run[Any] | None = None,
    parent: Run[Any] | None = None,
    where: str | None = None,
    **unknown: NoReturn,
) -> Runs:
    """List runs; the children of a sweep, or of a run whose handler submitted them, are listed by `parent` alone.

    Parameters
    ----------
    state: one state or several.
    label: labels that must all match.
    since: only runs submitted then or later; a datetime, seconds since the epoch, or a text: ``"2h"`` and ``"7d"`` ago, or
        ``"2026-03-01"`` and ``"2026-03-01 12:30"`` by the local clock.
    order: ``"newest"``, ``"oldest"``, or ``"max.NAME"`` / ``"min.NAME"`` for a metric or numeric output.
    before: the last run of the page before, for the next page in order of time.
    parent: a run whose children are wanted.
    where: a condition as of `stop_when`, as ``"lr < 0.1 and max.accuracy > 0.9"``: on parameters, metrics and numeric outputs.
        Children of sweeps are among the runs then.
    """
    _refuse_unknown(unknown)
    for option, other in (("before", before), ("parent", parent)):
        if other is not None and not isinstance(other, Run):
            raise ParameterError(f"runs({option}={other!r}): a run is allowed, as mlfn.run(id) returns it.")
    query = make_query(
        project=project,
        name=name,
        state=state,
        label=label,
        since=since,
        order=order,
        limit=limit,
        before=before.record.seq if before is not None else None,
        parent=parent.id if parent is not None else None,
        where=where,
    )
    session = current_session()
    session.reconcile()
    found = find_runs(session.store, query)
    return Runs(
        (handle_of(record, session) for record in found.records),
        metric=found.metric,
        scores=found.scores,
        note=found.note,
    )


def wait(runs: Iterable[Run[Any]], timeout: float | None = None) -> tuple[list[Run[Any]], list[Run[Any]]]:
    """Wait for all of `runs`, `timeout` seconds at most; return (done, not done)."""
    timeout = hooks.seconds("wait", timeout)
    limit = math.inf if timeout is None else time.monotonic() + timeout
    items = _runs_given("wait", runs)
    for item in items:
        item.wait(0)  # resumes those whose owner is dead, all of them at once and not one after the other
    for item in items:
        item.wait(max(0.0, limit - time.monotonic()))
    return [item for item in items if item.done()], [item for item in items if not item.done()]


def as_completed(runs: Iterable[Run[R]], timeout: float | None = None) -> Iterator[Run[R]]:
    """Yield each of `runs` as it ends; raise ResultTimeoutError if one has not after `timeout` seconds."""
    # Not in the generator, which begins when it is first asked: what does not fit is refused where it is written.
    return _ending(list(dict.fromkeys(_runs_given("as_completed", runs))), hooks.seconds("as_completed", timeout))


def _ending(pending: list[Run[R]], timeout: float | None) -> Iterator[Run[R]]:
    limit = math.inf if timeout is None else time.monotonic() + timeout
    news = threading.Event()
    for item in pending:
        item.add_done_callback(lambda _: news.set())
    while pending:
        news.clear()
        over = [item for item in pending if item.done()]
        pending = [item for item in pending if item not in over]
        yield from over
        if pending and not over:
            if time.monotonic() >= limit:
                raise ResultTimeoutError(
                    f"{_count(len(pending))} had not ended after {timeout:g} s, {pending[0]!r} among them."
                )
            news.wait(min(0.5, max(0.0, limit - time.monotonic())))


def _runs_given(call: str, runs: Any) -> list[Run[Any]]:
    """Return the runs that are to be waited for; a sweep, which yields other things than runs, is one of them."""
    if isinstance(runs, Run):
        raise ParameterError(
            f"{call}({runs!r}): several runs are allowed, as in mlfn.{call}([run]); of one, run.wait()."
        )
    if isinstance(runs, (str, bytes)) or not isinstance(runs, Iterable):
        raise ParameterError(f"{call}({runs!r}): a list of runs is allowed, as in mlfn.{call}([run]).")
    items = list(runs)
    for index, item in enumerate(items):
        if not isinstance(item, Run):
            hint = f"mlfn.run({item!r}) finds it" if isinstance(item, str) else "pass what submit() returned"
            raise ParameterError(f"{call}(...) got {item!r} at {index}: a run is allowed; {hint}.")
    return items


def _refuse_unknown(given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        raise ParameterError(f"runs() has no option {name!r} (value {value!r}): {nearest(name, _OPTIONS)}")


_OPTIONS = ("project", "name", "state", "label", "since", "order", "limit", "before", "parent", "where")


def _count(runs: int) -> str:
    return f"{runs} run{'' if runs == 1 else 's'}"
