"""The axes of a drawing: numbers linear or logarithmic, other values in the order of their first appearance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any

from mlfn.host.frozen import frozen
from mlfn.sweep.params.listed import short

_FEW = 8  # values that are all named on their axis
_GAP = 0.06  # between two labels, as a share of the axis
_DECADES = 100  # between the least and the greatest, for an axis to be logarithmic
_ROOM = 0.09  # below the numbers, for children that have none


@frozen
class Axis:
    """One column: a place from 0 (bottom) to 1 for each row, and what stands beside the axis.

    `missing` is where rows without a value lie; None if all have one.
    """

    name: str
    places: tuple[float, ...]
    texts: tuple[str, ...]
    ticks: tuple[tuple[float, str], ...]
    missing: float | None = None
    is_log: bool = False

    @property
    def title(self) -> str:
        """The name, and whether it is logarithmic."""
        return f"{self.name} (log)" if self.is_log else self.name


def axis_of(name: str, values: Sequence[Any], *, log: bool = True) -> Axis:
    """Return the axis of a column; `log` allows one that is logarithmic, where the values span decades."""
    numbers = [number_of(value) for value in values]
    known = sorted({number for number in numbers if number is not None})
    odd = [value for number, value in zip(numbers, values) if number is None and value is not None]
    if not known or not all(isinstance(value, float) for value in odd):
        return _listed(name, values)
    is_log = log and _spans_decades(known)
    floor = _ROOM if None in numbers else 0.0
    # Halved, so that the span of two huge numbers is still a number.
    scaled = math.log10 if is_log else lambda number: number / 2
    low, span = scaled(known[0]), scaled(known[-1]) - scaled(known[0])

    def place(number: float) -> float:
        return floor + (1 - floor) * ((scaled(number) - low) / span if span else 0.5)

    ticks = _spread([(place(value), plain(value)) for value in _marks(known, is_log)])
    return Axis(
        name,
        tuple(0.0 if number is None else place(number) for number in numbers),
        tuple("none" if number is None else text_of(value) for number, value in zip(numbers, values)),
        ((0.0, "none"), *ticks) if floor else ticks,
        0.0 if floor else None,
        is_log,
    )


def number_of(value: Any) -> float | None:
    """Return a finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def text_of(value: Any) -> str:
    """Return a value in a few characters, none of them a control character."""
    said = (
        str(value) if isinstance(value, (str, PurePath)) else plain(value) if isinstance(value, float) else short(value)
    )
    return legible(said if len(said) <= 60 else f"{said[:59]}…")


def legible(text: str) -> str:
    """Return text without control, direction and surrogate characters."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def cut_end(text: str, most: int) -> str:
    """Return the start of a text that is too long."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def cut_start(text: str, most: int) -> str:
    """Return the end of a text that is too long."""
    return text if len(text) <= most else f"…{text[1 - most :]}"


def plain(value: float) -> str:
    """Return a number in few digits."""
    return f"{value:.4g}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")


def _spans_decades(known: Sequence[float]) -> bool:
    """Return whether sorted numbers are more even in their logarithms: draws from 0 to 1 may come near 0 too."""
    low, middle, high = known[0], known[len(known) // 2], known[-1]
    if low <= 0 or high / low < _DECADES:
        return False
    linear = (middle - low) / (high - low)
    logarithmic = math.log(middle / low) / math.log(high / low)
    return abs(logarithmic - 0.5) <= abs(linear - 0.5)


def _listed(name: str, values: Sequence[Any]) -> Axis:
    """Return an axis with the values in the order in which they come first, the first on top."""
    order: dict[tuple[type, str], int] = {}
    found = [order.setdefault((type(value), text_of(value)), len(order)) for value in values]
    last = max(1, len(order) - 1)
    texts = [text for _, text in order]
    ticks = _spread([(1 - place / last if len(order) > 1 else 0.5, text) for place, text in enumerate(texts)])
    places = tuple(1 - place / last if len(order) > 1 else 0.5 for place in found)
    return Axis(name, places, tuple(texts[place] for place in found), ticks)


def _marks(known: Sequence[float], is_log: bool) -> Iterable[float]:  # noqa: FBT001 - of two scales
    """Return the values to name, the two ends first."""
    low, high = known[0], known[-1]
    if len(known) <= _FEW:
        return [low, high, *known[1:-1]]
    if is_log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        inner = [digit * 10.0**power for digit in (1, 2, 5) for power in powers if abs(power) < 300]
    else:
        step = 10.0 ** math.floor(math.log10((high / 2 - low / 2) / 2)) if high / 2 > low / 2 else 0.0
        step = next((step * digit for digit in (1, 2, 5, 10) if step and (high - low) / (step * digit) <= _FEW), 0.0)
        first = math.ceil(low / step) if step and math.isfinite(low / step) else 0
        inner = [(first + index) * step for index in range(_FEW + 1)] if step else []
    return [low, high, *(value for value in inner if low < value < high)]


def _spread(ticks: Sequence[tuple[float, str]]) -> tuple[tuple[float, str], ...]:
    """Leave out those that would stand on one before them; the two ends come before all others."""
    if len(ticks) > 2 and ticks[-1][0] in (0.0, 1.0):
        ticks = [ticks[0], ticks[-1], *ticks[1:-1]]
    kept: list[tuple[float, str]] = []
    for place, text in ticks:
        if all(abs(place - at) >= _GAP for at, _ in kept):
            kept.append((place, text))
    return tuple(sorted(kept))
