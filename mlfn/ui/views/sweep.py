"""The view model of a sweep: counts, and a page of its children, however many there are; nothing in it was unpickled.

While it runs, its controller's progress is read, and the few children that are shown. All of them are read once, at its end.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from functools import cached_property
from typing import Any

from mlfn.errors import OptionError
from mlfn.host.frozen import frozen
from mlfn.spec.record import RunRecord, RunState
from mlfn.store.sweeps import ChildRow
from mlfn.sweep.conditions.grammar import Selector, parse_constraint, parse_selector
from mlfn.sweep.results.child import Child
from mlfn.sweep.results.selection import best, pareto
from mlfn.sweep.results.standing import Standing, standing_of
from mlfn.sweep.spec import SweepBody
from mlfn.ui.views import Source
from mlfn.ui.views.run import CARD, MOST_POINTS, Extent, RunView, read_run, with_notice
from mlfn.ui.views.values import Value, in_a_line, parameter
from mlfn.ui.wording import clean, duration, joined, number, pace_text

MOST_ROWS = 10
MOST_ACTIVE = 5
MOST_BRIEF = 8
_FEW = 500  # children whose values are read anew at each refresh
_SPAN = 20.0  # seconds over which the pace is taken
_ENDS = (RunState.SUCCEEDED, RunState.PRUNED, RunState.FAILED, RunState.CANCELLED)


_NOT_READ = SweepBody()


@frozen
class ChildView:
    """A child: its swept parameters, the selected values, all its metrics, and when it ran."""

    iteration: int
    run: str
    state: RunState
    params: tuple[Value, ...]
    values: tuple[float | None, ...] = ()
    started: float | None = None
    ended: float | None = None
    error: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    reused: str | None = None

    @property
    def seconds(self) -> float | None:
        """How long it took."""
        return None if self.started is None or self.ended is None else self.ended - self.started

    def spent(self, taken: float) -> str:
        """Return how long it took, or has taken by `taken`."""
        if self.started is None:
            return ""
        return duration(max(0.0, (self.ended or taken) - self.started), exact=self.ended is not None)


@frozen
class SweepView:
    """A sweep at one moment.

    Parameters
    ----------
    ended: how many children have ended, by state.
    active: how many run.
    best: the number of the best child.
    leaders: the numbers of the best few, the best first, as the controller reports them.
    front: the numbers of those on the Pareto front.
    rows: the best ones, the best first; without a selector, the last ones.
    working: some of those that run.
    children: all of them, in order, where they were read.
    counts: how many children there are, by state, where all of them were read.
    history: the best value so far, as children ended.
    marks: (time, how many had ended), of the last refreshes: the pace.
    """

    run: RunView
    body: SweepBody = _NOT_READ
    ended: Mapping[str, int] = field(default_factory=dict)
    active: int = 0
    stopped: str = ""
    best: int | None = None
    leaders: tuple[int, ...] = ()
    front: tuple[int, ...] = ()
    rows: tuple[ChildView, ...] = ()
    working: tuple[ChildView, ...] = ()
    failed: ChildView | None = None
    children: tuple[ChildView, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    history: tuple[float, ...] = ()
    marks: tuple[tuple[float, int], ...] = ()

    @property
    def state(self) -> RunState:
        """The sweep's state."""
        return self.run.state

    @property
    def notice(self) -> str:
        """What could not be read."""
        return self.run.notice

    @property
    def total(self) -> int | None:
        """How many children it will have, where that is known."""
        return self.body.size

    @cached_property
    def select(self) -> tuple[Selector, ...]:
        """Which values decide."""
        return tuple(map(parse_selector, self.body.select))

    @property
    def shared(self) -> tuple[Value, ...]:
        """The parameters that all children share: a default of what is swept is none of them."""
        swept = {key.partition(".")[0] for key in self.keys}
        return tuple(value for value in self.run.params if not (value.is_default and value.name in swept))

    @property
    def keys(self) -> tuple[str, ...]:
        """The names that are swept, as far as they are known."""
        names = (value.name for child in self.children for value in child.params)
        return self.body.keys or tuple(dict.fromkeys(names))

    @property
    def done(self) -> int:
        """How many children have ended."""
        return sum(self.ended.values())

    @property
    def leader(self) -> ChildView | None:
        """The best child, where it is known and shown."""
        if not self.body.select:
            return None
        return next((child for child in (*self.rows, *self.children) if child.iteration == self.best), None)

    @property
    def pace(self) -> float | None:
        """Children a second, of late."""
        if self.state is RunState.CANCELLED:
            return None  # most of its children were never to end
        if self.state.is_terminal:
            return self.done / self.run.elapsed if self.run.elapsed > 0 and self.done else None
        if len(self.marks) < 2:
            return None
        (since, before), (until, after) = self.marks[0], self.marks[-1]
        return (after - before) / (until - since) if until > since and after > before else None

    @property
    def left(self) -> float | None:
        """Seconds until it is over, at this pace."""
        if self.pace is None or self.total is None or self.state.is_terminal:
            return None
        return max(0.0, (self.total - self.done) / self.pace)

    def page(self, most: int) -> tuple[ChildView, ...]:
        """Return the children of a table of so many rows: the first ones, or the best where there are more."""
        if len(self.children) <= most or self.leader is None:
            return self.children[:most]
        ranked = {child.iteration: child for child in (*self.rows, *self.children)}
        return tuple(ranked.values())[:most]

    def counted(self) -> dict[str, str]:
        """Return the parts of `count_text` by name: `done`, states, `pace`, `left`, `front`."""
        ended = self.ended
        parts = {"done": f"{self.done:,} of {self.total:,}" if self.total is not None else f"{self.done:,}"}
        parts |= {state.value: f"{ended[state.value]:,} {state}" for state in _ENDS[1:] if ended.get(state.value)}
        if self.active:
            parts["running"] = f"{self.active:,} running"
        if self.pace is not None:
            parts["pace"] = pace_text(self.pace)
        if self.left is not None and self.left >= 1:
            parts["left"] = f"about {duration(self.left, exact=False)} left"
        if self.front:
            parts["front"] = f"{len(self.front)} on the Pareto front"
        return parts

    @property
    def count_text(self) -> str:
        """How many children have ended, how, and when the rest will have."""
        done, *others = self.counted().values()
        return joined((f"{done} children", *others))

    @property
    def shares(self) -> list[tuple[RunState, float]]:
        """Each state in which children have ended, with its part of the whole in percent."""
        whole = self.total if self.total is not None else self.done if self.state.is_terminal else None
        return [
            (state, 100 * self.ended[state.value] / whole) for state in _ENDS if whole and self.ended.get(state.value)
        ]

    def values_text(self, child: ChildView) -> str:
        """Return the selected values of a child."""
        return ", ".join(f"{selector.name} = {number(value)}" for selector, value in zip(self.select, child.values))

    @property
    def best_text(self) -> str:
        """The best child so far in one line; empty where there is none."""
        child = self.leader
        if child is None:
            return ""
        return f"best {self.values_text(child)}: child {child.iteration}, {in_a_line(child.params)}"


