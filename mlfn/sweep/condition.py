"""Conditions as trees: what they mean for given numbers, and how they are written.

A comparison with a number that is missing or NaN is neither true nor false, and so is what is made of it; only what is true
satisfies.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Union

KEYWORDS = ("and", "or", "not")
UNITS: Mapping[str, float] = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
PLAIN_NAME = re.compile(r"[^\W\d]\w*(?:\.\w+)*")

_ARITHMETIC: Mapping[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": operator.mod,
}
COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}
# The least number above 0: how far a strict bound is violated by what lies on it.
_BARELY = math.ulp(0.0)


# -- numbers
@dataclass(frozen=True)
class Number:
    """A number as written; with a unit of time it counts in seconds."""

    value: float
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.value!r}".removesuffix(".0") + self.unit


@dataclass(frozen=True)
class Metric:
    """What a child reported under a name."""

    name: str
    quoted: bool = False  # a name that is also a word of the sweep, or none that can stand alone

    def __str__(self) -> str:
        if not self.quoted and PLAIN_NAME.fullmatch(self.name) and self.name not in KEYWORDS:
            return self.name
        return "'" + re.sub(r"(['\\])", r"\\\1", self.name) + "'"


@dataclass(frozen=True)
class Word:
    """What the sweep knows of itself, such as the seconds since its start."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Minus:
    """The negative of a number."""

    operand: Numeric

    def __str__(self) -> str:
        return f"-{_inner(self.operand)}"


@dataclass(frozen=True)
class Arithmetic:
    """Two numbers made into one."""

    left: Numeric
    sign: str
    right: Numeric

    def __str__(self) -> str:
        return f"{_inner(self.left)} {self.sign} {_inner(self.right)}"


# -- truths
@dataclass(frozen=True)
class Comparison:
    """Numbers compared each with the next: true if all are."""

    numbers: tuple[Numeric, ...]
    signs: tuple[str, ...]

    def __str__(self) -> str:
        rest = "".join(f" {sign} {number}" for sign, number in zip(self.signs, self.numbers[1:], strict=True))
        return f"{self.numbers[0]}{rest}"


@dataclass(frozen=True)
class Not:
    """True where the other is false."""

    operand: Truth

    def __str__(self) -> str:
        return f"not {_inner(self.operand)}"


@dataclass(frozen=True)
class And:
    """True where all are."""

    operands: tuple[Truth, ...]

    def __str__(self) -> str:
        return " and ".join(map(_inner, self.operands))


@dataclass(frozen=True)
class Or:
    """True where one is."""

    operands: tuple[Truth, ...]

    def __str__(self) -> str:
        return " or ".join(map(_inner, self.operands))


# Unions, not `|`: the classes stand for themselves only in annotations.
Numeric = Union[Number, Metric, Word, Minus, Arithmetic]  # noqa: UP007
Truth = Union[Comparison, Not, And, Or]  # noqa: UP007


def _inner(node: Numeric | Truth) -> str:
    """Write a part of another; in parentheses where it would be read as another."""
    return f"({node})" if isinstance(node, (Arithmetic, Minus, And, Or)) else str(node)


@dataclass(frozen=True)
class Condition:
    """A condition that was parsed: ``stop_when``, or a bound in ``subject_to``.

    Parameters
    ----------
    text: as the user wrote it.
    """

    text: str
    tree: Truth

    def __str__(self) -> str:
        return self.text

    def names(self) -> frozenset[str]:
        """Return the metrics that it speaks of."""
        return frozenset(node.name for node in _walk(self.tree) if isinstance(node, Metric))

    def words(self) -> frozenset[str]:
        """Return the sweep's own words that it speaks of."""
        return frozenset(node.name for node in _walk(self.tree) if isinstance(node, Word))

    def holds(self, metrics: Mapping[str, Any], words: Mapping[str, Any] | None = None) -> bool:
        """Say whether it is true; with a number that is missing or NaN, or a division by zero, it is not."""
        return _truth(self.tree, (metrics, words or {})) is True

    def violation(self, metrics: Mapping[str, Any]) -> float:
        """Return by how much the metrics miss it: above 0 where it is not true, infinity where that is unknown."""
        return _violation(self.tree, (metrics, {}), wanted=True)


_Values = tuple[Mapping[str, Any], Mapping[str, Any]]


def _walk(node: Any) -> Iterator[Any]:
    yield node
    for part in _parts(node):
        yield from _walk(part)


def _parts(node: Any) -> tuple[Any, ...]:
    if isinstance(node, Comparison):
        return node.numbers
    if isinstance(node, (And, Or)):
        return node.operands
    if isinstance(node, (Minus, Not)):
        return (node.operand,)
    return (node.left, node.right) if isinstance(node, Arithmetic) else ()


def depth(node: Any) -> int:
    """Return how deep a tree is."""
    return 1 + max(map(depth, _parts(node)), default=0)


def _number(node: Numeric, values: _Values) -> float:
    if isinstance(node, Number):
        return node.value * UNITS.get(node.unit, 1.0)
    if isinstance(node, (Metric, Word)):
        return _as_float(values[isinstance(node, Word)].get(node.name))
    if isinstance(node, Minus):
        return -_number(node.operand, values)
    try:
        return _ARITHMETIC[node.sign](_number(node.left, values), _number(node.right, values))
    except ZeroDivisionError:
        return math.nan


def _as_float(value: Any) -> float:
    if isinstance(value, (str, bytes)):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _compared(node: Comparison, values: _Values) -> Iterator[tuple[float, str, float]]:
    numbers = [_number(number, values) for number in node.numbers]
    for (left, right), sign in zip(pairwise(numbers), node.signs, strict=True):
        yield left, sign, right


def _truth(node: Truth, values: _Values) -> bool | None:
    """Return True, False, or None for what is unknown."""
    if isinstance(node, Comparison):
        return _all(
            None if math.isnan(left) or math.isnan(right) else COMPARISONS[sign](left, right)
            for left, sign, right in _compared(node, values)
        )
    if isinstance(node, Not):
        inner = _truth(node.operand, values)
        return None if inner is None else not inner
    truths = [_truth(operand, values) for operand in node.operands]
    if isinstance(node, And):
        return _all(iter(truths))
    return True if True in truths else None if None in truths else False


def _all(truths: Iterator[bool | None]) -> bool | None:
    known = list(truths)
    return False if False in known else None if None in known else True


def _violation(node: Truth, values: _Values, *, wanted: bool) -> float:
    if isinstance(node, Not):
        return _violation(node.operand, values, wanted=not wanted)
    if isinstance(node, Comparison):
        pairs = _compared(node, values)
        misses = [_miss(left, sign if wanted else _OPPOSITE[sign], right) for left, sign, right in pairs]
    else:
        misses = [_violation(operand, values, wanted=wanted) for operand in node.operands]
    # What is true of all, wanted, is missed by the worst; of what must not be true of all, the best is enough.
    return max(misses) if isinstance(node, Or) is not wanted else min(misses)


def _miss(left: float, sign: str, right: float) -> float:
    if math.isnan(left) or math.isnan(right):
        return math.inf
    if left == right:
        return 0.0 if sign in ("<=", ">=", "==") else _BARELY
    if sign == "==":
        return abs(left - right)
    if sign == "!=":
        return -abs(left - right)
    return left - right if sign in ("<", "<=") else right - left
