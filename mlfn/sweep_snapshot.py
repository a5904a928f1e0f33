"""A sweep at one moment: counts and a page of its children, however many there are; nothing in it was unpickled.

While it runs, what its driver says of it is read, and the few children that are shown. All of them are read once, when it is over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mlfn.packers import tagged
from mlfn.snapshot import MOST_POINTS, Item, Snapshot, clean, look, look_briefly, parameter
from mlfn.spec.record import RunState
from mlfn.store.families import ChildRow
from mlfn.sweep.child import Child
from mlfn.sweep.grammar import Selector
from mlfn.sweep.picture import Picture, draw
from mlfn.sweep.selection import best, pareto
from mlfn.sweep.standing import Standing, standing_of
from mlfn.sweep.sweep_run import SweepRun
from mlfn.sweep.table import make_table

MOST_ROWS = 10
MOST_ACTIVE = 5
MOST_GLANCED = 8
_LINES = 200  # of the picture in a card
_FEW = 500  # children whose values are read anew at each look
_SPAN = 20.0  # seconds over which the pace is taken


@dataclass(frozen=True)
class Row:
    """A child: its swept parameters, the selected values, and when it ran."""

    iteration: int
    run: str
    state: RunState
    params: tuple[Item, ...]
    values: tuple[float | None, ...] = ()
    started: float | None = None
    ended: float | None = None
    error: str = ""


@dataclass(frozen=True)
class SweepSnapshot:
    """A sweep at one moment.

    Parameters
    ----------
    ended: how many children have ended, by state.
    active: how many run.
    rows: the best ones, the best first; without a selector, the last ones.
    working: some of those that run.
    best: the number of the best child.
    leaders: the numbers of the best few, the best first, as the driver says.
    history: the best value so far, as children ended.
    marks: (time, how many had ended), of the last looks: the pace.
    """

    run: Snapshot
    keys: tuple[str, ...] = ()
    select: tuple[Selector, ...] = ()
    total: int | None = None
    ended: Mapping[str, int] = field(default_factory=dict)
    active: int = 0
    stopped: str = ""
    best: int | None = None
    leaders: tuple[int, ...] = ()
    front: int = 0
    rows: tuple[Row, ...] = ()
    working: tuple[Row, ...] = ()
    failed: Row | None = None
    history: tuple[float, ...] = ()
    marks: tuple[tuple[float, int], ...] = ()
    picture: Picture | None = None

    @property
    def id(self) -> str:
        """The sweep's id."""
        return self.run.id

    @property
    def name(self) -> str:
        """The function's name."""
        return self.run.name

    @property
    def state(self) -> RunState:
        """The sweep's state."""
        return self.run.state

    @property
    def notice(self) -> str:
        """What could not be read."""
        return self.run.notice

    @property
    def done(self) -> int:
        """How many children have ended."""
        return sum(self.ended.values())

    @property
    def pace(self) -> float | None:
        """Children a second, of late."""
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


def look_at_sweep(sweep: SweepRun[Any], before: SweepSnapshot | None = None) -> SweepSnapshot:
    """Return what the store says about a sweep; `before` is the last look, from which what has not changed is kept.

    Never raises: where the store cannot be read, what was known before is returned.
    """
    run = look(sweep)
    known = replace(before, run=run) if before is not None else SweepSnapshot(run)
    if run.notice:
        return known
    try:
        run = _without_swept(run, sweep._body.keys)
        known = replace(known, run=run)
        counted = _counted(sweep, known)
        return _over(sweep, counted) if run.state.is_terminal else _running(sweep, counted, before)
    except Exception as error:  # noqa: BLE001 - a store can be gone in any way; a repr still shows what it has
        said = clean(f"{type(error).__name__}: {error}")[:300]
        return replace(
            known, run=replace(run, notice=f"The store cannot be read, this is what was known before. {said}")
        )


def glance(sweep: SweepRun[Any], before: SweepSnapshot | None = None) -> SweepSnapshot:
    """Return counts, pace and a few children: of the best ones only those are read that were not before."""
    run = look_briefly(sweep)
    known = replace(before, run=run) if before is not None else SweepSnapshot(run)
    if run.notice:
        return known
    try:
        found = _counted(sweep, known)
        return replace(
            found,
            rows=_glanced(sweep, found, before),
            working=_with_last_values(sweep, found.working),
            failed=_last_failed(sweep, found, before),
        )
    except Exception:  # noqa: BLE001 - as above
        return known


