"""Adaptive search: a strategy that asks Optuna, whose study is a cache of what was told."""

from __future__ import annotations

import hashlib
import math
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlfn.errors import OptionError, ParameterError, nearest
from mlfn.spec.record import RunState
from mlfn.sweep.optuna.axes import Axis, Group, axes_of, groups_of
from mlfn.sweep.optuna.loading import quiet, require_optuna
from mlfn.sweep.optuna.pruners import Pruner, check_pruner, make_pruner
from mlfn.sweep.optuna.samplers import Chooser, check_sampler, make_chooser
from mlfn.sweep.optuna.trials import Trials, first_of_each, last_of
from mlfn.sweep.space import Space, as_spaces
from mlfn.sweep.strategy import Strategy, Told

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from typing_extensions import Self

_SLOW_FROM = 2000  # completed trials, with TPE


class Search(Strategy):
    """Chooses by what came of the children before.

    The same seed and the same children told give the same parameters, whenever and however often it was rebuilt: each
    choice is a function of the seed, the number and the trials. A sampler or pruner of Optuna's own that is passed as
    an object is used as it is; what it remembers is lost with it.

    With ``pruner="hyperband"``, a child's number decides its bracket, and the sampler learns from all brackets together.
    CMA-ES and NSGA-II take for a generation so many children that succeeded, in the order of their numbers.

    Parameters
    ----------
    spaces: a distribution, or a list of options, for each key.
    n: how many children at most.
    sampler: ``"tpe"``, ``"cmaes"`` (numbers; the rest at random), ``"gp"`` (few and dear children; needs torch),
        ``"nsga2"`` (several objectives, many children), ``"qmc"`` or ``"random"``; or one of `optuna.samplers`.
    pruner: ``"median"``, ``"percentile"`` (the best quarter goes on), ``"hyperband"``, ``"asha"``, ``"patient"`` (median,
        but not within five steps of an improvement), ``"threshold"`` (nothing but finite values) or ``"wilcoxon"``
        (steps are folds or inputs; needs scipy); or one of `optuna.pruners`.
    directions: ``"max"`` or ``"min"`` for each objective.
    first: points to begin with; keys left out are chosen as ever.
    parallel: how many children run at once, as far as is known.

    Raises:
        MissingExtraError: Optuna, or what this sampler or pruner needs, is not installed.
        OptionError: A sampler, pruner or direction that is not known, or does not go with the others.
        ParameterError: A space or first point that does not fit.
    """

    adaptive = True

    def __init__(
        self,
        spaces: Mapping[str, Space | Sequence[Any]],
        n: int,
        *,
        directions: Sequence[str],
        sampler: Any = "tpe",
        pruner: Any = None,
        seed: int = 0,
        first: Iterable[Mapping[str, Any]] = (),
        parallel: int = 1,
    ) -> None:
        require_optuna("search")
        self.spaces = as_spaces(spaces)
        if not self.spaces:
            raise ParameterError(
                "search() has nothing to search: give it a distribution or a list, as in lr=loguniform(1e-4, 1)."
            )
        self.size = _checked_count(n)
        self.directions = _checked_directions(directions)
        self.sampler, self.pruner, self.seed, self.parallel = sampler, pruner, seed, parallel
        self.judges = pruner is not None
        self._groups = groups_of(self.spaces)
        self._axes = axes_of(self._groups)
        check_sampler(sampler, self._groups, self.directions)
        check_pruner(pruner)
        if pruner is not None and len(self.directions) > 1:
            raise OptionError(
                f"pruner={pruner!r} compares one objective, and here are {len(self.directions)}: leave it out."
            )
        self.first = tuple(_checked_point(point, at, self._axes) for at, point in enumerate(first))
        if len(self.first) > n:
            raise OptionError(f"first= has {len(self.first)} points, and n={n} children are all: raise n.")
        self._lock = threading.RLock()
        self._known: _Known | None = None

    def ask(self, iteration: int) -> dict[str, Any] | None:
        """Return the parameters of child `iteration`: trial number ``iteration - 1``. One that runs keeps its own."""
        assert self.size is not None
        if iteration > self.size:
            return None
        with self._lock, quiet():
            known = self._cache()
            params = known.running.get(iteration - 1)
            if params is None:
                if known.trials.stopped:
                    return None
                known.trials.fill_up_to(iteration - 1)
                assert len(known.trials) == iteration - 1, f"child {iteration} has been told of as ended"
                self._warn_if_slow(known)
                params = known.ask(self._groups, self.first[iteration - 1] if iteration <= len(self.first) else {})
            return {key: params[key] for key in self.spaces if key in params}

    def tell(self, told: Told) -> None:
        with self._lock, quiet():
            self._cache().tell(told)

    def report(self, iteration: int, step: int, value: float) -> str | None:
        if isinstance(step, bool) or not isinstance(step, int) or step < 0:
            raise ParameterError(f"Child {iteration} reported step={step!r}: a pruner counts whole steps from 0.")
        if len(self.directions) > 1:
            return None
        with self._lock, quiet():
            if not self._cache().report(iteration - 1, step, float(value)):
                return None
        name = self.pruner if isinstance(self.pruner, str) else type(self.pruner).__name__
        return f"pruned by {name} at step {step}, with {value:.6g}"

    def to_json(self, encode: Callable[[Any], Any]) -> dict[str, Any]:
        """Return what it takes to build it again; a sampler or pruner that is an object goes through `encode`."""
        return {
            "strategy": "search",
            # Pairs, for the order of the keys is that of the values and a database may not keep that of an object.
            "spaces": [[key, space.to_json(encode)] for key, space in self.spaces.items()],
            "n": self.size,
            "directions": list(self.directions),
            "sampler": _named(self.sampler, encode),
            "pruner": _named(self.pruner, encode),
            "seed": self.seed,
            "first": [[[key, encode(value)] for key, value in point.items()] for point in self.first],
            "parallel": self.parallel,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], decode: Callable[[Any], Any]) -> Self:
        return cls(
            {key: Space.from_json(space, decode) for key, space in data["spaces"]},
            data["n"],
            directions=data["directions"],
            sampler=_unnamed(data["sampler"], decode),
            pruner=_unnamed(data["pruner"], decode),
            seed=data["seed"],
            first=[{key: decode(value) for key, value in point} for point in data["first"]],
            parallel=data["parallel"],
        )

    def _cache(self) -> _Known:
        if self._known is None:
            name = f"search-{self.seed}"
            self._known = _Known(
                self._axes,
                Trials(name, self.directions),
                make_chooser(self.sampler, self._groups, self.directions, parallel=self.parallel, seed=self.seed),
                make_pruner(self.pruner, name),
                self.seed,
            )
        return self._known

    def _warn_if_slow(self, known: _Known) -> None:
        if self.sampler == "tpe" and known.completed > _SLOW_FROM and not known.warned:
            known.warned = True
            warnings.warn(
                f"After {_SLOW_FROM:,} completed children, TPE takes longer for each next one than it gains: for searches "
                "of this size there are sampler='cmaes', 'qmc' and 'random'.",
                stacklevel=3,
            )


