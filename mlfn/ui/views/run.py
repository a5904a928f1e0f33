"""The view model of a run: what is to be seen of it at one moment, bounded, and nothing in it was unpickled."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlfn.errors import NotFoundError, StoreCorruptError
from mlfn.host.frozen import frozen
from mlfn.host.identity import now
from mlfn.settings.current import artifact_uri
from mlfn.spec.plan import left_out, memory_of_each
from mlfn.spec.record import PAGE, Attempt, Output, RunRecord, RunState
from mlfn.store.queries import RunFilter
from mlfn.ui.views import Source
from mlfn.ui.views.values import Value, output, parameter
from mlfn.ui.wording import LONGEST_LINE, LONGEST_VALUE, clean, cut, duration, joined, last_lines, local_time, moment

if TYPE_CHECKING:
    from mlfn.backends.logs import AttemptLog

MOST_POINTS = 120
LOG_LINES = 10
_LOG_BYTES = 16 * 1024
_TRACEBACK_LINES = 40


@frozen
class Series:
    """One metric: how many points, the last value, and some of the values on the way to it."""

    name: str
    count: int
    values: tuple[float, ...]

    @property
    def last(self) -> float:
        """The last value."""
        return self.values[-1] if self.values else math.nan


@frozen
class Progress:
    """How far the handler has come, as it last reported."""

    done: float
    total: float | None
    text: str

    @property
    def fraction(self) -> float | None:
        """0 to 1, where the whole is known."""
        return min(1.0, max(0.0, self.done / self.total)) if self.total else None

    @property
    def words(self) -> str:
        """How far it is, with the handler's own text."""
        count = f"{self.done:g} of {self.total:g}" if self.total is not None else f"{self.done:g} done"
        return joined((self.text, count))


@frozen
class Event:
    """What the store recorded of a run."""

    time: float
    attempt: int
    what: str
    detail: str | None


@frozen
class RunView:
    """A run at one moment; `notice` says what could not be read.

    Parameters
    ----------
    params: those that were given, then the defaults of the others.
    sweep_name: the name that a sweep was submitted under.
    branches: the first of the runs below it.
    folder: the data folder, below which its files lie.
    logs_at: where the log of an attempt lies, by its number, where it wrote one.
    waits_for: why it is pending, in words.
    asked: the bytes of memory that an attempt asks for, by its number, where the retry policy raises them.
    """

    record: RunRecord
    taken: float
    folder: Path | None = None
    is_abandoned: bool = False
    sweep_name: str = ""
    params: tuple[Value, ...] = ()
    outputs: tuple[Value, ...] = ()
    series: tuple[Series, ...] = ()
    more_series: int = 0
    branches: tuple[Branch, ...] = ()
    more_branches: int = 0
    attempts: tuple[Attempt, ...] = ()
    events: tuple[Event, ...] = ()
    log: tuple[str, ...] = ()
    log_size: int = 0
    logs_at: Mapping[int, str] = field(default_factory=dict)
    asked: Mapping[int, int] = field(default_factory=dict)
    artifacts: str | None = None
    waits_for: str = ""
    notice: str = ""

    @property
    def log_at(self) -> str | None:
        """Where the last log lies that an attempt wrote."""
        return self.logs_at[max(self.logs_at)] if self.logs_at else None

    @property
    def id(self) -> str:
        """The run's id."""
        return self.record.id

    @property
    def name(self) -> str:
        """The function's name."""
        return clean(self.record.name)

    @property
    def state(self) -> RunState:
        """The run's state."""
        return self.record.state

    @property
    def elapsed(self) -> float:
        """Seconds that it has run or, before, has waited."""
        record = self.record
        begun = record.started if record.started is not None else record.created
        return max(0.0, (record.ended if record.ended is not None else self.taken) - begun)

    @property
    def spent(self) -> str:
        """How long it has run or waited, in words."""
        record = self.record
        if record.started is None and self.state.is_terminal:
            return "not started"
        span = duration(self.elapsed, exact=record.ended is not None)
        return f"waiting {span}" if self.state is RunState.PENDING else span

    @property
    def circumstances(self) -> str:
        """Its project, place and time, and of which moment this is."""
        record = self.record
        attempt = f"attempt {record.attempt}" if record.attempt > 1 else ""
        now = "" if self.state.is_terminal else f"as of {local_time(self.taken):%H:%M:%S}"
        return joined((record.project, record.place, f"submitted {moment(record.created)}", attempt, now))

    @property
    def progress(self) -> Progress | None:
        """What the handler last reported; None where that holds no number."""
        reported = self.record.progress or {}
        done, total = _finite(reported.get("done")), _finite(reported.get("total"))
        text = cut(clean(str(reported.get("text", ""))), LONGEST_VALUE)
        return None if done is None else Progress(done, total, text)

    @property
    def error(self) -> str:
        """Why it failed: the user's own frames, or type and message."""
        failure = self.record.failure
        if failure is None:
            return ""
        text = failure.traceback or f"{failure.type.removeprefix('builtins.')}: {failure.message}"
        return last_lines(text, _TRACEBACK_LINES)

    @property
    def page(self) -> str | None:
        """Where its engine shows what it does, while it runs."""
        found = next((event.detail for event in reversed(self.events) if event.what == PAGE), None)
        is_address = found is not None and found.startswith(("http://", "https://"))
        return found if is_address and self.state is RunState.RUNNING else None

    @property
    def advice(self) -> str:
        """What its reader can do."""
        run = self.id[:8]
        return (
            f"The process that submitted it is gone: run.wait() here, or `mlfn wait {run}`, resumes it."
            if self.is_abandoned
            else ""
        )


