"""What a sweep's children came to, as the store has it."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlfn.spec.record import RunState
from mlfn.store.families import ChildRow
from mlfn.store.sql import SqlStore
from mlfn.sweep.body import SweepBody
from mlfn.sweep.child import Child
from mlfn.sweep.condition import Condition
from mlfn.sweep.grammar import Selector, parse_condition, parse_constraint, parse_selector
from mlfn.sweep.strategy import Told

Scores = Mapping[str, Mapping[str, float]]


class Standing:
    """Reads children together with the numbers that decide.

    `series` names a metric whose points are wanted too, `more` metrics on which something else depends. Where nothing
    does, no numbers are read.
    """

    def __init__(
        self,
        store: SqlStore,
        selectors: Sequence[Selector],
        subject_to: Sequence[Condition] = (),
        *,
        series: str | None = None,
        more: Iterable[str] = (),
    ) -> None:
        self._store = store
        self.selectors = tuple(selectors)
        self._subject_to = tuple(subject_to)
        self._series = series
        conditions = (name for condition in self._subject_to for name in condition.names())
        self._names = frozenset((*(selector.name for selector in self.selectors), *conditions, *more))

    def ended(self, items: Sequence[tuple[str, int, RunState]]) -> list[Child]:
        """Return children of which (run, iteration, state) is known."""
        runs = [run for run, _, _ in items]
        scores = self._store.scores_among(runs) if self._names else {}
        return self._made(items, scores)

    def children(self, rows: Sequence[ChildRow], scores: Scores | None = None) -> list[Child]:
        """Return children by their rows."""
        items = [(row.run, row.iteration, row.state) for row in rows]
        if scores is None:
            scores = self._store.scores_among([row.run for row in rows]) if self._names else {}
        return self._made(items, scores)

    def _made(self, items: Sequence[tuple[str, int, RunState]], scores: Scores) -> list[Child]:
        if not self._names:
            return [Child(iteration, run, state) for run, iteration, state in items]
        runs = [run for run, _, _ in items]
        reduced = {
            selector: self._store.extremes_among(runs, selector.name)
            for selector in self.selectors
            if selector.reduce != "last"
        }
        logged = self._store.constraints_among(runs)
        numberless = self._numberless(items, scores)
        series = self._store.series_among(runs, self._series) if self._series is not None else {}
        made: list[Child] = []
        for run, iteration, state in items:
            own = {**numberless.get(run, {}), **scores.get(run, {})}
            asked = {str(condition): _bounded(condition.violation(own)) for condition in self._subject_to}
            limited = {name: _bounded(value) for name, value in logged.get(run, {}).items()}
            selected = tuple(
                _selected(selector, own, reduced.get(selector, {}).get(run)) for selector in self.selectors
            )
            points = _numbered(series.get(run, ()))
            made.append(Child(iteration, run, state, own, selected, {**limited, **asked}, points))
        return made

    def _numberless(self, items: Sequence[tuple[str, int, RunState]], scores: Scores) -> Scores:
        """Return as NaN what decides and was reported, but never as a number."""
        lacking = [
            run
            for run, _, state in items
            if state is RunState.SUCCEEDED and not self._names <= scores.get(run, {}).keys()
        ]
        found = self._store.reported_among(lacking, self._names)
        return {run: dict.fromkeys(names, math.nan) for run, names in found.items()}


def standing_of(store: SqlStore, body: SweepBody) -> Standing:
    """Return how the children of a sweep are read."""
    return Standing(
        store,
        [parse_selector(text) for text in body.select],
        [parse_constraint(text) for text in body.subject_to],
        series=body.judged,
        more=parse_condition(body.stop_when).names() if body.stop_when is not None else (),
    )


def deciding(body: SweepBody) -> list[tuple[str, str]]:
    """Return the metrics on which something depends, each behind the option that names it."""
    found = [(f"select={text!r}", parse_selector(text).name) for text in body.select]
    found += [
        (f"subject_to={text!r}", name) for text in body.subject_to for name in sorted(parse_constraint(text).names())
    ]
    if body.stop_when is not None:
        found += [(f"stop_when={body.stop_when!r}", name) for name in sorted(parse_condition(body.stop_when).names())]
    return found


def told(child: Child, point: Mapping[str, Any]) -> Told:
    """Return what a strategy is told of a child."""
    state = child.state if child.state.is_terminal else RunState.RUNNING
    return Told(child.iteration, point, state, child.numbers, child.series, child.constraints)


def _selected(selector: Selector, scores: Mapping[str, float], extremes: tuple[float, float] | None) -> float | None:
    if selector.reduce == "last" or extremes is None:
        return scores.get(selector.name)
    way = selector.direction if selector.reduce == "best" else selector.reduce
    return extremes[1] if way == "max" else extremes[0]


def _bounded(violation: float) -> float:
    """Return a number that a search can reckon with: a metric that is missing violates without bounds."""
    return max(-sys.float_info.max, min(violation, sys.float_info.max))


def _numbered(points: Iterable[tuple[int | None, float]]) -> tuple[tuple[int, float], ...]:
    return tuple((step if step is not None else index, value) for index, (step, value) in enumerate(points))