def read_sweep(source: Source, run: RunView, before: SweepView | None = None) -> SweepView:
    """Return the view of a sweep whose run was read; what has not changed since `before` is kept. Never raises.

    Where the store cannot be read, what was known before is returned.
    """
    known = replace(before, run=run) if before is not None else SweepView(run)
    if run.notice:
        return known
    try:
        reader = _Reader(source, known)
        found = reader.counted()
        return _ended(reader.whole(found)) if run.state.is_terminal else reader.running(found, before)
    except Exception as error:  # noqa: BLE001 - a store can fail in any way; what is known is still shown
        return replace(known, run=with_notice(run, error))


def read_sweep_briefly(source: Source, run: RunView, before: SweepView | None = None) -> SweepView:
    """Return counts, pace and a few children: of the best ones only those are read that were not before."""
    known = replace(before, run=run) if before is not None else SweepView(run)
    if run.notice:
        return known
    try:
        reader = _Reader(source, known)
        found = reader.counted()
        rows, failed = reader.leading(found, before, MOST_BRIEF), reader.failed(found, before)
        return replace(found, rows=rows, working=reader.with_last_values(found.working), failed=failed)
    except Exception:  # noqa: BLE001 - as above
        return known


def read_whole_sweep(source: Source, record: RunRecord, extent: Extent = CARD) -> SweepView:
    """Return the view of a sweep with all its children."""
    reader = _Reader(source, SweepView(read_run(source, record, extent)))
    return reader.whole(reader.counted())


