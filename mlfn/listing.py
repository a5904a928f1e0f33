"""Finding runs, listing them, and waiting for several of them."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, NoReturn, TypeVar, overload

from mlfn import waiting
from mlfn.client import Client, current_client
from mlfn.errors import ParameterError, ResultTimeoutError, meant, nearest
from mlfn.handle import Run
from mlfn.identity import now
from mlfn.spec.record import RunRecord, RunState
from mlfn.spec.values import parse_seconds
from mlfn.store.reading import RunFilter
from mlfn.version import Version, tagged

R = TypeVar("R")


class Runs(Sequence[Run[Any]]):
    """A listing of runs; a table where it is shown."""

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
        """What it is ordered by, where that is a metric or numeric output."""
        self.scores = scores or {}
        """The last value of that, by run id."""
        self.note = note
        """Why there is none, where that is known."""

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

    def __repr__(self) -> str:
        return "\n".join(
            [
                f"{_count(len(self))}{f': {self.note}' if self.note else ''}",
                *(
                    f"{r.id[:8]}  {r._record.state.value:<10} {r.name:<24} {_when(r._record.created)}{self._score(r)}"
                    for r in self
                ),
            ]
        )

    def _score(self, item: Run[Any]) -> str:
        return f"  {self.metric}={self.scores[item.id]:.6g}" if item.id in self.scores else ""


def run(id: str) -> Run[Any]:  # noqa: A002 - the word that users know
    """Return the run whose id begins with `id`, from any process that sees the store."""
    if not isinstance(id, str):
        raise ParameterError(
            f"run({id!r}): a text is allowed, the id of a run or its first digits; mlfn.runs() lists them."
        )
    client = current_client()
    client.reconcile()
    return handle_of(client.store.find_run(id), client)


def get_function(reference: str) -> Version:
    """Return the version that ``"project/name:tag"`` or ``"name:tag"`` names; see `Run.promote`."""
    if not isinstance(reference, str):
        raise ParameterError(f"get_function({reference!r}): 'project/name:tag' or 'name:tag' is allowed.")
    client = current_client()
    row = tagged(client, reference)
    return Version(handle_of(client.store.get_run(row.run), client), row.tag, row.function, client=client)


def handle_of(record: RunRecord, client: Client) -> Run[Any]:
    """Return the handle that fits a stored run."""
    if record.sweep:
        from mlfn.sweep.sweep_run import SweepRun  # most runs are none

        return SweepRun(record, client=client)
    return Run(record, client=client)


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
    """
    _refuse_unknown(unknown)
    for option, text in (("project", project), ("name", name), ("order", order)):
        if text is not None and not isinstance(text, str):
            raise ParameterError(f"runs({option}={text!r}): a text is allowed.")
    for option, other in (("before", before), ("parent", parent)):
        if other is not None and not isinstance(other, Run):
            raise ParameterError(f"runs({option}={other!r}): a run is allowed, as mlfn.run(id) returns it.")
    if label is not None and not (isinstance(label, Mapping) and all(isinstance(key, str) for key in label)):
        raise ParameterError(f"runs(label={label!r}): a mapping is allowed, as in label={{'team': 'risk'}}.")
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise ParameterError(f"runs(limit={limit!r}): a whole number, 1 or more, is allowed.")
    client = current_client()
    client.reconcile()
    wanted = RunFilter(
        project=project,
        name=name,
        states=_states(state),
        labels=label or {},
        since=_since(since),
        before=before._record.seq if before is not None else None,
        parent=parent.id if parent is not None else None,
        on_top=parent is None,
    )
    if order in ("newest", "oldest"):
        records = client.store.list_runs(wanted, limit=limit, newest=order == "newest")
    else:
        way, _, metric = order.partition(".")
        if way not in ("max", "min") or not metric:
            raise ParameterError(f"runs(order={order!r}): 'newest', 'oldest', 'max.NAME' or 'min.NAME' is allowed.")
        records = client.store.best_runs(wanted, metric, limit=limit, highest=way == "max")
        known = client.store.scores_among([record.id for record in records])
        scores = {run: own[metric] for run, own in known.items() if metric in own}
        return Runs(
            (handle_of(record, client) for record in records),
            metric=metric,
            scores=scores,
            note="" if records else _why_none(client, project),
        )
    return Runs((handle_of(record, client) for record in records), note="" if records else _why_none(client, project))


