"""A condition that was parsed, and what it means for given numbers.

A comparison with a number that is missing or NaN is neither true nor false, and so is what is made of it; only what is true
satisfies.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from itertools import pairwise
from typing import Any

from mlfn.host.frozen import frozen

ARITHMETIC: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}
OPPOSITE: Mapping[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}
# The least number above 0: how far a strict bound is violated by what lies on it.
_BARELY = math.ulp(0.0)


@frozen
class Variable:
    """A metric of a child, or a word of the sweep itself such as ``elapsed``."""

    name: str
    is_word: bool = False


@frozen
class Condition:
    """A condition that was parsed: ``stop_when``, or a bound in ``subject_to``.

    Parameters
    ----------
    text: as the user wrote it.
    tree: its shape; leaves are names whose column is their key in `operands`.
    operands: numbers (durations in seconds) and variables.
    """

    text: str
    tree: ast.expr = field(repr=False, compare=False)
    operands: Mapping[int, float | Variable] = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self.text

    def names(self) -> frozenset[str]:
        """Return the metrics that it needs."""
        return frozenset(it.name for it in self.operands.values() if isinstance(it, Variable) and not it.is_word)

    def words(self) -> frozenset[str]:
        """Return the sweep's own words that it needs."""
        return frozenset(it.name for it in self.operands.values() if isinstance(it, Variable) and it.is_word)

    def holds(self, metrics: Mapping[str, Any], words: Mapping[str, Any] | None = None) -> bool:
        """Return whether it is true; with a number that is missing or NaN, or a division by zero, it is not."""
        return self.violation(metrics, words) <= 0

    def violation(self, metrics: Mapping[str, Any], words: Mapping[str, Any] | None = None) -> float:
        """Return by how much it is missed: above 0 where it is not true, infinity where that is unknown."""
        numbers = {
            column: float(it)
            if isinstance(it, (float, int))
            else _as_float(((words or {}) if it.is_word else metrics).get(it.name))
            for column, it in self.operands.items()
        }
        return _violation(self.tree, numbers, wanted=True)


def _as_float(value: Any) -> float:
    if isinstance(value, (str, bytes)):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _violation(node: ast.expr, numbers: Mapping[int, float], *, wanted: bool) -> float:
    if isinstance(node, ast.UnaryOp):
        return _violation(node.operand, numbers, wanted=not wanted)
    if isinstance(node, ast.BoolOp):
        misses = [_violation(operand, numbers, wanted=wanted) for operand in node.values]
    else:
        misses = list(_misses(node, numbers, wanted=wanted))
    # An AND is violated by its worst operand, a negated AND by its best; an OR the other way round.
    is_or = isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or)
    return max(misses) if is_or is not wanted else min(misses)


def _misses(node: Any, numbers: Mapping[int, float], *, wanted: bool) -> Iterator[float]:
    """Yield by how much each comparison of a chain is missed, or its opposite."""
    values = [_number(operand, numbers) for operand in (node.left, *node.comparators)]
    for (left, right), op in zip(pairwise(values), node.ops, strict=True):
        yield _miss(left, type(op) if wanted else OPPOSITE[type(op)], right)


def _miss(left: float, op: type[ast.cmpop], right: float) -> float:
    if math.isnan(left) or math.isnan(right):
        return math.inf
    if left == right:
        return 0.0 if op in (ast.LtE, ast.GtE, ast.Eq) else _BARELY
    if op in (ast.Eq, ast.NotEq):
        return abs(left - right) if op is ast.Eq else -abs(left - right)
    return left - right if op in (ast.Lt, ast.LtE) else right - left


def _number(node: Any, numbers: Mapping[int, float]) -> float:
    if isinstance(node, ast.UnaryOp):
        number = _number(node.operand, numbers)
        return -number if isinstance(node.op, ast.USub) else number
    if not isinstance(node, ast.BinOp):
        return numbers[node.col_offset]
    try:
        return ARITHMETIC[type(node.op)](_number(node.left, numbers), _number(node.right, numbers))
    except ZeroDivisionError:
        return math.nan
