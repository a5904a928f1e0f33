"""Functions of the user's own."""

from __future__ import annotations

import functools
from collections.abc import Callable

RATE = 1.5
RULES: dict[str, Callable[[float], float]] = {}


def rule(function: Callable[[float], float]) -> Callable[[float], float]:
    """Put a function into the table of rules."""

    @functools.wraps(function)
    def counted(price: float) -> float:
        return function(price)

    RULES[function.__name__] = counted
    return counted


@rule
def doubled(price: float) -> float:
    return 2 * price


@rule
def with_tax(price: float) -> float:
    return price * RATE
