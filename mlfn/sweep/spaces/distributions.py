"""Distributions of swept parameters: the same number of the unit interval gives the same value on every machine.

>>> lr = loguniform(1e-4, 1)
>>> lr.at(0.5)
0.01
>>> momentum = uniform(0, 1).when(opt="sgd")
>>> momentum
uniform(0.0, 1.0).when(opt='sgd')
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields, replace
from decimal import ROUND_FLOOR, Context, Decimal
from functools import cached_property
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

from mlfn.errors import ParameterError, nearest
from mlfn.sweep.params.listed import listed, listing_from_json, listing_to_json, short
from mlfn.sweep.spaces.normal import normal_quantile

if TYPE_CHECKING:
    from typing_extensions import Self

_DIGITS = 12
# Logarithms and powers in decimal: those of the C library differ between machines in their last bit.
_EXACT = Context(prec=40)
_MEMBERS: dict[str, type[Space]] = {}


@dataclass(frozen=True)
class Condition:
    """Keeps a parameter only in points where the one called `key` has one of `values`."""

    key: str
    values: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.key}={self.values[0]!r}" if len(self.values) == 1 else f"{self.key}={list(self.values)!r}"

    def holds(self, params: Mapping[str, Any]) -> bool:
        """Return whether it holds for these parameters; True is not 1."""
        return self.key in params and any(_same(params[self.key], value) for value in self.values)


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)


@dataclass(frozen=True, repr=False)
class Space(ABC):
    """What one swept parameter may be, and how likely.

    Parameters
    ----------
    conditions: all must hold, or the parameter is left out.
    """

    _: KW_ONLY
    conditions: tuple[Condition, ...] = ()

    name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        _MEMBERS[cls.name] = cls

    def __post_init__(self) -> None:
        for field in fields(self):
            if not field.kw_only:
                object.__setattr__(self, field.name, self._number(field.name, is_whole=field.type == "int"))
        self._check()
        low, high = getattr(self, "low", 0), getattr(self, "high", 0)
        if low > high:
            raise self._refuse(f"low={low!r} is above high={high!r}: write the lower bound first.")

    def _check(self) -> None:  # noqa: B027 - most have nothing more to refuse
        """Refuse numbers that do not fit."""

    @abstractmethod
    def at(self, u: float) -> Any:
        """Return the value below which a share `u` of the distribution lies; ``0 <= u < 1``.

        Floats are rounded to 12 significant digits.
        """

    def when(self, conditions: Mapping[str, Any] | None = None, /, **more: Any) -> Self:
        """Return a space for only those points where other parameters have these values; a list names several.

        Parameters
        ----------
        conditions: for keys that are no Python names, such as ``{"model.opt": "sgd"}``.

        >>> uniform(0, 1).when(opt=["sgd", "rms"])
        uniform(0.0, 1.0).when(opt=['sgd', 'rms'])
        """
        wanted = {**(conditions or {}), **more}
        if not wanted:
            raise ParameterError(f"{self!r}.when() names no parameter: say which, as in .when(opt='sgd').")
        added = tuple(Condition(key, _wanted(self, key, value)) for key, value in wanted.items())
        return replace(self, conditions=self.conditions + added)

    def __repr__(self) -> str:
        whole = f"{self.name}({', '.join(self._shown())})"
        return whole + "".join(f".when({condition})" for condition in self.conditions)

    def to_json(self, encode: Callable[[Any], Any]) -> dict[str, Any]:
        """Return plain JSON; `encode` turns one value of any type into JSON."""
        data = {"space": self.name, **self._fields_to_json(encode)}
        if self.conditions:
            data["when"] = [[c.key, [encode(value) for value in c.values]] for c in self.conditions]
        return data

    @staticmethod
    def from_json(data: Mapping[str, Any], decode: Callable[[Any], Any]) -> Space:
        """Rebuild from `to_json`."""
        conditions = tuple(Condition(key, tuple(map(decode, values))) for key, values in data.get("when", ()))
        member = _MEMBERS[data["space"]]
        return member(**member._fields_from_json(data, decode), conditions=conditions)

    def _shown(self) -> Iterator[str]:
        """Yield its arguments as they are written in code."""
        return map(repr, self._numbers().values())

    def _fields_to_json(self, encode: Callable[[Any], Any]) -> dict[str, Any]:
        return self._numbers()

    @classmethod
    def _fields_from_json(cls, data: Mapping[str, Any], decode: Callable[[Any], Any]) -> dict[str, Any]:
        return {field.name: data[field.name] for field in fields(cls) if not field.kw_only}

    def _numbers(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self) if not field.kw_only}

    def _refuse(self, why: str) -> ParameterError:
        return ParameterError(f"{self.name}({', '.join(map(short, self._numbers().values()))}): {why}")

    def _number(self, name: str, *, is_whole: bool) -> float:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, Integral if is_whole else Real):
            kind, hint = ("whole number", "; for floats write uniform or loguniform") if is_whole else ("number", "")
            raise self._refuse(f"{name} must be a {kind}, and is {short(value)} ({type(value).__name__}){hint}.")
        if is_whole:
            return int(value)  # type: ignore[call-overload, no-any-return]
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self._refuse(f"{name} must be a finite number, and is {short(value)}.")
        return number


def _wanted(space: Space, key: str, value: Any) -> tuple[Any, ...]:
    if isinstance(value, (set, frozenset, Mapping)) or (isinstance(value, list) and not value):
        raise ParameterError(
            f"{space!r}.when({key}={short(value)}) is no value of {key!r}: give one, or a list of several, "
            f"as in .when({key}=['sgd', 'rms'])."
        )
    return tuple(value) if isinstance(value, list) else (value,)


@dataclass(frozen=True, repr=False)
class UniformSpace(Space):
    """Floats between two bounds, all equally likely."""

    low: float
    high: float
    name: ClassVar[str] = "uniform"

    def at(self, u: float) -> float:
        """Return ``low + u * (high - low)``."""
        width = self.high - self.low
        raw = self.low + width * u if math.isfinite(width) else self.low * (1 - u) + self.high * u
        return _within(_rounded(raw), self.low, self.high)


@dataclass(frozen=True, repr=False)
class LogUniformSpace(Space):
    """Floats between two bounds, whose logarithms are equally likely."""

    low: float
    high: float
    name: ClassVar[str] = "loguniform"

    def _check(self) -> None:
        if self.low <= 0:
            raise self._refuse(
                f"low={self.low!r} must be above 0: a logarithm has no other. Write a small number, such as 1e-6, "
                "or uniform."
            )

    @cached_property
    def _logs(self) -> tuple[Decimal, Decimal]:
        return Decimal(self.low).ln(_EXACT), Decimal(self.high).ln(_EXACT)

    def at(self, u: float) -> float:
        """Return the bound's powers in between."""
        return _within(_rounded(_power(*self._logs, u)), self.low, self.high)


