"""Pruners by name; successive halving and Hyperband prune the same in a study that was rebuilt from stored children.

Optuna notes on a trial the value with which it reached each rung, and Hyperband fixes the largest step when it is first asked.
The stored children hold neither, so that a resumed sweep would prune otherwise than an undisturbed one. Here both follow from
what the children have reported.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from mlfn.sweep.optuna.loading import check_member, require

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.study import Study
    from optuna.trial import FrozenTrial


_NOTE = "completed_rung_"


class SuccessiveHalving:
    """Asynchronous successive halving (ASHA): at each rung, the best quarter continues."""

    factor = 4

    def __init__(self) -> None:
        import optuna

        self._pruner: Any = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=self.factor)

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether the trial ends at the rung that its latest step has reached."""
        return bool(self._pruner.prune(study, trial))

    def note(self, study: Study, trial: FrozenTrial) -> None:
        """Note on a trial the value with which it reached each rung, after it reported or ended."""
        step, rung = self._first_rung(study, trial), 0
        while (value := first_from(trial.intermediate_values, step)) is not None:
            trial.system_attrs[f"{_NOTE}{rung}"] = value
            step, rung = step * self.factor, rung + 1

    def _first_rung(self, study: Study, trial: FrozenTrial) -> int:
        return 1


class Hyperband(SuccessiveHalving):
    """Successive halving in several brackets, each with another first rung; a child's number decides its bracket.

    The largest step is that of the children that succeeded: before there is one, nothing is pruned.
    """

    factor = 3

    def __init__(self) -> None:
        self._pruner = None
        self._steps = 0

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        return self._pruner is not None and super().prune(study, trial)

    def note(self, study: Study, trial: FrozenTrial) -> None:
        steps = max(trial.intermediate_values, default=-1) + 1
        if trial.state.name == "COMPLETE" and steps > self._steps:
            self._steps = steps
            self._pruner = _hyperband_class()(max_resource=steps, reduction_factor=self.factor)
            for each in study.get_trials(deepcopy=False):
                for rung in [key for key in each.system_attrs if key.startswith(_NOTE)]:
                    del each.system_attrs[rung]
                super().note(study, each)
        elif self._pruner is not None:
            super().note(study, trial)

    def _first_rung(self, study: Study, trial: FrozenTrial) -> int:
        return int(self.factor ** self._pruner.bracket(study, trial))


def first_from(series: Mapping[int, float], step: int) -> float | None:
    """Return the first value from `step` on that is a number."""
    reached = [each for each, value in series.items() if each >= step and not math.isnan(value)]
    return series[min(reached)] if reached else None


@cache
def _hyperband_class() -> Any:
    import optuna

    class PublicHyperband(optuna.pruners.HyperbandPruner):
        def bracket(self, study: Study, trial: FrozenTrial) -> int:
            if not self._pruners:
                self._try_initialization(study)
            return self._get_bracket_id(study, trial)

    return PublicHyperband


Pruner: TypeAlias = "BasePruner | SuccessiveHalving"

# Each makes a pruner, given the module optuna.pruners.
PRUNERS: Mapping[str, Callable[[Any], Pruner]] = {
    "median": lambda of: of.MedianPruner(),
    "percentile": lambda of: of.PercentilePruner(25.0),
    "hyperband": lambda of: Hyperband(),
    "asha": lambda of: SuccessiveHalving(),
    # Median, but never for a child that improved within its last five steps.
    "patient": lambda of: of.PatientPruner(of.MedianPruner(), patience=5),
    # Without bounds of the user's own, it ends a child whose value is not finite.
    "threshold": lambda of: of.ThresholdPruner(lower=-sys.float_info.max, upper=sys.float_info.max),
    "wilcoxon": lambda of: of.WilcoxonPruner(),
}


def check_pruner(pruner: Any) -> None:
    """Refuse a value that is no pruner; imports nothing."""
    if pruner is not None:
        check_member("pruner", pruner, PRUNERS, method="prune")
    if pruner == "wilcoxon":
        require("scipy", what="pruner='wilcoxon'")


def make_pruner(pruner: Any) -> Pruner | None:
    """Return the pruner of that name, or the object as it is."""
    if not isinstance(pruner, str):
        return pruner  # type: ignore[no-any-return]
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return PRUNERS[pruner](optuna.pruners)
