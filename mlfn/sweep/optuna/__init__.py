"""Adaptive search by Optuna: the one place that imports it, and only when it is used.

>>> from mlfn.sweep.optuna import Search
>>> from mlfn.sweep.spaces.distributions import loguniform
>>> Search({"lr": loguniform(1e-4, 1), "opt": ["adam", "sgd"]}, 100, directions=["max"]).size
100
"""

from __future__ import annotations

from mlfn.sweep.optuna.search import Search
from mlfn.sweep.optuna.study import importances, study_of, to_optuna

__all__ = ["Search", "importances", "study_of", "to_optuna"]