@dataclass(frozen=True, repr=False)
class QUniformSpace(Space):
    """The floats ``low``, ``low + q``, ``low + 2 * q``... that are not above ``high``, all equally likely."""

    low: float
    high: float
    q: float
    name: ClassVar[str] = "quniform"

    def _check(self) -> None:
        if self.q <= 0:
            raise self._refuse(f"q={self.q!r} must be above 0: it is the step from one value to the next.")

    @cached_property
    def count(self) -> int:
        """How many steps there are."""
        # As written, not as stored: 1 holds ten steps of 0.1, though ten floats of 0.1 are more than 1.
        return _floor((_written(self.high) - _written(self.low)) / _written(self.q)) + 1

    def at(self, u: float) -> float:
        """Return one of the steps."""
        step = _written(self.low) + _index(u, self.count) * _written(self.q)
        return _within(_rounded(step), self.low, self.high)


@dataclass(frozen=True, repr=False)
class RandintSpace(Space):
    """Whole numbers between two bounds, both included, all equally likely."""

    low: int
    high: int
    name: ClassVar[str] = "randint"

    def at(self, u: float) -> int:
        """Return one of the numbers."""
        return self.low + _index(u, self.high - self.low + 1)


@dataclass(frozen=True, repr=False)
class LogRandintSpace(Space):
    """Whole numbers between two bounds, both included, as likely as the logarithm between its neighbours is wide."""

    low: int
    high: int
    name: ClassVar[str] = "lograndint"

    def _check(self) -> None:
        if self.low < 1:
            raise self._refuse(f"low={self.low!r} must be 1 or more: a logarithm has no other. Or write randint.")

    @cached_property
    def _logs(self) -> tuple[Decimal, Decimal]:
        half = Decimal("0.5")
        return (Decimal(self.low) - half).ln(_EXACT), (Decimal(self.high) + half).ln(_EXACT)

    def at(self, u: float) -> int:
        """Return the whole number nearest to a power in between."""
        nearest_one = _floor(_power(*self._logs, u) + Decimal("0.5"))
        return min(max(nearest_one, self.low), self.high)


