"""Pruners by name."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from mlfn.errors import OptionError, nearest
from mlfn.sweep.optuna.halving import Hyperband, SuccessiveHalving
from mlfn.sweep.optuna.loading import require

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial


class Pruner(Protocol):
    """What is asked for a verdict."""

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether the trial should end."""
        ...


def check_pruner(pruner: Any) -> None:
    """Refuse what is no pruner; imports nothing."""
    if isinstance(pruner, type):
        raise OptionError(f"pruner={pruner.__name__} is a class: write pruner={pruner.__name__}().")
    if pruner is None or callable(getattr(pruner, "prune", None)):
        return
    if not isinstance(pruner, str):
        raise OptionError(
            f"pruner={pruner!r} is no pruner: a name ({', '.join(PRUNERS)}), one of optuna.pruners, or None is allowed."
        )
    if pruner not in PRUNERS:
        raise OptionError(f"pruner={pruner!r} is not known: {nearest(pruner, PRUNERS)}")
    if pruner == "wilcoxon":
        require("scipy", what="pruner='wilcoxon'")


def make_pruner(pruner: Any, study_name: str) -> Pruner | None:
    """Return the pruner of that name, or the object as it is."""
    return PRUNERS[pruner](study_name) if isinstance(pruner, str) else pruner


def _median(_: str) -> Pruner:
    import optuna

    return optuna.pruners.MedianPruner()


def _percentile(_: str) -> Pruner:
    import optuna

    return optuna.pruners.PercentilePruner(25.0)


def _patient(_: str) -> Pruner:
    """Median, but never for a child that got better within its last five steps."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.pruners.PatientPruner(optuna.pruners.MedianPruner(), patience=5)


def _threshold(_: str) -> Pruner:
    """A value that is not finite ends the child; with bounds of one's own it is optuna.pruners.ThresholdPruner."""
    import optuna

    return optuna.pruners.ThresholdPruner(lower=-sys.float_info.max, upper=sys.float_info.max)


def _wilcoxon(_: str) -> Pruner:
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.pruners.WilcoxonPruner()


PRUNERS: dict[str, Callable[[str], Pruner]] = {
    "median": _median,
    "percentile": _percentile,
    "hyperband": Hyperband,
    "asha": lambda _: SuccessiveHalving(),
    "patient": _patient,
    "threshold": _threshold,
    "wilcoxon": _wilcoxon,
}