@frozen
class Branch:
    """A run below another, its last values, and the first of those below it."""

    run: RunView
    scores: tuple[tuple[str, float], ...] = ()
    branches: tuple[Branch, ...] = ()
    more: int = 0


@frozen
class Extent:
    """How much is read of a run: metrics, and runs below it: of each run, generations, all together."""

    series: int | None
    branches: int
    generations: int
    total: int
    of_sweeps: bool = True


MOST_SERIES = 8
MOST_BELOW = 24
CARD = Extent(MOST_SERIES, MOST_BELOW, 3, MOST_BELOW, of_sweeps=False)  # a sweep's card has a table of its own
ENDING = Extent(None, 0, 0, 0)
REPORT = Extent(None, 10, 6, 10_000)
WHOLE = Extent(None, 10_000, 6, 1_000_000)


def brief_view(record: RunRecord, folder: Path | None = None) -> RunView:
    """Return the view of a run that its row alone gives."""
    params = tuple(parameter(name, value) for name, value in record.params.items())
    return RunView(record, now(), folder, params=params)


def listed_view(source: Source, record: RunRecord) -> RunView:
    """Return the view of a run for a listing: its row, and whether its client is dead."""
    is_abandoned = source.is_abandoned(record)
    if is_abandoned and record.sweep:
        record = _counted_anew(source, record)
    sweep_name = source.store.sweep_name(record.id) if record.sweep else None
    return replace(brief_view(record, source.folder), is_abandoned=is_abandoned, sweep_name=sweep_name or "")


def _counted_anew(source: Source, record: RunRecord) -> RunRecord:
    """Return a sweep with the counts of its children: its driver died before it reported what ended after that."""
    counts = source.store.child_counts(record.id)
    ended = {state.value: count for state, count in counts.items() if state.is_terminal}
    text = ", ".join(f"{count} {state}" for state, count in ended.items() if state != RunState.SUCCEEDED.value)
    reported = record.progress or {}
    return replace(record, progress={**reported, "done": sum(ended.values()), "ended": ended, "text": text})


def read_run(source: Source, record: RunRecord, extent: Extent = CARD) -> RunView:
    """Return the view of a run with all that the store and its log have."""
    store, known = source.store, listed_view(source, record)
    names = store.metric_names(record.id, record.attempt)
    attempts = store.attempts(record.id)
    log: tuple[str, ...] = ()
    log_size = 0
    with contextlib.suppress(OSError):  # the log lies on another machine, or was removed
        if attempts:
            log, log_size = tail(source.log(attempts[-1]))
    plan = store.get_plan(record.plan)
    defaults = left_out(plan, record)
    has_tree = extent.of_sweeps or not record.sweep
    branches, more = _BranchReader(source, extent).below(record.id) if has_tree else ((), 0)
    outputs = store.outputs(record.id, record.attempt)
    return replace(
        known,
        params=(*known.params, *(parameter(*item, is_default=True) for item in defaults.items())),
        outputs=tuple(map(output, outputs)),
        series=tuple(_series(source, record, name) for name in names[: extent.series]),
        more_series=0 if extent.series is None else max(0, len(names) - extent.series),
        branches=branches,
        more_branches=more,
        attempts=tuple(attempts),
        events=tuple(Event(*event) for event in store.events(record.id)),
        log=log,
        log_size=log_size,
        logs_at={item.attempt: where for item in attempts if (where := source.log(item).where) is not None},
        asked=memory_of_each(plan, attempts),
        artifacts=_folder_of_artifacts(source, record, outputs),
        waits_for=_waits_for(source, record) if record.state is RunState.PENDING and not known.is_abandoned else "",
    )


