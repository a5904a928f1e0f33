"""Which child of a sweep won: the best one, or those that no other beats in every respect."""

from __future__ import annotations

import math
import operator
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence

from mlfn.errors import OptionError, nearest
from mlfn.spec.record import RunState
from mlfn.sweep.child import Child
from mlfn.sweep.grammar import Selector


def best(children: Iterable[Child], selectors: Sequence[Selector]) -> Child | None:
    """Return the child whose first selected number is best, of equals the one with the lowest number; None if none can be.

    Only children that succeeded, are feasible and have finite numbers count: pruned ones do not, as in Optuna. Raises
    OptionError for a metric that no child reports.
    """
    ranked = _eligible(list(children), selectors)
    return min(ranked, key=lambda item: (item[0][0], item[1].iteration), default=(None, None))[1]


def pareto(children: Iterable[Child], selectors: Sequence[Selector]) -> tuple[Child, ...]:
    """Return the children that no other beats, by iteration: none is as good in every number and better in one.

    The same children count as for `best`; of those with equal numbers all are kept.
    """
    ranked = _eligible(list(children), selectors)
    front = [ranked[index][1] for index in non_dominated([point for point, _ in ranked])]
    return tuple(sorted(front, key=lambda child: child.iteration))


def check_reported(named: Iterable[tuple[str, str]], children: Iterable[Child]) -> None:
    """Raise OptionError for the first (option, metric) whose metric no child reports, though some have succeeded."""
    everyone = list(children)
    if any(child.state is RunState.SUCCEEDED for child in everyone):
        reported = {name for child in everyone for name in child.metrics}
        for option, name in named:
            if name not in reported:
                raise OptionError(
                    f"{option}: no child reports {name!r}. "
                    + (
                        nearest(name, reported)
                        if reported
                        else "None reports anything: log it by ctx.log_metric or ctx.log_result, or return it as an output."
                    )
                )


def _eligible(children: list[Child], selectors: Sequence[Selector]) -> list[tuple[tuple[float, ...], Child]]:
    """Return the children that count, each with its numbers turned so that lower is better."""
    check_reported(((f"select={str(selector)!r}", selector.name) for selector in selectors), children)
    signs = [-1.0 if selector.direction == "max" else 1.0 for selector in selectors]
    return [
        (tuple(sign * number for sign, number in zip(signs, numbers, strict=True)), child)
        for child in children
        if child.is_feasible and (numbers := child.numbers) is not None
    ]


def non_dominated(points: Sequence[tuple[float, ...]]) -> list[int]:
    """Return the indexes of the points that no other dominates, where lower is better in each coordinate.

    In order of the points, a point is dominated just if an earlier, different one is as low in all coordinates but the
    first. Two and three coordinates take O(n log n) comparisons, more of them O(n * size of the front).
    """
    if not points:
        return []
    seen = _front_of(len(points[0]) - 1)
    kept: list[int] = []
    last: tuple[float, ...] | None = None
    for index in sorted(range(len(points)), key=points.__getitem__):
        point = points[index]
        if point == last or not seen(point[1:]):
            kept.append(index)
            last = point
    return sorted(kept)


def _front_of(coordinates: int) -> Callable[[tuple[float, ...]], bool]:
    """Return a function that says whether an earlier point is as low everywhere, and keeps the point if not."""
    return (_seen_any, _seen_lower, _seen_in_stairs)[coordinates]() if coordinates < 3 else _seen_in_list()


def _seen_any() -> Callable[[tuple[float, ...]], bool]:
    front: list[tuple[float, ...]] = []

    def seen(point: tuple[float, ...]) -> bool:
        front.append(point)
        return len(front) > 1

    return seen


def _seen_lower() -> Callable[[tuple[float, ...]], bool]:
    lowest = math.inf

    def seen(point: tuple[float, ...]) -> bool:
        nonlocal lowest
        is_seen = lowest <= point[0]
        lowest = min(lowest, point[0])
        return is_seen

    return seen


def _seen_in_stairs() -> Callable[[tuple[float, ...]], bool]:
    xs: list[float] = []  # ascending, and the y of each lower than that of the one before
    ys: list[float] = []

    def seen(point: tuple[float, ...]) -> bool:
        x, y = point
        before = bisect_right(xs, x)
        if before and ys[before - 1] <= y:
            return True
        start = stop = bisect_left(xs, x)
        while stop < len(xs) and ys[stop] >= y:
            stop += 1
        xs[start:stop], ys[start:stop] = [x], [y]
        return False

    return seen


def _seen_in_list() -> Callable[[tuple[float, ...]], bool]:
    front: list[tuple[float, ...]] = []

    def seen(point: tuple[float, ...]) -> bool:
        if any(all(map(operator.le, other, point)) for other in front):
            return True
        front.append(point)
        return False

    return seen
