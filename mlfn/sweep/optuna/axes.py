"""A swept parameter as Optuna sees it: numbers alone, an option as its place in the list."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from mlfn.errors import ParameterError
from mlfn.sweep.optuna.options import Options
from mlfn.sweep.space import (
    ChoiceSpace,
    Condition,
    LogRandintSpace,
    LogUniformSpace,
    NormalSpace,
    OrdinalSpace,
    QUniformSpace,
    RandintSpace,
    Space,
    UniformSpace,
    parents_first,
)

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_DIGITS = 12  # as many as a space gives its floats
_MOST_CATEGORIES = 1000  # a longer list is searched by place, as if it were in an order
_EDGE = 2.0**-53  # a quantile of 0 or 1 is no number


@dataclass(frozen=True)
class Axis:
    """One parameter: `value` of what Optuna suggests, and `coded`, the way back."""

    key: str
    space: Space

    @cached_property
    def distribution(self) -> BaseDistribution:
        """What Optuna is asked to suggest from."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        space = self.space
        if isinstance(space, (UniformSpace, LogUniformSpace)):
            return FloatDistribution(space.low, space.high, log=isinstance(space, LogUniformSpace))
        if isinstance(space, NormalSpace):
            return FloatDistribution(_EDGE, 1 - _EDGE)
        if isinstance(space, (RandintSpace, LogRandintSpace)):
            return IntDistribution(space.low, space.high, log=isinstance(space, LogRandintSpace))
        if self.ordered:
            return IntDistribution(0, self._count - 1)
        return CategoricalDistribution(tuple(range(self._count)))

    @cached_property
    def ordered(self) -> bool:
        """Whether neighbours are alike."""
        plain = isinstance(self.space, ChoiceSpace) and not isinstance(self.space, OrdinalSpace)
        return not plain or self._count > _MOST_CATEGORIES

    @cached_property
    def single(self) -> bool:
        """Whether there is but one value."""
        return self.distribution.single()

    @cached_property
    def only(self) -> float:
        """The one value, coded."""
        low: float = getattr(self.distribution, "low", 0)
        return low

    @cached_property
    def _count(self) -> int:
        if isinstance(self.space, QUniformSpace):
            return self.space._steps
        assert isinstance(self.space, ChoiceSpace)
        return len(self.space.options)

    def value(self, coded: float) -> Any:
        """Return the parameter's value, in its own type."""
        space = self.space
        if isinstance(space, (UniformSpace, LogUniformSpace)):
            return min(max(float(f"{coded:.{_DIGITS}g}"), space.low), space.high)
        if isinstance(space, NormalSpace):
            return space.at(float(coded))
        if isinstance(space, (RandintSpace, LogRandintSpace)):
            return int(coded)
        if isinstance(space, QUniformSpace):
            return space.at((int(coded) + 0.5) / self._count)
        assert isinstance(space, ChoiceSpace)
        return space.options[int(coded)]

    def coded(self, value: Any) -> float:
        """Return what Optuna knows a value by; raise ParameterError for one that is not of the space."""
        space = self.space
        if isinstance(space, ChoiceSpace):
            return self._place(value)
        whole = isinstance(space, (RandintSpace, LogRandintSpace))
        if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
            raise self._refuse(value)
        if isinstance(space, NormalSpace) and math.isfinite(value):
            return min(max(_share_below(float(value), space), _EDGE), 1 - _EDGE)
        if isinstance(space, NormalSpace):
            raise self._refuse(value)
        assert isinstance(space, (UniformSpace, LogUniformSpace, QUniformSpace, RandintSpace, LogRandintSpace))
        number = int(value) if whole else float(value)  # type: ignore[call-overload]
        if not space.low <= number <= space.high:
            raise self._refuse(value)
        if isinstance(space, QUniformSpace):
            place = min(round((number - space.low) / space.q), self._count - 1)
            if not math.isclose(self.value(place), number, rel_tol=1e-9, abs_tol=space.q * 1e-6):
                raise self._refuse(value)
            return place
        return number

    def given(self, value: Any) -> Any:
        """Return a value that the user chose, in the type that the space would give it."""
        coded = self.coded(value)
        if isinstance(self.space, (UniformSpace, LogUniformSpace, NormalSpace)):
            return float(value)
        return self.value(coded)

    def _place(self, value: Any) -> int:
        place = self._options.place(value)
        if place is None:
            raise self._refuse(value)
        return place

    @cached_property
    def _options(self) -> Options:
        assert isinstance(self.space, ChoiceSpace)
        return Options(self.space.options)

    def _refuse(self, value: Any) -> ParameterError:
        return ParameterError(
            f"{self.key}={value!r} is not of {self.space!r}. Another space is another search: describe a new one, or "
            "give a value that this one has."
        )


@dataclass(frozen=True)
class Group:
    """Parameters that are there under the same conditions."""

    conditions: tuple[Condition, ...]
    axes: tuple[Axis, ...]

    def active(self, params: Mapping[str, Any]) -> bool:
        """Say whether they are there, given the parameters chosen so far."""
        return all(condition.holds(params) for condition in self.conditions)

    def values(self, coded: Mapping[str, float]) -> dict[str, Any]:
        """Return the values of what was chosen; an axis with one value needs no choice."""
        return {axis.key: axis.value(coded.get(axis.key, axis.only)) for axis in self.axes}

    @cached_property
    def varying(self) -> dict[str, BaseDistribution]:
        """Those that have more than one value."""
        return {axis.key: axis.distribution for axis in self.axes if not axis.single}


def groups_of(spaces: Mapping[str, Space]) -> tuple[Group, ...]:
    """Return the parameters in groups, each after those that its conditions name."""
    grouped: dict[tuple[tuple[str, str], ...], list[Axis]] = {}
    for key in parents_first(spaces):
        # By text: the values of a condition may have no hash.
        condition = tuple(sorted((each.key, repr(each.values)) for each in spaces[key].conditions))
        grouped.setdefault(condition, []).append(Axis(key, spaces[key]))
    return tuple(Group(axes[0].space.conditions, tuple(axes)) for axes in grouped.values())


def _share_below(value: float, space: NormalSpace) -> float:
    from statistics import NormalDist

    return NormalDist(space.mean, space.sd).cdf(value)


def axes_of(groups: Sequence[Group]) -> dict[str, Axis]:
    """Return the axes by key."""
    return {axis.key: axis for group in groups for axis in group.axes}