class _Known:
    """What was asked and told, as trials; each is put together the same way, whether asked here or told on resume."""

    def __init__(
        self, axes: Mapping[str, Axis], trials: Trials, chooser: Chooser, pruner: Pruner | None, seed: int
    ) -> None:
        self.trials = trials
        self.running: dict[int, Mapping[str, Any]] = {}
        self.completed = 0
        self.warned = False
        self._axes, self._chooser, self._pruner, self._seed = axes, chooser, pruner, seed
        self._distributions: dict[tuple[str, ...], dict[str, BaseDistribution]] = {}

    def ask(self, groups: Sequence[Group], given: Mapping[str, Any]) -> dict[str, Any]:
        trial = self.trials.add()
        study = self.trials.study(self._chooser.study_sampler)
        seed = derived(self._seed, trial.number)
        params: dict[str, Any] = {}
        for group in groups:
            if group.active(params):
                chosen = self._chooser.values(study, trial, group, seed)
                params.update({key: given.get(key, value) for key, value in chosen.items()} if given else chosen)
        noted = self.trials[trial.number].system_attrs if self._chooser.keeps_notes else {}
        self.trials.put(trial.number, "RUNNING", *self._coded(params), system_attrs=noted)
        self.running[trial.number] = params
        return params

    def tell(self, told: Told) -> None:
        number = told.iteration - 1
        self.trials.fill_up_to(number)
        if number == len(self.trials):
            self.trials.add()
        elif not self.trials.is_open(number):
            return
        now = self.trials[number]
        series = first_of_each(now.intermediate_values.items(), told.series)
        state, values = outcome(told, series, self.trials.objectives)
        if not told.state.is_terminal:
            self.running[number] = told.params
        elif self.running.pop(number, None) is not None:  # not one that ended before this driver
            self._chooser.ended(self.trials.study(self._chooser.study_sampler), now, state, values)
        self.completed += state == "COMPLETE"
        self.trials.put(
            number,
            state,
            *self._coded(told.params),
            values=values,
            series=series,
            constraints=told.constraints,
            system_attrs=now.system_attrs,
        )

    def report(self, number: int, step: int, value: float) -> bool:
        if number >= len(self.trials) or self.trials[number].state.is_finished():
            return False
        trial = self.trials[number]
        trial.intermediate_values.setdefault(step, value)
        if self._pruner is None:
            return False
        if not math.isnan(value):
            return self._pruner.prune(self.trials.study(), trial)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's, on the best of no numbers
            return self._pruner.prune(self.trials.study(), trial)

    def _coded(self, params: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, BaseDistribution]]:
        unknown = params.keys() - self._axes.keys()
        if unknown:
            raise ParameterError(f"{min(unknown)!r} is not searched here: {nearest(min(unknown), self._axes)}")
        keys = tuple(params)
        if keys not in self._distributions:  # one for all with these keys: of 10,000 trials, half the memory
            self._distributions[keys] = {key: self._axes[key].distribution for key in keys}
        return {key: self._axes[key].coded(params[key]) for key in keys}, self._distributions[keys]


