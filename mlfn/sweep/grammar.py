"""What users write as text: a selector such as ``max.accuracy@best``, a condition such as ``accuracy > 0.97 or elapsed > 2h``.

Parsed here, by hand; nothing is ever evaluated as Python.

>>> parse_selector("min.val.loss@last")
Selector(direction='min', name='val.loss', reduce='last')
>>> parse_condition("accuracy > 0.97 or elapsed > 10m").holds({"accuracy": 0.5}, {"elapsed": 601})
True
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from mlfn.errors import OptionError, nearest
from mlfn.sweep.condition import (
    COMPARISONS,
    KEYWORDS,
    PLAIN_NAME,
    UNITS,
    And,
    Arithmetic,
    Comparison,
    Condition,
    Metric,
    Minus,
    Not,
    Number,
    Numeric,
    Or,
    Truth,
    Word,
    depth,
)

N = TypeVar("N")

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

_LONGEST = 4000
_DEEPEST = 60


# -- selectors
@dataclass(frozen=True)
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

    def reduced(self, series: Sequence[float]) -> float | None:
        """Return the point that counts, in the order of logging; NaN never does but as the last. None of an empty one."""
        if self.reduce == "last":
            return series[-1] if series else None
        numbers = [value for value in series if not math.isnan(value)]
        highest = "max" in (self.reduce, self.direction if self.reduce == "best" else "")
        return (max if highest else min)(numbers, default=None)

    def is_better(self, value: float, other: float) -> bool:
        """Say whether a value beats another; NaN and infinities never do, and lose to any number."""
        if not math.isfinite(value):
            return False
        if not math.isfinite(other):
            return True
        return value > other if self.direction == "max" else value < other


_MEANT = {
    "maximize": "max",
    "maximise": "max",
    "maximum": "max",
    "minimize": "min",
    "minimise": "min",
    "minimum": "min",
}


def parse_selector(text: str) -> Selector:
    """Return a selector: ``max.accuracy``, ``min.val.loss@best``, or a bare name, of which the highest is best."""
    if isinstance(text, Selector):
        return text
    if not isinstance(text, str) or not text.strip():
        raise OptionError(f"select={text!r} is no selector: write a text such as 'max.accuracy' or 'min.loss@best'.")
    whole, at, reduce = text.strip().partition("@")
    if at and reduce not in REDUCTIONS:
        raise OptionError(f"select={text!r}: {reduce!r} is no point of a series. {nearest(reduce, REDUCTIONS)}")
    head, dot, name = whole.partition(".")
    direction = head if dot and head in DIRECTIONS else "max"
    meant = _MEANT.get(head.lower(), head.lower() if head.lower() in DIRECTIONS else None)
    if meant is not None and (not dot or head not in DIRECTIONS):
        raise OptionError(
            f"select={text!r}: write {meant + '.' + (name or 'accuracy')!r}. Allowed: max.NAME, min.NAME, NAME."
        )
    name = name if dot and head in DIRECTIONS else whole
    if not name or name != name.strip() or not all(name.split(".")):
        raise OptionError(f"select={text!r} names no metric: write a text such as 'max.accuracy' or 'min.loss@best'.")
    return Selector(direction, name, reduce or "last")


def parse_selectors(given: str | Selector | Sequence[str | Selector]) -> tuple[Selector, ...]:
    """Return one selector or several; two of one metric and point are refused."""
    texts: Sequence[Any] = [given] if isinstance(given, (str, Selector)) else given
    if not isinstance(texts, (list, tuple)) or not texts:
        raise OptionError(f"select={given!r} is no selector: write 'max.accuracy', or a list of several.")
    selectors = tuple(map(parse_selector, texts))
    for index, one in enumerate(selectors):
        if any((one.name, one.reduce) == (other.name, other.reduce) for other in selectors[:index]):
            raise OptionError(f"select={list(map(str, selectors))!r} names {one.name!r} twice: leave one of them out.")
    return selectors


# -- conditions
def parse_condition(text: str, *, option: str = "stop_when", words: Mapping[str, str] = WORDS) -> Condition:
    """Return a condition; raise OptionError that points at what is wrong.

    Parameters
    ----------
    option: what the errors call it.
    words: what is known of the sweep itself; every other name is a metric, and so is one in quotes.
    """
    if isinstance(text, Condition):
        return text
    if not isinstance(text, str):
        raise OptionError(f"{option}={text!r} is no condition: write a text such as 'accuracy > 0.97'.")
    if len(text) > _LONGEST:
        raise OptionError(
            f"{option} has {len(text)} characters. Allowed: {_LONGEST}. Compute a metric in the handler instead."
        )
    return Condition(text, _Parser(text, option, words).parse())


def parse_constraint(text: str) -> Condition:
    """Return a condition on a child's own metrics, as in ``subject_to="mem_gb <= 16"``."""
    return parse_condition(text, option="subject_to", words={})


