"""Samplers by name, each a function of the seed and of the trials, whatever was asked before."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from mlfn.errors import OptionError, nearest
from mlfn.sweep.optuna.axes import Axis, Group, axes_of
from mlfn.sweep.optuna.cma import Evolution, searchable
from mlfn.sweep.optuna.loading import require
from mlfn.sweep.points import METHODS

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

NEEDS: Mapping[str, tuple[str, ...]] = {"cmaes": ("cmaes",), "gp": ("scipy", "torch")}


class Chooser(ABC):
    """Chooses the values of one trial, group by group; the first group has no conditions."""

    study_sampler: BaseSampler | None = None
    """The sampler that the study must have."""
    keeps_notes: bool = False
    """Whether what the sampler noted on a trial stays there."""

    @abstractmethod
    def values(self, study: Study, trial: FrozenTrial, group: Group, seed: int) -> dict[str, Any]:
        """Return a value for each axis of the group."""

    def ended(  # noqa: B027 - most need not know
        self, study: Study, trial: FrozenTrial, state: str, values: Sequence[float] | None
    ) -> None:
        """Hear how a trial ended, before the study does."""


class ByOptuna(Chooser):
    """A sampler of Optuna's; values that it does not choose jointly it chooses one by one."""

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
        return self._sampler.sample_relative(study, trial, group.varying) if self._is_joint(group) else {}

    def _is_joint(self, group: Group) -> bool:
        return bool(group.varying) and (self._joint == "groups" or (self._joint == "root" and not group.conditions))


class Renewed(ByOptuna):
    """One that remembers more than its random state, and so is made anew each time."""

    def __init__(self, make: Callable[[], BaseSampler], *, joint: str) -> None:
        super().__init__(make, joint=joint)
        self._make = make

    def _begin(self, seed: int) -> None:
        self._sampler = self._make()
        super()._begin(seed)


class AsGiven(Chooser):
    """A sampler that the user made: asked as Optuna asks it. What it remembers is its own affair."""

    keeps_notes = True

    def __init__(self, sampler: BaseSampler) -> None:
        self._sampler = self.study_sampler = sampler
        self._trial: Trial | None = None

    def values(self, study: Study, trial: FrozenTrial, group: Group, seed: int) -> dict[str, Any]:
        if not group.conditions:
            import optuna

            self._trial = optuna.Trial(study, trial.number)
        assert self._trial is not None
        return group.values({axis.key: _suggested(self._trial, axis) for axis in group.axes})

    def ended(self, study: Study, trial: FrozenTrial, state: str, values: Sequence[float] | None) -> None:
        import optuna

        self._sampler.after_trial(study, trial, optuna.trial.TrialState[state], values)


def _suggested(trial: Trial, axis: Axis) -> float:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    distribution: Any = axis.distribution
    if isinstance(distribution, CategoricalDistribution):
        place: Any = trial.suggest_categorical(axis.key, distribution.choices)
        return int(place)
    suggest = trial.suggest_int if isinstance(distribution, IntDistribution) else trial.suggest_float
    return suggest(axis.key, distribution.low, distribution.high, log=distribution.log)


class ByEvolution(ByOptuna):
    """CMA-ES for what has a distance; the rest at random, as Optuna's does."""

    def __init__(self, groups: Sequence[Group], *, maximize: bool) -> None:
        super().__init__(_random, joint="none")
        self._evolution = Evolution(searchable(axes_of(groups)), maximize=maximize)

    def _jointly(self, study: Study, trial: FrozenTrial, group: Group, seed: int) -> dict[str, Any]:
        return {} if group.conditions else self._evolution.suggest(completed(study), seed)


class ByPoints(Chooser):
    """A point for each number, as `.random(method=...)` has it: the same whatever was told."""

    def __init__(self, method: str, groups: Sequence[Group], seed: int) -> None:
        self._points = METHODS[method](seed=seed, n=1, keys=tuple(axes_of(groups)))

    def values(self, study: Study, trial: FrozenTrial, group: Group, seed: int) -> dict[str, Any]:
        return {axis.key: axis.space.at(self._points.u(trial.number, axis.key)) for axis in group.axes}


