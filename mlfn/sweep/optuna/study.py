"""A sweep as an Optuna study, for figures, importances and optuna-dashboard."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlfn.errors import MissingExtraError, OptionError, StorageError
from mlfn.sweep.optuna.axes import FLOATS, WHOLE, Axis, Options
from mlfn.sweep.optuna.loading import quiet, require_optuna
from mlfn.sweep.optuna.trials import Trials, first_of_each, outcome
from mlfn.sweep.params.listed import short
from mlfn.sweep.spaces.distributions import ChoiceSpace, QUniformSpace, Space
from mlfn.sweep.strategy import Told

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution, CategoricalChoiceType
    from optuna.study import Study

_PLAIN = (str, int, float, bool, type(None))
_MOST_DECADES = 1000  # between the least and the largest value seen, from which on an axis is logarithmic


def study_of(
    reports: Iterable[Told],
    spaces: Mapping[str, Space] | None = None,
    directions: Sequence[str] = ("max",),
    *,
    name: str = "sweep",
    metrics: Sequence[str] = (),
    first: int = 0,
) -> Study:
    """Return a study in memory whose trials are the children, by number, with the values that users gave.

    A key without a space, as in a grid, gets a distribution from the values seen: whole numbers, floats (by their
    logarithms, where they span three decades), or else options. Options that Optuna has no type for, or takes for
    equal, are shown as text. Running children are included; a number that is missing is a failed trial.

    Parameters
    ----------
    metrics: what the objectives are called in figures.
    first: the number of the first child's trial; Optuna counts from 0.
    """
    require_optuna("This")
    ordered = sorted(reports, key=lambda report: report.iteration)
    with quiet():
        seen: dict[str, list[Any]] = {}
        for report in ordered:
            for key, value in report.params.items():
                seen.setdefault(key, []).append(value)
        shown = {key: _column(key, values, (spaces or {}).get(key)) for key, values in seen.items()}
        trials = Trials(name, directions)
        for report in ordered:
            number = report.iteration - 1 + first
            trials.fill_up_to(number)
            trials.add()
            series = first_of_each(report.series)
            state, values = outcome(report, series, len(directions))
            trials.put(
                number,
                state,
                {key: shown[key][1](value) for key, value in report.params.items()},
                {key: shown[key][0] for key in report.params},
                values=values,
                series=series,
                constraints=report.constraints,
                user_attrs={"iteration": report.iteration},
            )
        study = trials.study()
        if metrics:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that names of metrics are experimental
                study.set_metric_names(list(metrics))
    return study


def importances(
    reports: Iterable[Told],
    spaces: Mapping[str, Space] | None = None,
    directions: Sequence[str] = ("max",),
) -> dict[str, float]:
    """Return how much each parameter matters (PED-ANOVA), the most important first; they add up to 1.

    Nothing, where fewer than two children have succeeded with different values. Of several objectives, being on the Pareto
    front is what parameters matter to.
    """
    study = study_of(reports, spaces, directions)
    import optuna

    completed = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    if len({tuple(trial.values) for trial in completed}) < 2 or not any(trial.params for trial in completed):
        return {}
    with quiet():
        found = optuna.importance.get_param_importances(study)
    return {key: float(share) for key, share in sorted(found.items(), key=lambda item: -item[1])}


def of_one(reports: Iterable[Told], objective: int) -> list[Told]:
    """Return the same children with one of their values."""
    return [replace(report, values=report.values and report.values[objective : objective + 1]) for report in reports]


def to_optuna(
    reports: Iterable[Told],
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
    study = study_of(reports, spaces, directions, name=name, metrics=metrics)
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


def _column(key: str, seen: Sequence[Any], space: Space | None) -> tuple[BaseDistribution, Callable[[Any], Any]]:
    """Return the distribution of a key, and a function from its values to those that Optuna shows."""
    from optuna.distributions import FloatDistribution, IntDistribution

    if isinstance(space, (*FLOATS, *WHOLE)):
        return Axis(key, space).distribution, _as_it_is
    if isinstance(space, QUniformSpace):
        return FloatDistribution(space.low, space.high), _as_it_is
    is_whole = all(type(value) is int for value in seen)
    is_number = is_whole or all(type(value) in (int, float) and math.isfinite(value) for value in seen)
    if isinstance(space, ChoiceSpace) or not is_number:
        return _options(seen, space)
    make = IntDistribution if is_whole else FloatDistribution
    low, high = min(seen), max(seen)
    return make(low, high, log=low > 0 and high / low >= _MOST_DECADES), _as_it_is


def _as_it_is(value: Any) -> Any:
    return value


def _options(seen: Sequence[Any], space: Space | None) -> tuple[BaseDistribution, Callable[[Any], Any]]:
    from optuna.distributions import CategoricalDistribution

    options = Options()
    # All of a space, seen or not, where these can be listed.
    known = space.options if isinstance(space, ChoiceSpace) and not isinstance(space.options, range) else ()
    for value in [*known, *seen]:
        options.add(value)
    labels: Sequence[CategoricalChoiceType] = options.known
    is_plain = all(isinstance(option, _PLAIN) for option in labels)
    has_nan = any(isinstance(option, float) and math.isnan(option) for option in labels)
    if not is_plain or has_nan or len(set(labels)) < len(labels):  # sets take 1, 1.0 and True for one, as Optuna does
        labels = _texts(labels)

    def label(value: Any) -> Any:
        place = options.place(value)
        assert place is not None, "every value that was seen is an option"
        return labels[place]

    return CategoricalDistribution(labels), label


def _texts(options: Sequence[Any]) -> list[str]:
    texts: list[str] = []
    for option in options:
        text = option if isinstance(option, str) else short(option)
        texts.append(f"{text} #{len(texts) + 1}" if text in texts else text)
    return texts
