"""Points of the unit interval for each cell and key, looked up by number: seeded, and the same on every machine.

Everything comes from SHA-256 and whole numbers: Python's own generators may change what they shuffle between versions.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Protocol

_BITS = 53
_LARGEST = 1.0 - 2.0**-_BITS


class Points(Protocol):
    """Where each cell lies in the unit interval of each key."""

    def u(self, position: int, key: str) -> float:
        """Return the number of the cell at `position` (from 0) for `key`, ``0 <= u < 1``."""
        ...


class IndependentPoints:
    """Each number drawn by itself."""

    def __init__(self, *, seed: int, n: int, keys: tuple[str, ...]) -> None:
        self._seed = seed

    def u(self, position: int, key: str) -> float:
        """Return a number that depends on seed, position and key alone."""
        return _share(_number("cell", self._seed, key, position))


class LatinPoints:
    """One number in each of `n` equal shares of each key's interval, in an order of its own."""

    def __init__(self, *, seed: int, n: int, keys: tuple[str, ...]) -> None:
        self._seed, self._n = seed, n

    def u(self, position: int, key: str) -> float:
        """Return a number in the share that the position has for this key."""
        stratum = self._shuffled(position, key)
        jitter = _share(_number("within", self._seed, key, position))
        return min((stratum + jitter) / self._n, _LARGEST)

    @cached_property
    def _sides(self) -> tuple[int, int]:
        rows = math.isqrt(self._n - 1) + 1
        return rows, -(-self._n // rows)

    def _shuffled(self, position: int, key: str) -> int:
        """Return where a permutation of ``range(n)`` puts a position, without listing it.

        A Feistel network on a rectangle of at least n fields; what falls on one beyond n goes through again.
        """
        rows, columns = self._sides
        while True:
            row, column = divmod(position, columns)
            for turn in range(3):
                row = (row + _number("row", self._seed, key, turn, column)) % rows
                column = (column + _number("column", self._seed, key, turn, row)) % columns
            position = row * columns + column
            if position < self._n:
                return position


class HaltonPoints:
    """A Halton sequence: a prime base for each key, in their order, its digits permuted by the seed."""

    def __init__(self, *, seed: int, n: int, keys: tuple[str, ...]) -> None:
        self._seed = seed
        self._base = dict(zip(keys, _primes(len(keys)), strict=True))
        self._permutations: dict[tuple[str, int], tuple[int, ...]] = {}

    def u(self, position: int, key: str) -> float:
        """Return the position's digits, permuted, behind the point in reverse."""
        base = self._base[key]
        # As many digits as make a difference to a float, whether the position has them or not: zeros are permuted too.
        count = max(math.ceil(_BITS / math.log2(base)), len(_digits(position, base)))
        mirrored = 0
        for place in range(count):
            position, digit = divmod(position, base)
            mirrored = mirrored * base + self._permutation(key, base, place)[digit]
        share: float = mirrored / base**count
        return min(share, _LARGEST)

    def _permutation(self, key: str, base: int, place: int) -> tuple[int, ...]:
        known = self._permutations.get((key, place))
        if known is None:
            known = tuple(sorted(range(base), key=lambda digit: _number("digit", self._seed, key, place, digit)))
            self._permutations[key, place] = known
        return known


METHODS: Mapping[str, Callable[..., Points]] = {
    "random": IndependentPoints,
    "latin": LatinPoints,
    "qmc": HaltonPoints,
}


def _number(use: str, seed: int, key: str, *more: int) -> int:
    """Return 64 bits that are drawn for this use alone."""
    # No two uses give one text: numbers hold no line break, and the key, which may, comes last.
    text = "\n".join([use, str(seed), *map(str, more), key])
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def _share(number: int) -> float:
    return float(number >> (64 - _BITS)) * 2.0**-_BITS


def _digits(number: int, base: int) -> list[int]:
    found = []
    while number:
        number, digit = divmod(number, base)
        found.append(digit)
    return found


def _primes(count: int) -> list[int]:
    found: list[int] = []
    candidate = 2
    while len(found) < count:
        if all(candidate % prime for prime in found if prime * prime <= candidate):
            found.append(candidate)
        candidate += 1
    return found
