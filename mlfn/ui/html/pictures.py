"""A sweep that is over as parallel coordinates."""

from __future__ import annotations

from typing import Any

from mlfn.sweep.results.parallel_coordinates import Picture, draw
from mlfn.sweep.results.table import Table
from mlfn.ui.views.sweep import SweepView
from mlfn.ui.views.values import decoded

_LINES = 200
_TAKEN = ("iteration", "state")


def picture(sweep: SweepView) -> Picture | None:
    """Return a sweep that is over as parallel coordinates; None where there is nothing to draw."""
    if not sweep.state.is_terminal or not sweep.children:
        return None
    names = list(dict.fromkeys(name for child in sweep.children for name in sorted(child.metrics)))
    taken = {*sweep.keys, *_TAKEN}
    results = {f"result.{name}" if name in taken else name: name for name in names}
    points = [{value.name: decoded(value.stored) for value in child.params} for child in sweep.children]
    columns: dict[str, list[Any]] = {
        "iteration": [child.iteration for child in sweep.children],
        "state": [child.state.value for child in sweep.children],
        **{key: [point.get(key) for point in points] for key in sweep.keys},
        **{column: [child.metrics.get(name) for child in sweep.children] for column, name in results.items()},
    }
    return draw(Table(columns, sweep.keys, tuple(results)), sweep.body.select, sweep.best, most=_LINES)