def wait(runs: Iterable[Run[Any]], timeout: float | None = None) -> tuple[list[Run[Any]], list[Run[Any]]]:
    """Wait for all of `runs`, `timeout` seconds at most; return (done, not done)."""
    timeout = waiting.seconds("wait", timeout)
    limit = None if timeout is None else time.monotonic() + timeout
    items = _runs_given("wait", runs)
    for item in items:
        item._see_through()  # all of them at once, and not one after the other
    for item in items:
        item.wait(None if limit is None else max(0.0, limit - time.monotonic()))
    return [item for item in items if item.done()], [item for item in items if not item.done()]


def as_completed(runs: Iterable[Run[R]], timeout: float | None = None) -> Iterator[Run[R]]:
    """Yield each of `runs` as it ends; raise ResultTimeoutError if one has not after `timeout` seconds."""
    # Not in the generator, which begins when it is first asked: what does not fit is refused where it is written.
    return _ending(list(dict.fromkeys(_runs_given("as_completed", runs))), waiting.seconds("as_completed", timeout))


def _ending(pending: list[Run[R]], timeout: float | None) -> Iterator[Run[R]]:
    limit = None if timeout is None else time.monotonic() + timeout
    news = threading.Event()
    for item in pending:
        item.add_done_callback(lambda _: news.set())
    while pending:
        news.clear()
        over = [item for item in pending if item.done()]
        pending = [item for item in pending if item not in over]
        yield from over
        if pending and not over:
            if limit is not None and time.monotonic() >= limit:
                raise ResultTimeoutError(
                    f"{_count(len(pending))} had not ended after {timeout:g} s, {pending[0]!r} among them."
                )
            news.wait(0.5 if limit is None else min(0.5, max(0.0, limit - time.monotonic())))


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


_OPTIONS = ("project", "name", "state", "label", "since", "order", "limit", "before", "parent")


def _states(state: str | Sequence[str] | None) -> tuple[str, ...]:
    if not (state is None or isinstance(state, (str, Iterable))):
        raise ParameterError(f"runs(state={state!r}): {nearest(str(state), map(str, RunState))}")
    given = () if state is None else (state,) if isinstance(state, str) else tuple(state)
    allowed = [str(item) for item in RunState]
    for item in given:
        if str(item) not in allowed:
            raise ParameterError(f"runs(state={item!r}): {nearest(str(item), allowed)}")
    return tuple(str(item) for item in given)


def _since(since: float | datetime | str | None) -> float | None:
    if since is None or (isinstance(since, (int, float)) and not isinstance(since, bool)):
        return since
    if isinstance(since, datetime):
        return since.timestamp()
    if isinstance(since, str) and re.fullmatch(r"\s*[\d.]+\s*[smhd]\s*", since):
        return now() - parse_seconds(since, option="since")
    try:
        return datetime.fromisoformat(str(since)).timestamp()
    except (TypeError, ValueError):
        raise ParameterError(
            f"runs(since={since!r}): a text such as '2h', '7d' or '2026-03-01 12:30', a datetime, or seconds since the "
            "epoch, is allowed."
        ) from None


def _count(runs: int) -> str:
    return f"{runs} run{'' if runs == 1 else 's'}"


def _why_none(client: Client, project: str | None) -> str:
    """Return which projects there are, where none is called `project`."""
    known = [] if project is None else client.store.projects()
    if project is None or project in known:
        return ""
    if not known:
        return f"no project is called {project!r}, and none has a run yet."
    near = meant(project, known)
    first = sorted(known, key=lambda name: repr(name) not in near)
    shown = ", ".join(first[:_MOST_PROJECTS]) + (", ..." if len(first) > _MOST_PROJECTS else "")
    return f"no project is called {project!r}{': ' + near if near else '. '}There are: {shown}."


_MOST_PROJECTS = 20


def _when(moment: float) -> str:
    return datetime.fromtimestamp(moment, tz=timezone.utc).astimezone().strftime("%Y-%m-%d %H:%M:%S")