@dataclass(frozen=True, repr=False)
class NormalSpace(Space):
    """Floats around a mean; they have no bounds, and lie within 8.3 `sd` of it."""

    mean: float
    sd: float
    name: ClassVar[str] = "normal"

    def _check(self) -> None:
        if self.sd <= 0:
            raise self._refuse(f"sd={self.sd!r} must be above 0: it is the standard deviation.")
        if not math.isfinite(abs(self.mean) + 10 * self.sd):
            raise self._refuse("its values would exceed what a float can hold.")

    def at(self, u: float) -> float:
        """Return the quantile."""
        return _rounded(Decimal(self.mean) + Decimal(self.sd) * normal_quantile(u))


@dataclass(frozen=True, repr=False)
class ChoiceSpace(Space):
    """Values of any types, all equally likely and in no order."""

    options: Sequence[Any]
    name: ClassVar[str] = "choice"

    def __post_init__(self) -> None:
        try:
            options = listed(self.options, "options")
        except ParameterError as error:
            raise ParameterError(f"{self.name}({short(self.options)}): {error}") from None
        object.__setattr__(self, "options", options)

    def at(self, u: float) -> Any:
        """Return one of the options, the very object."""
        return self.options[_index(u, len(self.options))]

    def _shown(self) -> Iterator[str]:
        yield short(list(self.options) if isinstance(self.options, tuple) else self.options)

    def _fields_to_json(self, encode: Callable[[Any], Any]) -> dict[str, Any]:
        return {"options": listing_to_json(self.options, encode)}

    @classmethod
    def _fields_from_json(cls, data: Mapping[str, Any], decode: Callable[[Any], Any]) -> dict[str, Any]:
        return {"options": listing_from_json(data["options"], decode)}


@dataclass(frozen=True, repr=False)
class OrdinalSpace(ChoiceSpace):
    """Values of any types, all equally likely, in the order given: a search may take neighbours to be alike."""

    name: ClassVar[str] = "ordinal"


def uniform(low: float, high: float) -> UniformSpace:
    """Return floats from `low` to `high`, all equally likely.

    >>> uniform(0, 10).at(0.25)
    2.5
    """
    return UniformSpace(low, high)


def loguniform(low: float, high: float) -> LogUniformSpace:
    """Return floats from `low` (above 0) to `high`, whose logarithms are equally likely.

    >>> [loguniform(1e-4, 1).at(u) for u in (0, 0.25, 0.5, 0.75)]
    [0.0001, 0.001, 0.01, 0.1]
    """
    return LogUniformSpace(low, high)


def quniform(low: float, high: float, q: float) -> QUniformSpace:
    """Return the floats `low`, ``low + q``, ``low + 2 * q``... up to `high`, all equally likely.

    `high` is among them where it is a whole number of steps away, as in Optuna; for whole numbers in steps write
    ``ordinal(range(32, 257, 32))``.

    >>> [quniform(0, 1, 0.25).at(u) for u in (0, 0.3, 0.99)]
    [0.0, 0.25, 1.0]
    """
    return QUniformSpace(low, high, q)


def randint(low: int, high: int) -> RandintSpace:
    """Return whole numbers from `low` to `high`, **both included**, all equally likely.

    That is as Optuna's ``suggest_int`` and Python's ``random.randint`` do; NumPy's and Ray's ``randint`` leave `high` out.

    >>> [randint(1, 6).at(u) for u in (0, 0.5, 0.99)]
    [1, 4, 6]
    """
    return RandintSpace(low, high)


