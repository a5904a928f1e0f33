"""What came of a sweep as an Optuna study, for its figures, its importances and its dashboard."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlfn.errors import MissingExtraError, OptionError, StorageError
from mlfn.sweep.listing import short
from mlfn.sweep.optuna.loading import quiet, require_optuna
from mlfn.sweep.optuna.options import Options
from mlfn.sweep.optuna.search import outcome
from mlfn.sweep.optuna.trials import Trials, first_of_each
from mlfn.sweep.space import (
    ChoiceSpace,
    LogRandintSpace,
    LogUniformSpace,
    QUniformSpace,
    RandintSpace,
    Space,
    UniformSpace,
)
from mlfn.sweep.strategy import Told

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution, CategoricalChoiceType
    from optuna.study import Study

_PLAIN = (str, int, float, bool, type(None))
_MOST_DECADES = 1000  # between the least and the largest value seen, for an axis to be linear


def study_of(
    tolds: Iterable[Told],
    spaces: Mapping[str, Space] | None = None,
    directions: Sequence[str] = ("max",),
    *,
    name: str = "sweep",
    metrics: Sequence[str] = (),
    first: int = 0,
) -> Study:
    """Return a study in memory whose trials are the children, by number, with the values that people know them by.

    A key without a space, as in a grid, gets a distribution from the values seen: whole numbers, floats (by their
    logarithms, where they span three decades), or else options. Options that Optuna has no type for, or takes for
    equal, are shown as text. What runs yet is there too; a number that is missing is a failed trial.

    Parameters
    ----------
    metrics: what the objectives are called in figures.
    first: the number of the first child's trial; Optuna counts from 0.
    """
    require_optuna("This")
    ordered = sorted(tolds, key=lambda told: told.iteration)
    with quiet():
        shown = _columns(ordered, spaces or {})
        trials = Trials(name, directions)
        for told in ordered:
            number = told.iteration - 1 + first
            trials.fill_up_to(number)
            trials.add()
            series = first_of_each(told.series)
            state, values = outcome(told, series, trials.objectives)
            trials.put(
                number,
                state,
                {key: shown[key].label(value) for key, value in told.params.items()},
                {key: shown[key].distribution for key in told.params},
                values=values,
                series=series,
                constraints=told.constraints,
                user_attrs={"iteration": told.iteration},
            )
        study = trials.study()
        if metrics:
            _name_metrics(study, metrics)
    return study


def importances(
    tolds: Iterable[Told],
    spaces: Mapping[str, Space] | None = None,
    directions: Sequence[str] = ("max",),
    *,
    objective: int | None = None,
) -> dict[str, float]:
    """Return how much each parameter matters (PED-ANOVA), the most important first; they add up to 1.

    Nothing, where fewer than two children have succeeded with different values. Of several objectives, `objective`
    picks one by its place; without it, being on the Pareto front is what parameters matter to.
    """
    if objective is not None:
        tolds, directions = of_one(tolds, objective), directions[objective : objective + 1]
    study = study_of(tolds, spaces, directions)
    import optuna

    completed = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    if len({tuple(trial.values) for trial in completed}) < 2 or not any(trial.params for trial in completed):
        return {}
    with quiet():
        found = optuna.importance.get_param_importances(study)
    return {key: float(share) for key, share in sorted(found.items(), key=lambda item: -item[1])}


def of_one(tolds: Iterable[Told], objective: int) -> list[Told]:
    """Return the same children with one of their values."""
    return [replace(told, values=told.values and told.values[objective : objective + 1]) for told in tolds]


def to_optuna(
    tolds: Iterable[Told],
    spaces: Mapping[str, Space] | None,
    directions: Sequence[str],
    storage_url: str,
    *,
    name: str = "sweep",
    metrics: Sequence[str] = (),
) -> str:
    """Copy the children into an Optuna storage, such as ``sqlite:///sweep.db``, and return the study's name there.

    One way: what changes there comes back to nothing here. ``optuna-dashboard URL`` shows it.

    Raises:
        OptionError: The storage has a study of this name.
        StorageError: Optuna cannot open or write the storage.
    """
    study = study_of(tolds, spaces, directions, name=name, metrics=metrics)
    import optuna

    try:
        with quiet():
            storage = optuna.storages.get_storage(storage_url)
            try:
                optuna.copy_study(from_study_name=name, from_storage=study._storage, to_storage=storage)
            finally:
                close_storage(storage)
    except optuna.exceptions.DuplicatedStudyError as error:
        raise OptionError(f"name={name!r}: the storage has a study of that name. Give another name.") from error
    except ImportError as error:
        raise MissingExtraError(
            f"This storage needs a driver that is not installed here: {error.__cause__ or error}"
        ) from error
    except Exception as error:
        # Not the URL: it may hold a password.
        raise StorageError(
            f"Optuna cannot write the study {name!r} to the storage ({type(error).__name__}). A URL such as "
            "sqlite:///sweep.db or postgresql+psycopg://user@host/database is allowed."
        ) from error
    return name


def close_storage(storage: Any) -> None:
    """Close the connections that a storage of Optuna's keeps; by itself it keeps them until its process ends."""
    storage.remove_session()
    engine = getattr(getattr(storage, "_backend", storage), "engine", None)
    if engine is not None:
        engine.dispose()


