"""Samplers by name, each a function of the seed and of the trials, independent of earlier calls."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from mlfn.errors import OptionError
from mlfn.sweep.optuna.axes import Axis, Group, axes_of
from mlfn.sweep.optuna.loading import check_member, require
from mlfn.sweep.spaces.points import METHODS

if TYPE_CHECKING:
    from cmaes import CMA
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

SAMPLERS = ("tpe", "cmaes", "gp", "nsga2", "qmc", "random")
NEEDS: Mapping[str, tuple[str, ...]] = {"cmaes": ("cmaes",), "gp": ("scipy", "torch")}
_KEPT = 32  # generations whose state is kept, for a child that ends late


class Chooser(ABC):
    """Chooses the values of one trial, group by group; the first group has no conditions.

    A sampler that the user `given` is the study's, its notes on trials are kept, and it learns how each ended.
    """

    given: BaseSampler | None = None

    @abstractmethod
    def values(self, study: Study, trial: FrozenTrial, group: Group, seed: int) -> dict[str, Any]:
        """Return a value for each axis of the group."""


class ByOptuna(Chooser):
    """A sampler of Optuna's: of groups, of the first one alone, or of none it chooses the values jointly."""

    def __init__(self, make: Callable[[], BaseSampler], *, joint: str) -> None:
        self._sampler = make()
        self._joint = joint

    def values(self, study: Study, trial: FrozenTrial, group: Group, seed: int) -> dict[str, Any]:
        if not group.conditions:
            self._begin(seed)
        found = self._jointly(study, trial, group, seed)
        for key, distribution in group.varying.items():
            if key not in found:
                found[key] = self._sampler.sample_independent(study, trial, key, distribution)
        return group.values(found)

    def _begin(self, seed: int) -> None:
        reseed(self._sampler, seed)

    def _jointly(self, study: Study, trial: FrozenTrial, group: Group, seed: int) -> dict[str, Any]:
        is_joint = self._joint == "groups" or (self._joint == "root" and not group.conditions)
        return self._sampler.sample_relative(study, trial, group.varying) if is_joint and group.varying else {}


class Renewed(ByOptuna):
    """One that remembers more than its random state, and so is made anew each time."""

    def __init__(self, make: Callable[[], BaseSampler], *, joint: str) -> None:
        super().__init__(make, joint=joint)
        self._make = make

    def _begin(self, seed: int) -> None:
        self._sampler = self._make()
        super()._begin(seed)


class AsGiven(Chooser):
    """A sampler that the user made, asked as Optuna asks it; its own memory is lost on a resume."""

    def __init__(self, sampler: BaseSampler) -> None:
        self.given = sampler
        self._trial: Trial | None = None

    def values(self, study: Study, trial: FrozenTrial, group: Group, seed: int) -> dict[str, Any]:
        import optuna

        if not group.conditions:
            self._trial = optuna.Trial(study, trial.number)
        assert self._trial is not None
        return group.values({axis.key: _suggested(self._trial, axis) for axis in group.axes})


def _suggested(trial: Trial, axis: Axis) -> float:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    distribution: Any = axis.distribution
    if isinstance(distribution, CategoricalDistribution):
        place: Any = trial.suggest_categorical(axis.key, distribution.choices)
        return int(place)
    suggest = trial.suggest_int if isinstance(distribution, IntDistribution) else trial.suggest_float
    return suggest(axis.key, distribution.low, distribution.high, log=distribution.log)


class ByEvolution(ByOptuna):
    """CMA-ES for axes that have a distance, of the children that succeeded, by their numbers; the rest at random.

    Optuna's CmaEsSampler keeps a pickle of the optimizer on each trial. A study rebuilt from stored children has lost it, a
    search then begins anew, and a pickle should not be loaded from a store. So the library `cmaes` is driven here: a
    generation is so many children that succeeded, by their numbers; a child that ends late sets the optimizer back to its
    generation. Kept is the optimizer after each of the latest generations, with the numbers of the trials it has received.
    """

    def __init__(self, make: Callable[[], BaseSampler], groups: Sequence[Group], *, maximize: bool) -> None:
        from optuna._transform import _SearchSpaceTransform

        super().__init__(make, joint="none")
        axes = searchable(axes_of(groups))
        self._unit_cube = _SearchSpaceTransform({axis.key: axis.distribution for axis in axes}, transform_0_1=True)
        self._sign = -1.0 if maximize else 1.0
        self._states: dict[int, tuple[list[int], CMA]] = {0: ([], self._start())}

    def _jointly(self, study: Study, trial: FrozenTrial, group: Group, seed: int) -> dict[str, Any]:
        trials = completed(study)
        if group.conditions or not trials:
            return {}
        optimizer = self._after(trials)
        optimizer.reseed_rng(seed)
        return self._unit_cube.untransform(optimizer.ask())

    def _after(self, trials: list[FrozenTrial]) -> CMA:
        numbers = [trial.number for trial in trials]
        size = self._states[0][1].population_size
        last = len(trials) // size
        descending = (at for at in sorted(self._states, reverse=True) if at <= last)
        known = next(at for at in descending if self._states[at][0] == numbers[: at * size])
        for at in range(known, last):
            optimizer = copy.deepcopy(self._states[at][1])
            optimizer.tell([self._solution(trial) for trial in trials[at * size : (at + 1) * size]])
            self._states[at + 1] = (numbers[: (at + 1) * size], optimizer)
            if at > _KEPT:  # the start stays
                self._states.pop(at - _KEPT, None)
        return self._states[last][1]

    def _start(self) -> CMA:
        import cmaes
        import numpy as np

        bounds = self._unit_cube.bounds
        middle = np.full(len(bounds), 0.5)  # with Optuna's width and patience
        return cmaes.CMA(mean=middle, sigma=1 / 6, bounds=bounds, n_max_resampling=10 * len(bounds), seed=0)

    def _solution(self, trial: FrozenTrial) -> tuple[Any, float]:
        return self._unit_cube.transform(trial.params), self._sign * trial.values[0]


