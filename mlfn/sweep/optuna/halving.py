"""Successive halving and Hyperband by Optuna's rules, as functions of what the children have reported.

Optuna's own note on a trial which rungs it has passed, and fix the largest step at their first question. Neither is in
the stored children, so that a resumed sweep would prune otherwise than one that was not interrupted; these would not.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial


@dataclass
class SuccessiveHalving:
    """Asynchronous successive halving (ASHA): at each rung, the best `1 / reduction_factor` go on."""

    min_resource: int = 1
    reduction_factor: int = 4
    min_early_stopping_rate: int = 0
    _reached: dict[tuple[int, int], float | None] = field(default_factory=dict, repr=False)

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether the trial ends at the rung that its latest step has reached."""
        return self.ends(trial, study.get_trials(deepcopy=False), maximize=study.direction.name == "MAXIMIZE")

    def ends(self, trial: FrozenTrial, trials: Iterable[FrozenTrial], *, maximize: bool) -> bool:
        """Return the same among `trials`, which may hold the trial itself."""
        steps = trial.intermediate_values
        if not steps:
            return False
        last = max(steps)
        value = steps[last]
        rung = 0
        while last >= (threshold := self._threshold(rung)):
            rung += 1
            if any(step >= threshold for step, past in steps.items() if step != last and not math.isnan(past)):
                continue  # decided when it came to this rung
            if math.isnan(value):
                return True
            others = (self._at(other, threshold) for other in trials if other.number != trial.number)
            if not self._goes_on(value, [other for other in others if other is not None], maximize=maximize):
                return True
        return False

    def _threshold(self, rung: int) -> int:
        return self.min_resource * int(self.reduction_factor ** (self.min_early_stopping_rate + rung))

    def _at(self, trial: FrozenTrial, threshold: int) -> float | None:
        """Return the value with which a trial came to a rung; None if it never did."""
        key = (trial.number, threshold)
        if key in self._reached:
            return self._reached[key]
        value = first_from(trial.intermediate_values, threshold)
        if trial.state.is_finished():
            self._reached[key] = value
        return value

    def _goes_on(self, value: float, others: list[float], *, maximize: bool) -> bool:
        competing = sorted([*others, value], reverse=maximize)
        # Of fewer than `reduction_factor`, the best alone goes on: nobody is paused until more have come.
        worst = competing[max(len(competing) // self.reduction_factor - 1, 0)]
        return value >= worst if maximize else value <= worst


@dataclass
class Hyperband:
    """Successive halving in several brackets, each with another first rung; a child's number decides its bracket.

    The largest step is that of the children that succeeded: before there is one, nothing is pruned.
    """

    name: str
    min_resource: int = 1
    reduction_factor: int = 3
    _last: dict[int, int] = field(default_factory=dict, repr=False)
    _brackets: dict[int, list[SuccessiveHalving]] = field(default_factory=dict, repr=False)

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether the trial ends at the rung of its bracket that its latest step has reached."""
        trials = study.get_trials(deepcopy=False)
        largest = max((self._last_step(each) for each in trials if each.state.name == "COMPLETE"), default=-1)
        if largest < 0:
            return False
        brackets = self._brackets_up_to(largest + 1)
        mine = self._bracket(trial.number, len(brackets))
        peers = (each for each in trials if self._bracket(each.number, len(brackets)) == mine)
        return brackets[mine].ends(trial, peers, maximize=study.direction.name == "MAXIMIZE")

    def _last_step(self, trial: FrozenTrial) -> int:
        if trial.number not in self._last:
            self._last[trial.number] = max(trial.intermediate_values, default=-1)
        return self._last[trial.number]

    def _brackets_up_to(self, resource: int) -> list[SuccessiveHalving]:
        count = math.floor(math.log(resource / self.min_resource, self.reduction_factor)) + 1
        if count not in self._brackets:
            self._brackets[count] = [
                SuccessiveHalving(self.min_resource, self.reduction_factor, early) for early in range(count)
            ]
        return self._brackets[count]

    def _bracket(self, number: int, count: int) -> int:
        budgets = [math.ceil(count * self.reduction_factor**left / (left + 1)) for left in reversed(range(count))]
        place = zlib.crc32(f"{self.name}_{number}".encode()) % sum(budgets)
        for bracket, budget in enumerate(budgets):
            place -= budget
            if place < 0:
                return bracket
        raise AssertionError("a place is below the sum of the budgets")


def first_from(series: Mapping[int, float], threshold: int) -> float | None:
    """Return the value at the first step from `threshold` on that is a number."""
    reached = [step for step, value in series.items() if step >= threshold and not math.isnan(value)]
    return series[min(reached)] if reached else None