class _Column:
    """How the values of one key are shown."""

    def __init__(
        self, distribution: BaseDistribution, options: Options | None = None, labels: Sequence[Any] = ()
    ) -> None:
        self.distribution = distribution
        self._options, self._labels = options, labels

    def label(self, value: Any) -> Any:
        if self._options is None:
            return value
        place = self._options.place(value)
        assert place is not None, "every value that was seen is an option"
        return self._labels[place]


def _columns(tolds: Sequence[Told], spaces: Mapping[str, Space]) -> dict[str, _Column]:
    seen: dict[str, list[Any]] = {}
    for told in tolds:
        for key, value in told.params.items():
            seen.setdefault(key, []).append(value)
    return {key: _column(values, spaces.get(key)) for key, values in seen.items()}


def _column(seen: Sequence[Any], space: Space | None) -> _Column:
    from optuna.distributions import FloatDistribution, IntDistribution

    if isinstance(space, (UniformSpace, LogUniformSpace, QUniformSpace)):
        return _Column(FloatDistribution(space.low, space.high, log=isinstance(space, LogUniformSpace)))
    if isinstance(space, (RandintSpace, LogRandintSpace)):
        return _Column(IntDistribution(space.low, space.high, log=isinstance(space, LogRandintSpace)))
    if not isinstance(space, ChoiceSpace) and all(type(value) is int for value in seen):
        return _Column(IntDistribution(min(seen), max(seen), log=_spans_decades(seen)))
    if not isinstance(space, ChoiceSpace) and all(
        type(value) in (int, float) and math.isfinite(value) for value in seen
    ):
        return _Column(FloatDistribution(min(seen), max(seen), log=_spans_decades(seen)))
    return _options(seen, space)


def _options(seen: Sequence[Any], space: Space | None) -> _Column:
    from optuna.distributions import CategoricalDistribution

    options = Options()
    # All of a space, seen or not, where these can be listed.
    known = space.options if isinstance(space, ChoiceSpace) and not isinstance(space.options, range) else ()
    for value in [*known, *seen]:
        options.add(value)
    labels: Sequence[CategoricalChoiceType] = options.known
    # Sets take 1, 1.0 and True for one, as Optuna does.
    if not all(isinstance(option, _PLAIN) for option in labels) or len(set(labels)) < len(labels) or _has_nan(labels):
        labels = _texts(labels)
    return _Column(CategoricalDistribution(labels), options, labels)


def _has_nan(options: Sequence[Any]) -> bool:
    return any(isinstance(option, float) and math.isnan(option) for option in options)


def _texts(options: Sequence[Any]) -> list[str]:
    texts: list[str] = []
    for option in options:
        text = option if isinstance(option, str) else short(option)
        texts.append(f"{text} #{len(texts) + 1}" if text in texts else text)
    return texts


def _spans_decades(seen: Sequence[float]) -> bool:
    return min(seen) > 0 and max(seen) / min(seen) >= _MOST_DECADES


def _name_metrics(study: Study, metrics: Sequence[str]) -> None:
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(list(metrics))