def _without_swept(run: Snapshot, keys: Sequence[str]) -> Snapshot:
    """Leave out the defaults of what is swept: no child has them."""
    swept = {clean(key.partition(".")[0]) for key in keys}
    return replace(run, params=tuple(item for item in run.params if not (item.is_default and item.name in swept)))


def _counted(sweep: SweepRun[Any], known: SweepSnapshot) -> SweepSnapshot:
    """Take over what the driver says."""
    said = sweep._record.progress or {}
    store, record, body = sweep._client.store, sweep._record, sweep._body
    ended = said.get("ended")
    if ended is None:
        ended = {state.value: count for state, count in store.child_counts(record.id).items() if state.is_terminal}
    found = replace(
        known,
        keys=tuple(map(clean, body.keys)),
        select=sweep._selectors,
        total=body.size,
        ended=ended,
        stopped=clean(str(said.get("stopped") or "")),
        best=(said.get("best") or {}).get("iteration"),
        leaders=_leaders(said),
        working=(),
    )
    active = 0
    if not found.state.is_terminal and record.owner is not None:
        active, rows = store.children_at_work(record.id, record.owner, limit=MOST_ACTIVE)
        found = replace(found, working=tuple(_row(row, found.keys) for row in rows))
    marks = [mark for mark in known.marks if found.run.taken - mark[0] <= _SPAN]
    if not marks or marks[-1] != (found.run.taken, found.done):
        marks.append((found.run.taken, found.done))
    return replace(found, active=active, marks=tuple(marks))


