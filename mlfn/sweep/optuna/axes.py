"""A swept parameter as Optuna sees it: numbers alone, an option as its place in the list."""

from __future__ import annotations

import math
import operator
import pickle
from collections.abc import Mapping, Sequence
from functools import cached_property
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from mlfn.errors import ParameterError
from mlfn.host.frozen import frozen
from mlfn.sweep.spaces.distributions import (
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
FLOATS = (UniformSpace, LogUniformSpace)
WHOLE = (RandintSpace, LogRandintSpace)
_SCALARS = (str, int, float, bool, bytes, type(None))


@frozen
class Axis:
    """One parameter: `value` of a number that Optuna suggests, and `coded`, the way back."""

    key: str
    space: Space

    @cached_property
    def distribution(self) -> BaseDistribution:
        """The distribution from which Optuna suggests."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        space = self.space
        if isinstance(space, FLOATS):
            return FloatDistribution(space.low, space.high, log=isinstance(space, LogUniformSpace))
        if isinstance(space, NormalSpace):
            return FloatDistribution(_EDGE, 1 - _EDGE)
        if isinstance(space, WHOLE):
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
        return self.space.count if isinstance(self.space, QUniformSpace) else len(self._options.known)

    @cached_property
    def _options(self) -> Options:
        assert isinstance(self.space, ChoiceSpace)
        return Options(self.space.options)

    def value(self, coded: float) -> Any:
        """Return the parameter's value, in its own type."""
        space = self.space
        if isinstance(space, FLOATS):
            return min(max(float(f"{coded:.{_DIGITS}g}"), space.low), space.high)
        if isinstance(space, NormalSpace):
            return space.at(float(coded))
        if isinstance(space, QUniformSpace):
            return space.at((int(coded) + 0.5) / self._count)
        return int(coded) if isinstance(space, WHOLE) else self._options.known[int(coded)]

    def coded(self, value: Any) -> float:
        """Return the number by which Optuna knows a value; raise ParameterError for one that is not of the space."""
        coded = self._options.place(value) if isinstance(self.space, ChoiceSpace) else self._number(value)
        if coded is None:
            raise ParameterError(
                f"{self.key}={value!r} is not of {self.space!r}. Another space is another search: describe a new one, or "
                "give a value that this one has."
            )
        return coded

    def given(self, value: Any) -> Any:
        """Return a value that the user chose, in the type that the space would give it."""
        coded = self.coded(value)
        return float(value) if isinstance(self.space, (*FLOATS, NormalSpace)) else self.value(coded)

    def _number(self, value: Any) -> float | None:
        space = self.space
        if isinstance(value, bool) or not isinstance(value, Integral if isinstance(space, WHOLE) else Real):
            return None
        number = int(value) if isinstance(space, WHOLE) else float(value)  # type: ignore[call-overload]
        if isinstance(space, NormalSpace):
            from statistics import NormalDist  # 10 ms that few searches need

            share = NormalDist(space.mean, space.sd).cdf(number)
            return min(max(share, _EDGE), 1 - _EDGE) if math.isfinite(number) else None
        assert isinstance(space, (*FLOATS, *WHOLE, QUniformSpace))
        if not space.low <= number <= space.high:
            return None
        if not isinstance(space, QUniformSpace):
            return number
        step = min(round((number - space.low) / space.q), self._count - 1)
        is_step = math.isclose(self.value(step), number, rel_tol=1e-9, abs_tol=space.q * 1e-6)
        return step if is_step else None


@frozen
class Group:
    """Parameters that have the same conditions."""

    conditions: tuple[Condition, ...]
    axes: tuple[Axis, ...]

    def active(self, params: Mapping[str, Any]) -> bool:
        """Return whether they are chosen, given the parameters chosen so far."""
        return all(condition.holds(params) for condition in self.conditions)

    def values(self, coded: Mapping[str, float]) -> dict[str, Any]:
        """Return the values of coded choices; an axis with one value needs none."""
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


def axes_of(groups: Sequence[Group]) -> dict[str, Axis]:
    """Return the axes by key."""
    return {axis.key: axis for group in groups for axis in group.axes}


class Options:
    """Options in their order; scalars are looked up, others compared one by one: (1,) equals (True,), but is another option."""

    def __init__(self, options: Sequence[Any] = ()) -> None:
        self.known: Sequence[Any] = options if isinstance(options, range) else []
        self._places: dict[tuple[type, Any], int] = {}
        for option in () if isinstance(options, range) else options:
            self._append(option)

    def place(self, value: Any) -> int | None:
        """Return the place of the first option that is the same value; None where there is none."""
        if isinstance(self.known, range):
            return self.known.index(value) if type(value) is int and value in self.known else None
        if type(value) in _SCALARS and (place := self._places.get((type(value), value))) is not None:
            return place
        for same in (operator.is_, _equal_bytes, _equal):
            for place, option in enumerate(self.known):
                if same(option, value):
                    return place
        return None

    def add(self, value: Any) -> None:
        """Append a value that is not there yet."""
        if self.place(value) is None:
            self._append(value)

    def _append(self, option: Any) -> None:
        assert isinstance(self.known, list)
        if type(option) in _SCALARS:
            self._places.setdefault((type(option), option), len(self.known))
        self.known.append(option)


def _equal_bytes(one: Any, other: Any) -> bool:
    """Compare by pickles: [1] is not [True], and an object without `==` that was loaded from the store is found again."""
    try:
        return type(one) is type(other) and pickle.dumps(one) == pickle.dumps(other)
    except Exception:  # noqa: BLE001 - what has no pickle has no equal
        return False


def _equal(one: Any, other: Any) -> bool:
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:  # noqa: BLE001 - an array has no one answer; others may raise anything
        return False
