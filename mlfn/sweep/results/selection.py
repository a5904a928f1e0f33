"""The best child of a sweep, or its Pareto front."""

from __future__ import annotations

import operator
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence

from mlfn.errors import OptionError, nearest
from mlfn.spec.record import RunState
from mlfn.sweep.conditions.grammar import Selector
from mlfn.sweep.results.child import Child


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


def check_reported(named: Iterable[tuple[str, str]], children: Sequence[Child]) -> None:
    """Raise OptionError for the first (option, metric) whose metric no child reports, though some have succeeded."""
    if not any(child.state is RunState.SUCCEEDED for child in children):
        return
    reported = {name for child in children for name in child.metrics}
    for option, name in named:
        if name not in reported:
            hint = "None reports anything: log it by ctx.log_metric or ctx.log_result, or return it as an output."
            raise OptionError(f"{option}: no child reports {name!r}. {nearest(name, reported) if reported else hint}")


def _eligible(children: list[Child], selectors: Sequence[Selector]) -> list[tuple[tuple[float, ...], Child]]:
    """Return the children that count, each with its numbers turned so that lower is better."""
    check_reported(((f"select={str(selector)!r}", selector.name) for selector in selectors), children)
    signs = [
        -1 if selector.direction == "max" else 1 for selector in selectors
    ]  # whole, as whole numbers stay exact then
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
    seen = _front_in_stairs() if points and len(points[0]) <= 3 else _front_in_list()
    kept: list[int] = []
    last: tuple[float, ...] | None = None
    for index in sorted(range(len(points)), key=points.__getitem__):
        point = points[index]
        if point == last or not seen(point[1:]):
            kept.append(index)
            last = point
    return sorted(kept)


def _front_in_stairs() -> Callable[[tuple[float, ...]], bool]:
    """Return a function of two coordinates or fewer: whether an earlier point is as low in all; it keeps the point if not."""
    xs: list[float] = []  # ascending, and the y of each lower than that of the one before
    ys: list[float] = []

    def seen(point: tuple[float, ...]) -> bool:
        x, y = (*point, 0.0, 0.0)[:2]
        before = bisect_right(xs, x)
        if before and ys[before - 1] <= y:
            return True
        start = stop = bisect_left(xs, x)
        while stop < len(xs) and ys[stop] >= y:
            stop += 1
        xs[start:stop], ys[start:stop] = [x], [y]
        return False

    return seen


def _front_in_list() -> Callable[[tuple[float, ...]], bool]:
    """Return the same of any number of coordinates."""
    front: list[tuple[float, ...]] = []

    def seen(point: tuple[float, ...]) -> bool:
        if any(all(map(operator.le, other, point)) for other in front):
            return True
        front.append(point)
        return False

    return seen
