"""Imported by a handler while it runs: travels as text."""

from shop.prices import doubled


def four_times(price: float) -> float:
    return doubled(doubled(price))
