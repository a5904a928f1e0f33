"""The result of one child of a sweep, as far as choosing among children needs it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field

from mlfn.host.frozen import frozen
from mlfn.spec.record import RunState


@frozen
class Child:
    """The result of one child: `metrics` by name, the number that counts for each selector in `selected`."""

    iteration: int
    run: str
    state: RunState
    metrics: Mapping[str, float] = field(default_factory=dict)
    selected: tuple[float | None, ...] = ()
    constraints: Mapping[str, float] = field(default_factory=dict)
    series: tuple[tuple[int, float], ...] = ()

    @property
    def numbers(self) -> tuple[float, ...] | None:
        """The finite number of each selector; None unless it succeeded and has them all."""
        numbers = tuple(value for value in self.selected if value is not None and math.isfinite(value))
        complete = self.state is RunState.SUCCEEDED and len(numbers) == len(self.selected) > 0
        return numbers if complete else None

    @property
    def is_feasible(self) -> bool:
        """Whether it violates no constraint."""
        return all(value <= 0 for value in self.constraints.values())
