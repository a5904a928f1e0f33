"""Adaptive search: a strategy that asks Optuna, whose study is a cache of the stored children."""

from __future__ import annotations

import hashlib
import math
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mlfn.errors import OptionError, ParameterError, nearest
from mlfn.sweep.optuna.axes import Axis, axes_of, groups_of
from mlfn.sweep.optuna.loading import quiet, require_optuna
from mlfn.sweep.optuna.pruners import Pruner, SuccessiveHalving, check_pruner, make_pruner
from mlfn.sweep.optuna.samplers import Chooser, check_sampler, make_chooser
from mlfn.sweep.optuna.trials import Trials, first_of_each, outcome
from mlfn.sweep.spaces.distributions import Space, as_spaces
from mlfn.sweep.strategy import Strategy, Told

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from typing_extensions import Self


class Search(Strategy):
    """Chooses by the results of earlier children.

    The same seed and the same children received give the same parameters, whenever and however often it was rebuilt: each
    choice is a function of the seed, the number and the trials. A sampler or pruner of Optuna's own that is passed as
    an object is used as it is; a resumed sweep has lost its memory.

    With ``pruner="hyperband"``, a child's number decides its bracket, and the sampler learns from all brackets together.
    CMA-ES and NSGA-II take for a generation so many children that succeeded, in the order of their numbers.

    Parameters
    ----------
    spaces: a distribution, or a list of options, for each key.
    n: how many children at most.
    sampler: ``"tpe"``, ``"cmaes"`` (numbers; the rest at random), ``"gp"`` (few and dear children; needs torch),
        ``"nsga2"`` (several objectives, many children), ``"qmc"`` or ``"random"``; or one of `optuna.samplers`.
    pruner: ``"median"``, ``"percentile"`` (the best quarter continues), ``"hyperband"``, ``"asha"``, ``"patient"`` (median,
        but not within five steps of an improvement), ``"threshold"`` (nothing but finite values) or ``"wilcoxon"``
        (steps are folds or inputs; needs scipy); or one of `optuna.pruners`.
    directions: ``"max"`` or ``"min"`` for each objective.
    first: points to begin with; keys left out are chosen by the sampler.
    parallel: how many children run at once, as far as is known.

    Raises:
        MissingExtraError: Optuna, or what this sampler or pruner needs, is not installed.
        OptionError: A sampler or pruner that is not known, or does not go with the other options.
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
        self.size = n
        self.directions = tuple(directions)
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
        self._running: dict[int, Mapping[str, Any]] = {}
        self._distributions: dict[tuple[str, ...], dict[str, BaseDistribution]] = {}

    def ask(self, iteration: int) -> dict[str, Any] | None:
        """Return the parameters of child `iteration`: trial number ``iteration - 1``. One that runs keeps its own."""
        assert self.size is not None
        if iteration > self.size:
            return None
        with self._lock, quiet():
            params = self._running.get(iteration - 1)
            if params is None:
                if self._trials.stopped:
                    return None
                self._trials.fill_up_to(iteration - 1)
                assert len(self._trials) == iteration - 1, f"child {iteration} has ended"
                params = self._chosen(self.first[iteration - 1] if iteration <= len(self.first) else {})
            return {key: params[key] for key in self.spaces if key in params}

    def tell(self, told: Told) -> None:
        with self._lock, quiet():
            from optuna.trial import TrialState

            number = told.iteration - 1
            self._trials.fill_up_to(number)
            if number == len(self._trials):
                self._trials.add()
            elif not self._trials.is_open(number):
                return
            now = self._trials[number]
            series = first_of_each(now.intermediate_values.items(), told.series)
            state, values = outcome(told, series, len(self.directions))
            if not told.state.is_terminal:
                self._running[number] = told.params
            elif self._running.pop(number, None) is not None and self._chooser.given is not None:
                # It ran since this process has the sweep; Optuna's studies call this before they record an end.
                study = self._trials.study(self._chooser.given)
                self._chooser.given.after_trial(study, now, TrialState[state], values)
            self._trials.put(
                number,
                state,
                *self._coded(told.params),
                values=values,
                series=series,
                constraints=told.constraints,
                system_attrs=now.system_attrs,
            )
            self._note(number)

    def report(self, iteration: int, step: int, value: float) -> str | None:
        if isinstance(step, bool) or not isinstance(step, int) or step < 0:
            raise ParameterError(f"Child {iteration} reported step={step!r}: a pruner counts whole steps from 0.")
        if len(self.directions) > 1:
            return None
        with self._lock, quiet():
            if not self._is_pruned(iteration - 1, step, float(value)):
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

    @cached_property
    def _trials(self) -> Trials:
        return Trials(f"search-{self.seed}", self.directions)

    @cached_property
    def _chooser(self) -> Chooser:
        return make_chooser(self.sampler, self._groups, self.directions, parallel=self.parallel, seed=self.seed)

    @cached_property
    def _pruner(self) -> Pruner | None:
        return make_pruner(self.pruner)

    def _chosen(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of a new trial; those that are given are not chosen."""
        trial = self._trials.add()
        study = self._trials.study(self._chooser.given)
        seed = int.from_bytes(hashlib.sha256(f"{self.seed}:{trial.number}".encode()).digest()[:4], "big")
        params: dict[str, Any] = {}
        for group in self._groups:
            if group.active(params):
                chosen = self._chooser.values(study, trial, group, seed)
                params.update({key: given.get(key, value) for key, value in chosen.items()} if given else chosen)
        noted = self._trials[trial.number].system_attrs if self._chooser.given is not None else {}
        self._trials.put(trial.number, "RUNNING", *self._coded(params), system_attrs=noted)
        self._running[trial.number] = params
        return params

    def _is_pruned(self, number: int, step: int, value: float) -> bool:
        if number >= len(self._trials) or self._trials[number].state.is_finished():
            return False
        trial = self._trials[number]
        trial.intermediate_values.setdefault(step, value)
        if self._pruner is None:
            return False
        # NumPy warns of the best of no numbers; filters cost 10 us, and few values are NaN.
        with warnings.catch_warnings() if math.isnan(value) else nullcontext():
            if math.isnan(value):
                warnings.simplefilter("ignore", RuntimeWarning)
            is_pruned = self._pruner.prune(self._trials.study(), trial)
        self._note(number)
        return is_pruned

    def _note(self, number: int) -> None:
        if isinstance(self._pruner, SuccessiveHalving):
            self._pruner.note(self._trials.study(), self._trials[number])

    def _coded(self, params: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, BaseDistribution]]:
        unknown = params.keys() - self._axes.keys()
        if unknown:
            raise ParameterError(f"{min(unknown)!r} is not searched here: {nearest(min(unknown), self._axes)}")
        keys = tuple(params)
        if keys not in self._distributions:  # one for all with these keys: of 10,000 trials, half the memory
            self._distributions[keys] = {key: self._axes[key].distribution for key in keys}
        return {key: self._axes[key].coded(params[key]) for key in keys}, self._distributions[keys]


def _checked_point(point: Mapping[str, Any], at: int, axes: Mapping[str, Axis]) -> dict[str, Any]:
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
