"""CMA-ES as a function of the children that succeeded, in the order of their numbers."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlfn.sweep.optuna.axes import Axis

if TYPE_CHECKING:
    import numpy as np
    from cmaes import CMA
    from optuna.trial import FrozenTrial

_KEPT = 32  # states of the past, for a child that ends late


class Evolution:
    """What Optuna's CmaEsSampler does, but with nothing kept on the trials.

    There, each trial has a pickle of the optimizer's state, which a resumed sweep has lost (and which nobody should
    load from a store). Here a generation is so many children that succeeded, in the order of their numbers; one that
    ends late sets back the state to before it.
    """

    def __init__(self, axes: tuple[Axis, ...], *, maximize: bool) -> None:
        self._scales = [Scale(axis) for axis in axes]
        self._sign = -1.0 if maximize else 1.0
        self._states: dict[int, tuple[list[int], CMA]] = {0: ([], self._start())}

    def suggest(self, trials: list[FrozenTrial], seed: int) -> dict[str, float]:
        """Return the next point, given those completed."""
        if not trials:
            return {}
        optimizer = self._after(trials)
        optimizer.reseed_rng(seed)
        point = optimizer.ask()
        return {scale.key: scale.from_unit(float(u)) for scale, u in zip(self._scales, point)}

    def _after(self, trials: list[FrozenTrial]) -> CMA:
        size = self._states[0][1].population_size
        generations = len(trials) // size
        numbers = [trial.number for trial in trials]
        known = self._last_known(numbers, size, generations)
        for generation in range(known, generations):
            optimizer = copy.deepcopy(self._states[generation][1])
            born = trials[generation * size : (generation + 1) * size]
            optimizer.tell([(self._point(trial), self._loss(trial)) for trial in born])
            self._states[generation + 1] = (numbers[: (generation + 1) * size], optimizer)
            if generation + 1 > _KEPT:
                self._states.pop(generation + 1 - _KEPT, None)
        return self._states[generations][1]

    def _last_known(self, numbers: list[int], size: int, generations: int) -> int:
        for generation in sorted(self._states, reverse=True):
            if generation <= generations and self._states[generation][0] == numbers[: generation * size]:
                return generation
            if generation:
                del self._states[generation]
        raise AssertionError("the state before the first generation is always known")

    def _start(self) -> CMA:
        import cmaes
        import numpy as np

        dimensions = len(self._scales)
        # The middle, with Optuna's width and patience.
        return cmaes.CMA(
            mean=np.full(dimensions, 0.5),
            sigma=1 / 6,
            bounds=np.array([[0.0, 1.0]] * dimensions),
            n_max_resampling=10 * dimensions,
            seed=0,
        )

    def _point(self, trial: FrozenTrial) -> np.ndarray[Any, Any]:
        import numpy as np

        return np.array([scale.to_unit(trial.params[scale.key]) for scale in self._scales])

    def _loss(self, trial: FrozenTrial) -> float:
        value: float = trial.values[0]
        return self._sign * value


def searchable(axes: Mapping[str, Axis]) -> tuple[Axis, ...]:
    """Return those on which a distance makes sense: no bare choices, no conditions."""
    return tuple(axis for axis in axes.values() if axis.ordered and not axis.space.conditions and not axis.single)


class Scale:
    """An axis laid on the unit interval; a whole number has a width there."""

    def __init__(self, axis: Axis) -> None:
        distribution: Any = axis.distribution
        self.key = axis.key
        self._low, self._high, self._log = distribution.low, distribution.high, distribution.log
        self._whole = isinstance(distribution.low, int)
        half = 0.5 if self._whole else 0.0
        self._start = self._straight(self._low - half)
        self._width = self._straight(self._high + half) - self._start

    def to_unit(self, coded: float) -> float:
        """Return the place of a coded value between 0 and 1."""
        return (self._straight(coded) - self._start) / self._width

    def from_unit(self, u: float) -> float:
        """Return the coded value at that place."""
        raw = self._start + u * self._width
        value = math.exp(raw) if self._log else raw
        within: float = min(max(math.floor(value + 0.5) if self._whole else value, self._low), self._high)
        return within

    def _straight(self, value: float) -> float:
        return math.log(value) if self._log else value