def searchable(axes: Mapping[str, Axis]) -> tuple[Axis, ...]:
    """Return those on which a distance makes sense: no bare choices, no conditions."""
    return tuple(axis for axis in axes.values() if axis.ordered and not axis.space.conditions and not axis.single)


class ByPoints(Chooser):
    """A point for each number, as `.random(method=...)` has it, independent of results."""

    def __init__(self, method: str, groups: Sequence[Group], seed: int) -> None:
        self._points = METHODS[method](seed=seed, n=1, keys=tuple(axes_of(groups)))

    def values(self, study: Study, trial: FrozenTrial, group: Group, seed: int) -> dict[str, Any]:
        return {axis.key: axis.space.at(self._points.u(trial.number, axis.key)) for axis in group.axes}


def check_sampler(sampler: Any, groups: Sequence[Group], directions: Sequence[str]) -> None:
    """Refuse a value that is no sampler, or a sampler that cannot do this search."""
    check_member("sampler", sampler, SAMPLERS, method="sample_relative")
    if not isinstance(sampler, str):
        return
    require(*NEEDS.get(sampler, ()), what=f"sampler={sampler!r}")
    if sampler == "cmaes" and len(directions) > 1:
        raise OptionError(
            f"sampler='cmaes' has one objective, and here are {len(directions)}: write sampler='nsga2' or 'tpe'."
        )
    if sampler == "cmaes" and not searchable(axes_of(groups)):
        raise OptionError(
            "sampler='cmaes' needs a number to move: all of these are choices, or depend on one. Write sampler='tpe'."
        )


def make_chooser(
    sampler: Any, groups: Sequence[Group], directions: Sequence[str], *, parallel: int, seed: int
) -> Chooser:
    """Return the chooser of that name, or of a sampler that the user made."""
    if not isinstance(sampler, str):
        return AsGiven(sampler)
    if sampler in METHODS:
        return ByPoints(sampler, groups, seed)
    from optuna.samplers import GPSampler, RandomSampler, TPESampler

    startup = max(10, 2 * parallel)
    if sampler == "cmaes":
        return ByEvolution(RandomSampler, groups, maximize=directions[0] == "max")
    if sampler == "gp":
        return Renewed(lambda: GPSampler(n_startup_trials=startup, warn_independent_sampling=False), joint="root")
    if sampler == "nsga2":
        return ByOptuna(_nsga2_by_number(), joint="root")
    # Several objectives are searched key by key, as Optuna does by default.
    return ByOptuna(lambda: TPESampler(n_startup_trials=startup), joint="groups" if len(directions) == 1 else "none")


def reseed(sampler: BaseSampler, seed: int) -> None:
    """Put a sampler where a new one with this seed would be; making one costs 60 to 190 us, this takes 3."""
    import optuna

    for part in vars(sampler).values():
        if isinstance(part, optuna.samplers.BaseSampler):
            reseed(part, seed)
        elif hasattr(part, "rng"):
            part.rng.seed(seed)


@cache
def _nsga2_by_number() -> Callable[[], BaseSampler]:
    """Return Optuna's NSGA-II with generations that are the children that succeeded, by their numbers.

    Optuna notes a trial's generation on it when it is asked; a study rebuilt from stored children has lost these notes, and
    all its trials are of the first generation.
    """
    import optuna

    class NSGAIIByNumber(optuna.samplers.NSGAIISampler):
        def __init__(self) -> None:
            super().__init__()
            self._size = self.population_size or 50
            self._parents: dict[int, tuple[list[int], list[FrozenTrial]]] = {0: ([], [])}

        def get_trial_generation(self, study: Study, trial: FrozenTrial) -> int:
            return len(completed(study)) // self._size

        def get_population(self, study: Study, generation: int) -> list[FrozenTrial]:
            return completed(study)[generation * self._size : (generation + 1) * self._size]

        def get_parent_population(self, study: Study, generation: int) -> list[FrozenTrial]:
            numbers = [trial.number for trial in completed(study)]
            if not self._is_known(generation, numbers):
                for each in range(1, generation + 1):  # a child that ended late changes those after it
                    if not self._is_known(each, numbers):
                        self._parents[each] = (numbers[: each * self._size], self.select_parent(study, each))
            return self._parents[generation][1]

        def _is_known(self, generation: int, numbers: list[int]) -> bool:
            known = self._parents.get(generation)
            return known is not None and known[0] == numbers[: generation * self._size]

    return NSGAIIByNumber


def completed(study: Study) -> list[FrozenTrial]:
    """Return the trials that have a value, in the order of their numbers."""
    import optuna

    return study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