def outcome(told: Told, series: Mapping[int, float], objectives: int) -> tuple[str, Sequence[float] | None]:
    """Return Optuna's state and values for how a child ended; one without finite values has failed.

    So has one that its handler pruned among several objectives: Optuna has no value for it.
    """
    if not told.state.is_terminal:
        return "RUNNING", None
    if told.state is RunState.PRUNED and objectives == 1:
        return "PRUNED", last_of(series)
    if told.state is RunState.SUCCEEDED and told.values is not None and all(map(math.isfinite, told.values)):
        assert len(told.values) == objectives, f"child {told.iteration} has {len(told.values)} values for {objectives}"
        return "COMPLETE", told.values
    return "FAIL", None


def derived(seed: int, number: int) -> int:
    """Return the seed of one trial."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{number}".encode()).digest()[:4], "big")


def _checked_count(n: Any) -> int:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise OptionError(
            f"n={n!r} is no number of children: a whole number from 1 on is allowed, as in search(n=100)."
        )
    return n


def _checked_directions(directions: Sequence[str]) -> tuple[str, ...]:
    if isinstance(directions, str) or not directions or not set(directions) <= {"max", "min"}:
        raise OptionError(
            f"directions={directions!r}: for each objective 'max' or 'min' is allowed, as in directions=('max',)."
        )
    return tuple(directions)


def _checked_point(point: Mapping[str, Any], at: int, axes: Mapping[str, Axis]) -> dict[str, Any]:
    if not isinstance(point, Mapping):
        raise ParameterError(
            f"first[{at}]={point!r} is no point: a value for each key is meant, as in first=[{{'lr': 0.1}}]."
        )
    unknown = point.keys() - axes.keys()
    if unknown:
        raise ParameterError(f"first[{at}] has {min(unknown)!r}, which is not searched: {nearest(min(unknown), axes)}")
    found = {key: axes[key].given(value) for key, value in point.items()}
    for key in found:
        for condition in axes[key].space.conditions:
            if condition.key in found and not condition.holds(found):
                raise ParameterError(
                    f"first[{at}] has {key!r}, which is there only when {condition}, and here {condition.key} is "
                    f"{found[condition.key]!r}: leave {key!r} out."
                )
    return found


def _named(given: Any, encode: Callable[[Any], Any]) -> Any:
    return given if given is None or isinstance(given, str) else {"object": encode(given)}


def _unnamed(data: Any, decode: Callable[[Any], Any]) -> Any:
    return decode(data["object"]) if isinstance(data, Mapping) else data