def check_sampler(sampler: Any, groups: Sequence[Group], directions: Sequence[str]) -> None:
    """Refuse what is no sampler, or cannot do this search."""
    if isinstance(sampler, type):
        raise OptionError(f"sampler={sampler.__name__} is a class: write sampler={sampler.__name__}().")
    if not isinstance(sampler, str):
        if not all(callable(getattr(sampler, name, None)) for name in ("sample_relative", "sample_independent")):
            raise OptionError(
                f"sampler={sampler!r} is no sampler: a name ({', '.join(SAMPLERS)}) or one of optuna.samplers is allowed."
            )
        return
    if sampler not in SAMPLERS:
        raise OptionError(f"sampler={sampler!r} is not known: {nearest(sampler, SAMPLERS)}")
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
    """Return what chooses, for a name or a sampler of the user's."""
    if not isinstance(sampler, str):
        return AsGiven(sampler)
    return SAMPLERS[sampler](groups, directions, max(10, 2 * parallel), seed)


def _tpe(groups: Sequence[Group], directions: Sequence[str], startup: int, seed: int) -> Chooser:
    import optuna

    # Several objectives are searched key by key, as Optuna does by default.
    joint = "groups" if len(directions) == 1 else "none"
    return ByOptuna(lambda: optuna.samplers.TPESampler(n_startup_trials=startup), joint=joint)


def _cmaes(groups: Sequence[Group], directions: Sequence[str], startup: int, seed: int) -> Chooser:
    return ByEvolution(groups, maximize=directions[0] == "max")


def _gp(groups: Sequence[Group], directions: Sequence[str], startup: int, seed: int) -> Chooser:
    import optuna

    return Renewed(
        lambda: optuna.samplers.GPSampler(n_startup_trials=startup, warn_independent_sampling=False), joint="root"
    )


def _nsga2(groups: Sequence[Group], directions: Sequence[str], startup: int, seed: int) -> Chooser:
    return ByOptuna(_by_number(), joint="root")


def _qmc(groups: Sequence[Group], directions: Sequence[str], startup: int, seed: int) -> Chooser:
    return ByPoints("qmc", groups, seed)


def _by_random(groups: Sequence[Group], directions: Sequence[str], startup: int, seed: int) -> Chooser:
    return ByPoints("random", groups, seed)


def _random() -> BaseSampler:
    import optuna

    return optuna.samplers.RandomSampler()


SAMPLERS: Mapping[str, Callable[[Sequence[Group], Sequence[str], int, int], Chooser]] = {
    "tpe": _tpe,
    "cmaes": _cmaes,
    "gp": _gp,
    "nsga2": _nsga2,
    "qmc": _qmc,
    "random": _by_random,
}


def reseed(sampler: BaseSampler, seed: int) -> None:
    """Put a sampler where a new one with this seed would be; making one costs 60 to 190 us, this takes 3."""
    import optuna

    for part in vars(sampler).values():
        if isinstance(part, optuna.samplers.BaseSampler):
            reseed(part, seed)
        elif hasattr(part, "rng"):
            part.rng.seed(seed)


@cache
def _by_number() -> Callable[[], BaseSampler]:
    """Return NSGA-II whose generations are the children that succeeded, by their numbers.

    Optuna's notes a trial's generation on it when it is asked, which a resumed sweep no longer has.
    """
    import optuna

    class NSGAIIByNumber(optuna.samplers.NSGAIISampler):
        def __init__(self) -> None:
            super().__init__()
            self._parents: dict[int, tuple[list[int], list[FrozenTrial]]] = {}

        def get_trial_generation(self, study: Study, trial: FrozenTrial) -> int:
            return len(completed(study)) // self._size

        def get_population(self, study: Study, generation: int) -> list[FrozenTrial]:
            return completed(study)[generation * self._size : (generation + 1) * self._size]

        def get_parent_population(self, study: Study, generation: int) -> list[FrozenTrial]:
            numbers = [trial.number for trial in completed(study)[: generation * self._size]]
            if generation in self._parents and self._parents[generation][0] == numbers:
                return self._parents[generation][1]
            for each in range(1, generation + 1):
                born = numbers[: each * self._size]
                if each not in self._parents or self._parents[each][0] != born:
                    self._parents[each] = (born, [])
                    self._parents[each] = (born, self.select_parent(study, each))
            return self._parents[generation][1] if generation else []

        @property
        def _size(self) -> int:
            return self.population_size or 50

    return NSGAIIByNumber


def completed(study: Study) -> list[FrozenTrial]:
    """Return the trials that have a value, in the order of their numbers."""
    import optuna

    return study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