def _leaders(said: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the numbers of the best children; a driver of an earlier version names the best one alone."""
    best = (said.get("best") or {}).get("iteration")
    return tuple(said.get("leaders") or (() if best is None else (best,)))


def _glanced(sweep: SweepRun[Any], found: SweepSnapshot, before: SweepSnapshot | None) -> tuple[Row, ...]:
    """Return the best few children, or those that ended last; a child that succeeded stays as it was read."""
    if not found.select:
        return _last_rows(sweep, found, MOST_GLANCED) if before is None or before.done != found.done else before.rows
    known = {row.iteration: row for row in (before.rows if before is not None else ())}
    wanted = found.leaders[:MOST_GLANCED]
    missing = [number for number in wanted if number not in known]
    if missing:
        known |= {row.iteration: row for row in _rows_at(sweep, missing)}
    return tuple(known[number] for number in wanted if number in known)


def _with_last_values(sweep: SweepRun[Any], rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """Add what children at work have reported last; a selector that goes by a whole series waits for its end."""
    selectors = sweep._selectors
    if not rows or all(selector.reduce != "last" for selector in selectors):
        return rows
    scores = sweep._client.store.scores_among([row.run for row in rows])
    return tuple(
        replace(
            row,
            values=tuple(
                scores.get(row.run, {}).get(selector.name) if selector.reduce == "last" else None
                for selector in selectors
            ),
        )
        for row in rows
    )


def _running(sweep: SweepRun[Any], found: SweepSnapshot, before: SweepSnapshot | None) -> SweepSnapshot:
    if before is not None and before.done == found.done:
        return found
    history = found.history
    if found.select:
        first, value = found.select[0], _best_value(sweep)
        if before is None or found.done <= _FEW:
            history = _so_far(sweep._client.store.values_as_ended(sweep.id, first.name), first)
        elif value is not None:
            history = (*history, value)
        history = thin(history)
    return replace(found, rows=_page(sweep, found), history=history, failed=_last_failed(sweep, found, before))


def _page(sweep: SweepRun[Any], found: SweepSnapshot) -> tuple[Row, ...]:
    """Return the best children; without a selector, those that ended last."""
    store = sweep._client.store
    if not found.select:
        return _last_rows(sweep, found, MOST_ROWS)
    first = found.select[0]
    if len(found.leaders) > 1:
        return tuple(_rows_at(sweep, found.leaders[:MOST_ROWS]))
    numbers = store.best_children(sweep.id, first.name, highest=first.direction == "max", limit=MOST_ROWS)
    if found.best is not None:  # which the driver knows by all that counts
        numbers = [found.best, *(number for number in numbers if number != found.best)][:MOST_ROWS]
    rows = _rows_at(sweep, numbers)
    if first.reduce != "last" or sweep._subject_to:
        rows = sorted(rows, key=lambda row: (row.iteration != found.best, _merit(row.values[:1], first)))
    return tuple(rows)


def _last_rows(sweep: SweepRun[Any], found: SweepSnapshot, most: int) -> tuple[Row, ...]:
    over = [state for state in RunState if state.is_terminal]
    rows = sweep._client.store.children(sweep.id, states=over, last=most)
    return tuple(_row(row, found.keys) for row in reversed(rows))


def _rows_at(sweep: SweepRun[Any], numbers: Sequence[int]) -> list[Row]:
    rows = sweep._client.store.children_at(sweep.id, numbers)
    # Not by `standing_of`: the series that a pruner goes by is not shown.
    children = Standing(sweep._client.store, sweep._selectors, sweep._subject_to).children(rows)
    return [_row(row, sweep._body.keys, child) for row, child in zip(rows, children, strict=True)]


def _over(sweep: SweepRun[Any], found: SweepSnapshot) -> SweepSnapshot:
    """Read all children, once."""
    store, body = sweep._client.store, sweep._body
    rows = store.children(sweep.id)
    scores = store.family_scores(sweep.id)
    ended: dict[str, int] = {}
    for row in rows:
        ended[row.state.value] = ended.get(row.state.value, 0) + 1
    found = replace(
        found, ended=ended, working=(), active=0, failed=_last_failed(sweep, replace(found, ended=ended), None)
    )
    if not found.select:
        shown = tuple(_row(row, found.keys) for row in rows[: -MOST_ROWS - 1 : -1])
        return replace(found, rows=shown, picture=_picture(rows, scores, sweep, None))
    first = found.select[0]
    children = standing_of(store, body).children(rows, scores)
    pairs = [pair for pair in zip(rows, children, strict=True) if pair[1].numbers is not None and pair[1].is_feasible]
    try:
        leader = best(children, found.select)
        front = pareto(children, found.select) if len(found.select) > 1 else ()
    except Exception:  # noqa: BLE001 - a metric that no child reports: the sweep has failed with that
        leader, front = None, ()
    in_time = sorted(pairs, key=lambda pair: pair[0].ended or 0.0)
    pairs.sort(key=lambda pair: (_merit(pair[1].numbers or (), first), pair[0].iteration))
    return replace(
        found,
        best=leader.iteration if leader is not None else None,
        front=len(front),
        rows=tuple(_row(row, found.keys, child) for row, child in pairs[:MOST_ROWS]),
        history=thin(_so_far([(child.numbers or (math.nan,))[0] for _, child in in_time], first)),
        picture=_picture(rows, scores, sweep, leader.iteration if leader is not None else None),
    )


def _picture(
    rows: Sequence[ChildRow], scores: Mapping[str, Mapping[str, float]], sweep: SweepRun[Any], best: int | None
) -> Picture | None:
    table = make_table(rows, scores, _readable, sweep._body.keys)
    return draw(table, sweep._body.select, best, most=_LINES)


def _readable(encoded: Mapping[str, Any]) -> Any:
    """Return a plain value, or words for another one, which would have to be unpickled."""
    if encoded.get("packer") == "json" and "inline" in encoded:
        try:
            return tagged.decode(encoded["inline"])
        except Exception:  # noqa: BLE001 - whatever a row holds, the others are still to be shown
            return "(cannot be read)"
    return parameter("", encoded).text


def _last_failed(sweep: SweepRun[Any], found: SweepSnapshot, before: SweepSnapshot | None) -> Row | None:
    count = found.ended.get(RunState.FAILED.value)
    if not count:
        return None
    if before is not None and before.failed is not None and before.ended.get(RunState.FAILED.value) == count:
        return before.failed
    rows = sweep._client.store.children(sweep.id, states=(RunState.FAILED,), last=1)
    return _row(rows[0], found.keys) if rows else None


def _row(row: ChildRow, keys: Sequence[str], child: Child | None = None) -> Row:
    failure = row.failure or {}
    error = f"{str(failure.get('type', '')).rpartition('.')[2]}: {failure.get('message', '')}" if failure else ""
    names = keys or tuple(row.point)
    return Row(
        row.iteration,
        row.run,
        row.state,
        tuple(parameter(name, row.point[name]) for name in names if name in row.point),
        child.selected if child is not None else (),
        row.started,
        row.ended,
        clean(error.partition("\n")[0])[:300],
    )


def _best_value(sweep: SweepRun[Any]) -> float | None:
    value = ((sweep._record.progress or {}).get("best") or {}).get("value")
    return float(value) if isinstance(value, (int, float)) else None


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