def lograndint(low: int, high: int) -> LogRandintSpace:
    """Return whole numbers from `low` (1 or more) to `high`, **both included**, small ones more likely.

    >>> [lograndint(1, 1000).at(u) for u in (0, 0.5, 0.99)]
    [1, 22, 927]
    """
    return LogRandintSpace(low, high)


def normal(mean: float, sd: float) -> NormalSpace:
    """Return floats around `mean` with the standard deviation `sd`.

    >>> normal(10, 2).at(0.5)
    10.0
    """
    return NormalSpace(mean, sd)


def choice(options: Sequence[Any]) -> ChoiceSpace:
    """Return values of any types, all equally likely; a plain list in `random` and `search` means the same.

    >>> choice(["adam", "sgd", None]).at(0.9) is None
    True
    """
    return ChoiceSpace(options)


def ordinal(options: Sequence[Any]) -> OrdinalSpace:
    """Return values of any types in the order given, all equally likely: a search may take neighbours to be alike.

    >>> ordinal([16, 32, 64, 128]).at(0.6)
    64
    """
    return OrdinalSpace(options)


def as_spaces(given: Mapping[str, Any]) -> dict[str, Space]:
    """Return a space for each key, a list as a choice; raise ParameterError that names the wrong key."""
    spaces = {
        key: value if isinstance(value, Space) else ChoiceSpace(listed(value, key)) for key, value in given.items()
    }
    parents_first(spaces)
    return spaces


def parents_first(spaces: Mapping[str, Space]) -> tuple[str, ...]:
    """Return the keys, each after those that its conditions name; refuse a condition that can never hold."""
    for key, space in spaces.items():
        for condition in space.conditions:
            _check_condition(key, condition, spaces)
    ordered: dict[str, None] = {}
    for key in spaces:
        _add_parents(key, spaces, ordered, ())
    return tuple(ordered)


def draw(spaces: Mapping[str, Space], order: Sequence[str], u: Callable[[str], float]) -> dict[str, Any]:
    """Return the values at the numbers that `u` gives for each key, without those whose conditions do not hold.

    `order` is from `parents_first`; the result has the order of `spaces`.
    """
    params: dict[str, Any] = {}
    for key in order:
        if all(condition.holds(params) for condition in spaces[key].conditions):
            params[key] = spaces[key].at(u(key))
    return {key: params[key] for key in spaces if key in params}


def _check_condition(key: str, condition: Condition, spaces: Mapping[str, Space]) -> None:
    if condition.key not in spaces:
        raise ParameterError(
            f"{key}={spaces[key]!r} depends on {condition.key!r}, which is not swept. "
            f"{nearest(condition.key, spaces.keys() - {key})}"
        )
    parent = spaces[condition.key]
    if isinstance(parent, ChoiceSpace):
        lost = [v for v in condition.values if not any(_same(v, option) for option in parent.options)]
        if lost:
            texts = isinstance(lost[0], str) and all(isinstance(option, str) for option in parent.options)
            allowed = nearest(lost[0], parent.options) if texts else f"Allowed: {short(list(parent.options))}."
            raise ParameterError(
                f"{key}={spaces[key]!r} depends on {condition.key}={lost[0]!r}, a value that {condition.key!r} never has. {allowed}"
            )


def _add_parents(key: str, spaces: Mapping[str, Space], ordered: dict[str, None], below: tuple[str, ...]) -> None:
    if key in below:
        circle = " -> ".join([*below[below.index(key) :], key])
        raise ParameterError(f"The conditions of {key!r} are circular: {circle}. Remove one .when().")
    if key not in ordered:
        for condition in spaces[key].conditions:
            _add_parents(condition.key, spaces, ordered, (*below, key))
        ordered[key] = None


def _index(u: float, count: int) -> int:
    """Return one of `count` equally likely indexes: exact for counts that a float cannot hold."""
    return (int(u * 2**53) * count) >> 53


def _rounded(value: float | Decimal) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _within(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _power(low: Decimal, high: Decimal, u: float) -> Decimal:
    return _EXACT.exp(_EXACT.add(low, _EXACT.multiply(_EXACT.subtract(high, low), Decimal(u))))


def _written(value: float) -> Decimal:
    return Decimal(repr(value))


def _floor(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_FLOOR))
