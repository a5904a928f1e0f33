"""What users write as text: a selector such as ``max.accuracy@best``, a condition such as ``accuracy > 0.97 or elapsed > 2h``.

A condition is split into tokens here. Python's parser then reads it with stand-ins for numbers and metrics, for the shape
of the tree alone: nothing is ever evaluated as Python.

>>> parse_selector("min.val.loss@last")
Selector(direction='min', name='val.loss', reduce='last')
>>> parse_condition("accuracy > 0.97 or elapsed > 10m").holds({"accuracy": 0.5}, {"elapsed": 601})
True
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Mapping, Sequence

from mlfn.errors import OptionError, nearest
from mlfn.host.frozen import frozen
from mlfn.sweep.conditions.tree import ARITHMETIC, OPPOSITE, Condition, Variable

WORDS: Mapping[str, str] = {
    "elapsed": "seconds since the sweep began",
    "started": "children started",
    "finished": "children that ended, in whatever way",
    "failed": "children that failed",
    "best": "the best value so far of the first selector",
    "stagnation": "children that ended since the best one did",
}
DIRECTIONS = ("max", "min")
REDUCTIONS = ("last", "best", "min", "max")


# -- selectors
@frozen
class Selector:
    """Which child is best: the one whose metric is highest (``max``) or lowest (``min``).

    Parameters
    ----------
    direction: ``"max"`` or ``"min"``.
    name: of the metric, or of an output that is a number.
    reduce: which point of a series counts: the last one, the best by `direction`, the lowest or the highest.
    """

    direction: str
    name: str
    reduce: str = "last"

    def __str__(self) -> str:
        return f"{self.direction}.{self.name}" + (f"@{self.reduce}" if self.reduce != "last" else "")

    def is_better(self, value: float, other: float) -> bool:
        """Return whether a value beats another; NaN and infinities never do, and lose to any number."""
        if not math.isfinite(value):
            return False
        if not math.isfinite(other):
            return True
        return value > other if self.direction == "max" else value < other


# How a direction is written elsewhere.
_DIRECTION = re.compile(r"(max|min)(?:imi[sz]e|imum)?", re.IGNORECASE)


def parse_selector(text: str) -> Selector:
    """Return a selector: ``max.accuracy``, ``min.val.loss@best``, or a bare name, of which the highest is best."""
    if not isinstance(text, str) or not text.strip():
        raise OptionError(f"select={text!r} is no selector: write a text such as 'max.accuracy' or 'min.loss@best'.")
    whole, at, reduce = text.strip().partition("@")
    if at and reduce not in REDUCTIONS:
        raise OptionError(f"select={text!r}: {reduce!r} is no point of a series. {nearest(reduce, REDUCTIONS)}")
    head, dot, name = whole.partition(".")
    has_direction = bool(dot) and head in DIRECTIONS
    if not has_direction and (meant := _DIRECTION.fullmatch(head)) is not None:
        wanted = f"{meant[1].lower()}.{name or 'accuracy'}"
        raise OptionError(f"select={text!r}: write {wanted!r}. Allowed: max.NAME, min.NAME, NAME.")
    direction, name = (head, name) if has_direction else ("max", whole)
    if not name or name != name.strip() or not all(name.split(".")):
        raise OptionError(f"select={text!r} names no metric: write a text such as 'max.accuracy' or 'min.loss@best'.")
    return Selector(direction, name, reduce or "last")


def parse_selectors(texts: Sequence[str]) -> tuple[Selector, ...]:
    """Return several selectors; two of one metric and point are refused."""
    selectors = tuple(map(parse_selector, texts))
    for index, one in enumerate(selectors):
        if any((one.name, one.reduce) == (other.name, other.reduce) for other in selectors[:index]):
            raise OptionError(f"select={list(map(str, selectors))!r} names {one.name!r} twice: leave one of them out.")
    return selectors


# -- conditions
_LONGEST = 4000
_DEEPEST = 100  # levels of a tree, so that it never exhausts the stack

_UNITS: Mapping[str, float] = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_KEYWORDS = ("and", "or", "not")
_INFIXES = ("+", "-", "*", "/", "%", "<", "<=", ">", ">=", "==", "!=", "and", "or")
_TOKEN = re.compile(
    r"""(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?P<unit>[^\W\d]*)
      |  (?P<name>[^\W\d]\w*(?:\.\w+)*)
      |  (?P<quoted>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
      |  (?P<sign><=|>=|==|!=|[-+*/%<>()])
      |  (?P<space>\s+)""",
    re.VERBOSE | re.DOTALL,
)
_INSTEAD = {
    "&": "and",
    "|": "or",
    "!": "not",
    "=": "==",
    "≥": ">=",
    "≤": "<=",
    "≠": "!=",
    "^": "*",
    "'": "a closing quote",
}
_NODES: tuple[type[ast.AST], ...] = (ast.BoolOp, ast.UnaryOp, ast.Compare, ast.BinOp, ast.Name, ast.Constant, ast.Load)
_OPERATORS: tuple[type[ast.AST], ...] = (ast.And, ast.Or, ast.Not, ast.UAdd, ast.USub, *OPPOSITE, *ARITHMETIC)


def parse_condition(text: str, *, option: str = "stop_when", words: Mapping[str, str] = WORDS) -> Condition:
    """Return a condition; raise OptionError that points at what is wrong.

    Parameters
    ----------
    option: what the errors call it.
    words: what is known of the sweep itself; every other name is a metric, and so is one in quotes.
    """
    if not isinstance(text, str):
        raise OptionError(f"{option}={text!r} is no condition: write a text such as 'accuracy > 0.97'.")
    if len(text) > _LONGEST:
        raise OptionError(
            f"{option} has {len(text)} characters. Allowed: {_LONGEST}. Compute a metric in the function instead."
        )
    return Condition(text, *_Reader(text, option, words).read())


def parse_constraint(text: str) -> Condition:
    """Return a condition on a child's own metrics, as in ``subject_to="mem_gb <= 16"``."""
    return parse_condition(text, option="subject_to", words={})


def parse_constraints(texts: Sequence[str]) -> tuple[Condition, ...]:
    """Return several constraints."""
    return tuple(map(parse_constraint, texts))


@frozen
class _Token:
    text: str
    start: int
    operand: float | Variable | None = None


class _Reader:
    """Reads one condition."""

    def __init__(self, text: str, option: str, words: Mapping[str, str]) -> None:
        self._text, self._option, self._words = text.lstrip(), option, words

    def read(self) -> tuple[ast.expr, dict[int, float | Variable]]:
        """Return tree and operands, which have stand-ins of their length while Python reads the text."""
        tokens = list(self._tokens())
        self._check_order(tokens)
        source = [" "] * len(self._text)
        for token in tokens:
            source[token.start : token.start + len(token.text)] = _stand_in(token)
        try:
            tree = ast.parse("".join(source), mode="eval").body
        except SyntaxError as error:  # parentheses that do not match, or too many
            raise self._error((error.offset or 1) - 1, error.msg) from None
        except (RecursionError, MemoryError):
            raise self._error(0, "It is nested too deeply") from None
        self._check(tree)
        return tree, {token.start: token.operand for token in tokens if token.operand is not None}

    def _tokens(self) -> Iterator[_Token]:
        position = 0
        while position < len(self._text):
            match = _TOKEN.match(self._text, position)
            if match is None:
                letter = self._text[position]
                instead = f": write {_INSTEAD[letter]}" if letter in _INSTEAD else ""
                raise self._error(position, f"{letter!r} is no part of a condition{instead}")
            if match.lastgroup != "space":
                yield _Token(match[0], position, self._operand(match))
            position = match.end()

    def _operand(self, match: re.Match[str]) -> float | Variable | None:
        text = match[0]
        if match.lastgroup == "unit":
            return self._number(match)
        if match.lastgroup == "quoted":
            if len(text) == 2:
                raise self._error(match.start(), "An empty text names no metric")
            return Variable(re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL))
        return None if match.lastgroup == "sign" or text in _KEYWORDS else Variable(text, text in self._words)

    def _number(self, match: re.Match[str]) -> float:
        text, unit = match["number"], match["unit"]
        if unit and unit not in _UNITS:
            # So that the hint for 10min is m, and for 10sec s.
            near = unit[0] if unit[0] in _UNITS and len(unit) > 1 else unit
            raise self._error(match.start(), f"{unit!r} is no unit of time. {nearest(near, _UNITS)} As in {text}m")
        if not math.isfinite(float(text)):
            raise self._error(match.start(), f"{match[0][:20]} is more than a float can hold")
        return float(text) * _UNITS.get(unit, 1.0)

    def _check_order(self, tokens: Sequence[_Token]) -> None:
        """Refuse what Python's parser would, but for parentheses, in the words of a condition."""
        before, after_value = "", False
        for token in (*tokens, _Token("", len(self._text))):
            text, is_operand = token.text, token.operand is not None
            if after_value and (is_operand or text not in ("", ")", *_INFIXES)):
                hint = f" {nearest(text, _KEYWORDS)}" if text.isidentifier() else ""
                raise self._error(token.start, f"Expected the end, 'and', 'or' or an operator.{hint}")
            is_not = text == "not" and before in ("", "(", *_KEYWORDS)
            if not after_value and not (is_operand or text in ("(", "-", "+") or is_not):
                found = repr(text) if text else "the end"
                raise self._error(token.start, f"Expected a metric, a number or '(', and found {found}")
            before, after_value = text, is_operand or text == ")"

    def _check(self, node: ast.expr, *, wants_truth: bool = True, level: int = 0) -> None:
        """Refuse numbers in place of truths, truths in place of numbers, and every node but those allowed."""
        start, text = node.col_offset, self._text[node.col_offset : node.end_col_offset]
        is_truth = isinstance(node, (ast.BoolOp, ast.Compare)) or isinstance(getattr(node, "op", None), ast.Not)
        if level > _DEEPEST:
            raise self._error(start, f"It has more than {_DEEPEST} levels: compute a metric in the function instead")
        if wants_truth and not is_truth:
            raise self._error(start, f"{text} is a number, and a condition compares: write, say, {text} > 0.9")
        if is_truth and not wants_truth:
            raise self._error(start, f"{text} is true or false, and a number is expected here")
        for part in ast.iter_child_nodes(node):
            if not isinstance(part, (*_NODES, *_OPERATORS)):
                raise self._error(start, f"{text} is no part of a condition")
            if isinstance(part, ast.expr):
                self._check(part, wants_truth=is_truth and not isinstance(node, ast.Compare), level=level + 1)

    def _error(self, position: int, why: str) -> OptionError:
        line = self._text.replace("\n", " ").replace("\t", " ")
        return OptionError(f"{self._option}: {why}{'' if why.endswith('.') else '.'}\n  {line}\n  {' ' * position}^")


def _stand_in(token: _Token) -> str:
    if token.operand is None:
        return token.text
    # A quote may follow a keyword directly; there a letter would become part of it.
    return f"'{'_' * (len(token.text) - 2)}'" if token.text[0] in "'\"" else "_" * len(token.text)