def _waits_for(source: Source, record: RunRecord) -> str:
    """Return what a pending run waits for: its place's own words, where it has said any."""
    from mlfn.artifacts.nested import parents_of  # a run that has begun waits for nothing

    if record.status or record.queued:
        return cut(clean(record.status or ""), LONGEST_LINE)
    if record.not_before is not None and record.not_before > now():
        return f"its next attempt, at {local_time(record.not_before):%H:%M:%S}"
    for parent in parents_of(record.params):
        with contextlib.suppress(NotFoundError, StoreCorruptError):
            upstream = source.store.get_run(parent)
            if not upstream.state.is_terminal:
                return f"{clean(upstream.name)} ({upstream.id[:8]}), which is {upstream.state.value}"
    return "a worker of its client"


def _folder_of_artifacts(source: Source, record: RunRecord, outputs: Sequence[Output]) -> str | None:
    """Return where the run's own artifacts lie; None where it has none."""
    own = [item.path.split("/")[:-2] for item in outputs if item.path is not None]
    path = next(("/".join(parts) for parts in own if parts[-1:] == [record.id]), None)
    if path is not None:
        return artifact_uri(source.folder, path)
    folder = source.folder / "artifacts" / record.id  # of its parameters alone
    return str(folder) if folder.is_dir() else None


def with_notice(known: RunView, error: Exception) -> RunView:
    """Return what was known before a store could not be read."""
    why = cut(clean(f"{type(error).__name__}: {error}"), LONGEST_LINE)
    return replace(known, notice=f"The store cannot be read, this is what was known before. {why}")


def tail(log: AttemptLog, lines: int = LOG_LINES) -> tuple[tuple[str, ...], int]:
    """Return the last lines of a log as a terminal would show them, and its size; reads only its end."""
    data, size = log.tail(_LOG_BYTES)
    text = data.decode("utf-8", "replace")
    whole = text.rstrip("\n").split("\n")
    if size > _LOG_BYTES and len(whole) > 1:
        whole = whole[1:]  # the first one may have lost its beginning
    return tuple(map(_as_in_terminal, whole[-lines:])) if text else (), size


class _BranchReader:
    """Reads runs below a run, each before those below it, as many as an extent allows."""

    def __init__(self, source: Source, extent: Extent) -> None:
        self._source, self._extent = source, extent
        self._left = extent.total

    def below(self, run: str, generation: int = 1) -> tuple[tuple[Branch, ...], int]:
        """Return the first branches of a run, and how many more there are."""
        if generation > self._extent.generations or self._left <= 0:
            return (), 0
        store, wanted = self._source.store, RunFilter(parent=run)
        most = min(self._extent.branches, self._left)
        children = store.list_runs(wanted, limit=most + 1, newest=False)
        scores = store.scores_among([child.id for child in children]) if children else {}
        found: list[Branch] = []
        for child in children[:most]:
            if self._left <= 0:
                break
            self._left -= 1
            values = tuple(sorted(scores.get(child.id, {}).items()))
            found.append(Branch(brief_view(child, self._source.folder), values, *self.below(child.id, generation + 1)))
        return tuple(found), store.count_runs(wanted) - len(found) if len(found) < len(children) else 0


def _series(source: Source, record: RunRecord, name: str) -> Series:
    count, values = source.store.thinned_series(record.id, record.attempt, name, most=MOST_POINTS)
    return Series(name, count, tuple(values))


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _as_in_terminal(line: str) -> str:
    """Return what stays of a line on which a progress bar was drawn again and again."""
    return clean(cut(line.rstrip("\r").rpartition("\r")[2], LONGEST_LINE))


def flattened(branches: Sequence[Branch], depth: int = 1) -> list[tuple[int, Branch]]:
    """Return branches with their depth, each before those below it."""
    found: list[tuple[int, Branch]] = []
    for branch in branches:
        found += [(depth, branch), *flattened(branch.branches, depth + 1)]
    return found