class _Reader:
    """Reads children of one sweep."""

    def __init__(self, source: Source, known: SweepView) -> None:
        self._store = source.store
        self._record = known.run.record
        if known.body is _NOT_READ:
            known = replace(known, body=SweepBody.from_json(source.store.get_sweep_body(self._record.id)))
        self._known, self._body = known, known.body
        self._reported = self._record.progress or {}

    def counted(self) -> SweepView:
        """Return what is known with the controller's report."""
        record, known, reported = self._record, self._known, self._reported
        ended = reported.get("ended")
        if ended is None:
            counts = self._store.child_counts(record.id)
            ended = {state.value: count for state, count in counts.items() if state.is_terminal}
        leader = (reported.get("best") or {}).get("iteration")
        active, rows = 0, list[ChildRow]()
        if not record.state.is_terminal and record.owner is not None:
            active, rows = self._store.running_children(record.id, record.owner, limit=MOST_ACTIVE)
        taken, done = known.run.taken, sum(ended.values())
        marks = [mark for mark in known.marks if taken - mark[0] <= _SPAN]
        if not marks or marks[-1] != (taken, done):
            marks.append((taken, done))
        return replace(
            known,
            ended=ended,
            active=active,
            stopped=clean(str(reported.get("stopped") or "")),
            best=leader,
            # A controller of an earlier version reports the best one alone.
            leaders=tuple(reported.get("leaders") or (() if leader is None else (leader,))),
            working=tuple(map(self._view, rows)),
            marks=tuple(marks),
        )

    def running(self, found: SweepView, before: SweepView | None) -> SweepView:
        """Add the page of a sweep that runs, and how its best value has grown."""
        if before is not None and before.done == found.done:
            return found
        history = found.history
        if found.select:
            first, value = found.select[0], (self._reported.get("best") or {}).get("value")
            if before is None or found.done <= _FEW:
                history = _so_far(self._store.values_by_end(self._record.id, first.name), first)
            elif isinstance(value, (int, float)):
                history = thin((*history, float(value)))
        rows, failed = self.leading(found, before, MOST_ROWS), self.failed(found, before)
        return replace(found, rows=rows, history=history, failed=failed)

    def whole(self, found: SweepView) -> SweepView:
        """Add all children, and which of them are best."""
        store, run = self._store, self._record.id
        rows, scores = store.children(run), store.child_scores(run)
        standing = standing_of(store, self._body).children(rows, scores)
        leader, front = _leading(standing, found.select)
        pairs = zip(rows, standing, strict=True)
        children = tuple(self._view(row, child, scores.get(row.run, {})) for row, child in pairs)
        eligible = {child.run for child in standing if child.numbers is not None and child.is_feasible}
        ranked = [child for child in children if child.run in eligible] if found.select else list(children[::-1])
        if found.select:
            ranked.sort(key=lambda child: (_merit(child.values, found.select[0]), child.iteration))
        in_time = sorted((child for child in children if child.run in eligible), key=lambda child: child.ended or 0.0)
        values = [child.values[0] if child.values and child.values[0] is not None else math.nan for child in in_time]
        return replace(
            found,
            best=leader,
            front=front,
            rows=tuple(ranked),
            children=children,
            counts={state.value: count for state, count in store.child_counts(run).items()},
            history=_so_far(values, found.select[0]) if found.select else (),
        )

    def leading(self, found: SweepView, before: SweepView | None, most: int) -> tuple[ChildView, ...]:
        """Return the best few children, or those that ended last; a child that succeeded stays as it was read."""
        if not found.select:
            if before is not None and before.done == found.done:
                return before.rows
            last = self._store.children(self._record.id, states=_ENDS, last=most)
            return tuple(map(self._view, reversed(last)))
        known = {row.iteration: row for row in (before.rows if before is not None else ())}
        wanted = found.leaders[:most]
        missing = [iteration for iteration in wanted if iteration not in known]
        if missing:
            known |= {row.iteration: row for row in self._rows_at(missing)}
        return tuple(known[iteration] for iteration in wanted if iteration in known)

    def with_last_values(self, rows: tuple[ChildView, ...]) -> tuple[ChildView, ...]:
        """Add what children at work have reported last; a selector that goes by a whole series waits for its end."""
        names = [selector.name if selector.reduce == "last" else "" for selector in self._known.select]  # "" is none
        if not rows or not any(names):
            return rows
        scores = self._store.scores_among([row.run for row in rows])
        return tuple(replace(row, values=tuple(map(scores.get(row.run, {}).get, names))) for row in rows)

    def failed(self, found: SweepView, before: SweepView | None) -> ChildView | None:
        """Return the last child that failed."""
        count = found.ended.get(RunState.FAILED.value)
        if not count:
            return None
        if before is not None and before.failed is not None and before.ended.get(RunState.FAILED.value) == count:
            return before.failed
        rows = self._store.children(self._record.id, states=(RunState.FAILED,), last=1)
        return self._view(rows[0]) if rows else None

    def _rows_at(self, numbers: Sequence[int]) -> list[ChildView]:
        rows = self._store.children_at(self._record.id, numbers)
        # Not by `standing_of`: the series that a pruner goes by is not shown.
        conditions = [parse_constraint(text) for text in self._body.subject_to]
        children = Standing(self._store, self._known.select, conditions).children(rows)
        return [self._view(row, child) for row, child in zip(rows, children, strict=True)]

    def _view(self, row: ChildRow, child: Child | None = None, metrics: Mapping[str, float] | None = None) -> ChildView:
        failure: Mapping[str, Any] = row.failure or {}
        first = str(failure.get("message", "")).partition("\n")[0]
        names = self._body.keys or tuple(row.point)
        return ChildView(
            row.iteration,
            row.run,
            row.state,
            tuple(parameter(name, row.point[name]) for name in names if name in row.point),
            child.selected if child is not None else (),
            row.started,
            row.ended,
            f"{str(failure.get('type', '')).rpartition('.')[2]}: {first}" if failure else "",
            metrics or {},
            row.reused,
        )