@dataclass(frozen=True)
class _Token:
    kind: str  # number, name, quoted, sign, end
    text: str
    start: int


_TOKEN = re.compile(
    rf"""(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[^\W\d]*)
      |  (?P<name>{PLAIN_NAME.pattern})
      |  (?P<quoted>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
      |  (?P<sign><=|>=|==|!=|[-+*/%<>()])
      |  (?P<space>\s+)""",
    re.VERBOSE | re.DOTALL,
)
_NUMBER = re.compile(r"(?P<value>[0-9.]+(?:[eE][+-]?[0-9]+)?)(?P<unit>.*)", re.DOTALL)
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


class _Parser:
    """Recursive descent: each method reads one rule of the grammar and leaves the rest.

    ::

        or         = and ("or" and)*
        and        = not ("and" not)*
        not        = "not" not | comparison
        comparison = sum (("<" | "<=" | ">" | ">=" | "==" | "!=") sum)*
        sum        = product (("+" | "-") product)*
        product    = signed (("*" | "/" | "%") signed)*
        signed     = "-" signed | "+" signed | number [unit] | name | "(" or ")"
    """

    def __init__(self, text: str, option: str, words: Mapping[str, str]) -> None:
        self._text, self._option, self._words = text, option, words
        self._tokens = list(self._scan())
        self._at = 0
        self._open = 0

    def parse(self) -> Truth:
        first = self._next
        tree = self._truth(self._or(), first)
        if self._next.kind != "end":
            raise self._error(self._next, "Expected the end, 'and', 'or' or an operator", meant=KEYWORDS)
        return tree

    # -- tokens
    def _scan(self) -> Iterator[_Token]:
        position = 0
        while position < len(self._text):
            match = _TOKEN.match(self._text, position)
            if match is None:
                letter = self._text[position]
                instead = f": write {_INSTEAD[letter]}" if letter in _INSTEAD else ""
                raise self._error(_Token("sign", letter, position), f"{letter!r} is no part of a condition{instead}")
            kind = match.lastgroup or ""
            if kind != "space":
                yield _Token(kind, match[0], position)
            position = match.end()
        yield _Token("end", "", position)

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self, *texts: str) -> _Token | None:
        """Take the next token if it is one of these."""
        token = self._next
        if token.kind not in ("sign", "name") or token.text not in texts:
            return None
        self._at += 1
        return token

    def _error(self, token: _Token, why: str, *, meant: Sequence[str] = ()) -> OptionError:
        line = self._text.replace("\n", " ").replace("\t", " ")
        hint = f" {nearest(token.text, meant)}" if meant and token.kind == "name" else ""
        return OptionError(f"{self._option}: {why}.{hint}\n  {line}\n  {' ' * token.start}^")

    # -- truths
    def _or(self) -> Numeric | Truth:
        return self._joined("or", self._and, Or)

    def _and(self) -> Numeric | Truth:
        return self._joined("and", self._not, And)

    def _joined(self, word: str, part: Any, join: type[And | Or]) -> Numeric | Truth:
        first = self._next
        node: Numeric | Truth = part()
        if self._next.text != word or self._next.kind != "name":
            return node
        operands = [self._truth(node, first)]
        while self._take(word):
            first = self._next
            operands.append(self._truth(part(), first))
        return self._bounded(join(tuple(operands)), first)

    def _not(self) -> Numeric | Truth:
        taken = self._take("not")
        if taken is None:
            return self._comparison()
        self._enter(taken)
        first = self._next
        node = Not(self._truth(self._not(), first))
        self._open -= 1
        return node

    def _comparison(self) -> Numeric | Truth:
        first = self._next
        node = self._sum()
        if self._next.kind != "sign" or self._next.text not in COMPARISONS:
            return node
        numbers, signs = [self._numeric(node, first)], []
        while (sign := self._take(*COMPARISONS)) is not None:
            first = self._next
            signs.append(sign.text)
            numbers.append(self._numeric(self._sum(), first))
        return self._bounded(Comparison(tuple(numbers), tuple(signs)), first)

    def _truth(self, node: Numeric | Truth, first: _Token) -> Truth:
        if isinstance(node, (Comparison, Not, And, Or)):
            return node
        raise self._error(first, f"{node} is a number, and a condition compares: write, say, {node} > 0.9")

    # -- numbers
    def _numeric(self, node: Numeric | Truth, first: _Token) -> Numeric:
        if isinstance(node, (Comparison, Not, And, Or)):
            raise self._error(first, f"({node}) is true or false, and a number is expected here")
        return node

    def _sum(self) -> Numeric | Truth:
        return self._chain(("+", "-"), self._product)

    def _product(self) -> Numeric | Truth:
        return self._chain(("*", "/", "%"), self._signed)

    def _chain(self, signs: tuple[str, ...], part: Any) -> Numeric | Truth:
        first = self._next
        node: Numeric | Truth = part()
        while (sign := self._take(*signs)) is not None:
            left = self._numeric(node, first)
            after = self._next
            node = self._bounded(Arithmetic(left, sign.text, self._numeric(part(), after)), sign)
        return node

    def _signed(self) -> Numeric | Truth:
        sign = self._take("-", "+")
        if sign is None:
            return self._single()
        self._enter(sign)
        first = self._next
        operand = self._numeric(self._signed(), first)
        self._open -= 1
        return Minus(operand) if sign.text == "-" else operand

    def _single(self) -> Numeric | Truth:
        token = self._next
        self._at += token.kind != "end"
        if token.kind == "number":
            return self._number(token)
        if token.kind == "quoted":
            return self._quoted(token)
        if token.kind == "name" and token.text not in KEYWORDS:
            return Word(token.text) if token.text in self._words else Metric(token.text)
        if token.text == "(" and token.kind == "sign":
            return self._parenthesised(token)
        shown = "the end" if token.kind == "end" else repr(token.text)
        raise self._error(token, f"Expected a metric, a number or '(', and found {shown}")

    def _parenthesised(self, opening: _Token) -> Numeric | Truth:
        self._enter(opening)
        node = self._or()
        self._open -= 1
        if self._take(")") is None:
            raise self._error(self._next if self._next.kind != "end" else opening, "Expected ')' for this parenthesis")
        return node

    def _number(self, token: _Token) -> Number:
        match = _NUMBER.fullmatch(token.text)
        assert match is not None  # the scanner took it for one
        value, unit = float(match["value"]), match["unit"]
        if unit and unit not in UNITS:
            # A hint for minutes that are written min, seconds that are written sec.
            near = unit[0] if unit[0] in UNITS and len(unit) > 1 else unit
            raise self._error(token, f"{unit!r} is no unit of time. {nearest(near, UNITS)} As in {match['value']}m")
        if not math.isfinite(value):
            raise self._error(token, f"{token.text[:20]} is more than a float can hold")
        return Number(value, unit)

    def _quoted(self, token: _Token) -> Metric:
        name = re.sub(r"\\(.)", r"\1", token.text[1:-1], flags=re.DOTALL)
        if not name:
            raise self._error(token, "An empty text names no metric")
        is_special = name in self._words
        return Metric(name, quoted=is_special)

    # -- bounds: a text must not exhaust the stack, here or where the tree is walked
    def _enter(self, token: _Token) -> None:
        self._open += 1
        if self._open > _DEEPEST:
            raise self._error(token, f"It is nested deeper than {_DEEPEST} levels")

    def _bounded(self, node: N, token: _Token) -> N:
        if depth(node) > 2 * _DEEPEST:
            raise self._error(token, f"It has more than {2 * _DEEPEST} levels: compute a metric in the handler instead")
        return node
