"""Reads the results of a sweep's children from the store."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlfn.spec.record import RunState
from mlfn.store.sweeps import ChildRow, Reader
from mlfn.sweep.conditions.grammar import Selector, parse_condition, parse_constraint, parse_constraints, parse_selector
from mlfn.sweep.conditions.tree import Condition
from mlfn.sweep.results.child import Child
from mlfn.sweep.spec import SweepBody
from mlfn.sweep.strategy import Told

_EXACT = 2.0**53  # up to here a float holds every whole number
Scores = Mapping[str, Mapping[str, float]]


class Standing:
    """Reads children together with the numbers by which they are compared.

    `series` names a metric whose points are read too, `more` further metrics that an option uses. Without any name, no
    numbers are read.
    """

    def __init__(
        self,
        store: Reader,
        selectors: Sequence[Selector],
        subject_to: Sequence[Condition] = (),
        *,
        series: str | None = None,
        more: Iterable[str] = (),
    ) -> None:
        self._store = store
        self.selectors = tuple(selectors)
        self.subject_to = tuple(subject_to)
        self._series = series
        conditions = (name for condition in self.subject_to for name in condition.names())
        self._names = frozenset((*(selector.name for selector in self.selectors), *conditions, *more))

    def children(self, rows: Sequence[ChildRow | Child], scores: Scores | None = None) -> list[Child]:
        """Return the children of these rows, or the same children with their numbers; `scores` are read unless given."""
        if not self._names:
            return [Child(row.iteration, row.run, row.state) for row in rows]
        runs = [row.run for row in rows]
        scores = self._store.scores_among(runs) if scores is None else scores
        reduced = {
            selector: self._store.extremes_among(runs, selector.name)
            for selector in self.selectors
            if selector.reduce != "last"
        }
        logged = self._store.constraints_among(runs)
        whole = self._beyond_floats(scores)
        nan = self._reported_as_nan(rows, scores)
        series = self._store.series_among(runs, self._series) if self._series is not None else {}
        children: list[Child] = []
        for row in rows:
            run = row.run
            own = {**nan.get(run, {}), **scores.get(run, {}), **whole.get(run, {})}
            constraints = {name: _bounded(value) for name, value in logged.get(run, {}).items()}
            constraints |= {str(condition): _bounded(condition.violation(own)) for condition in self.subject_to}
            selected = tuple(_selected(one, own, reduced.get(one, {}).get(run)) for one in self.selectors)
            points = _numbered(series.get(run, ()))
            children.append(Child(row.iteration, run, row.state, own, selected, constraints, points))
        return children

    def _beyond_floats(self, scores: Scores) -> Mapping[str, Mapping[str, int]]:
        """Return the whole numbers among the outputs that scores, which are floats, have rounded."""
        found: dict[str, dict[str, int]] = {}
        for name in self._names:
            rounded = [run for run, own in scores.items() if _EXACT <= abs(own.get(name, 0.0)) < math.inf]
            for run, value in self._store.whole_numbers_among(rounded, name).items() if rounded else ():
                found.setdefault(run, {})[name] = value
        return found

    def _reported_as_nan(self, rows: Sequence[ChildRow | Child], scores: Scores) -> Scores:
        """Return as NaN the metrics that options use and a child reported, but never as a number."""
        succeeded = [row.run for row in rows if row.state is RunState.SUCCEEDED]
        lacking = [run for run in succeeded if not self._names <= scores.get(run, {}).keys()]
        found = self._store.reported_among(lacking, self._names)
        return {run: dict.fromkeys(names, math.nan) for run, names in found.items()}


def standing_of(store: Reader, body: SweepBody) -> Standing:
    """Return how the children of a sweep are read."""
    return Standing(
        store,
        [parse_selector(text) for text in body.select],
        parse_constraints(body.subject_to),
        series=body.judged,
        more=[name for _, name in deciding(body)],
    )


def deciding(body: SweepBody) -> list[tuple[str, str]]:
    """Return (option, metric) of each metric that an option uses."""
    found = [(f"select={text!r}", parse_selector(text).name) for text in body.select]
    found += [
        (f"subject_to={text!r}", name) for text in body.subject_to for name in sorted(parse_constraint(text).names())
    ]
    if body.stop_when is not None:
        found += [(f"stop_when={body.stop_when!r}", name) for name in sorted(parse_condition(body.stop_when).names())]
    return found


def report_of(child: Child, point: Mapping[str, Any]) -> Told:
    """Return the report of a child for a strategy."""
    state = child.state if child.state.is_terminal else RunState.RUNNING
    return Told(child.iteration, point, state, child.numbers, child.series, child.constraints)


def _selected(selector: Selector, scores: Mapping[str, float], extremes: tuple[float, float] | None) -> float | None:
    if selector.reduce == "last" or extremes is None:
        return scores.get(selector.name)
    way = selector.direction if selector.reduce == "best" else selector.reduce
    return extremes[1] if way == "max" else extremes[0]


def _bounded(violation: float) -> float:
    """Return a finite number, as a search needs: a missing metric violates without bounds."""
    return max(-sys.float_info.max, min(violation, sys.float_info.max))


def _numbered(points: Iterable[tuple[int | None, float]]) -> tuple[tuple[int, float], ...]:
    return tuple((step if step is not None else index, value) for index, (step, value) in enumerate(points))