def _ended(found: SweepView) -> SweepView:
    """Return a sweep that is over, with its counts as its children have them."""
    ended = Counter(child.state.value for child in found.children)
    failed = next((child for child in reversed(found.children) if child.state is RunState.FAILED), None)
    return replace(found, ended=ended, rows=found.rows[:MOST_ROWS], working=(), active=0, failed=failed)


def _leading(children: Sequence[Child], select: Sequence[Selector]) -> tuple[int | None, tuple[int, ...]]:
    """Return the number of the best child, and those on the front of several selectors."""
    if not select:
        return None, ()
    try:
        leader = best(children, select)
    except OptionError:  # no child reports the metric: the sweep's own error names it
        return None, ()
    front = pareto(children, select) if len(select) > 1 else []
    return None if leader is None else leader.iteration, tuple(child.iteration for child in front)


def _merit(values: Sequence[float | None], selector: Selector) -> float:
    value = values[0] if values else None
    if value is None or not math.isfinite(value):
        return math.inf
    return -value if selector.direction == "max" else value


def _so_far(values: Sequence[float], selector: Selector) -> tuple[float, ...]:
    found: list[float] = []
    for value in values:
        if math.isfinite(value):
            found.append(value if not found or selector.is_better(value, found[-1]) else found[-1])
    return thin(found)


def thin(values: Sequence[float]) -> tuple[float, ...]:
    """Return as many values as can be seen, the first and the last among them."""
    if len(values) <= MOST_POINTS:
        return tuple(values)
    return tuple(values[round(at * (len(values) - 1) / (MOST_POINTS - 1))] for at in range(MOST_POINTS))
