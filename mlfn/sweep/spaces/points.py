"""Seeded points of the unit interval, by cell and key: the same on every machine.

Everything comes from SHA-256 and whole numbers: Python's own generators may change what they shuffle between versions.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from functools import cached_property

_BITS = 53
_LARGEST = 1.0 - 2.0**-_BITS


class IndependentPoints:
    """Each number drawn by itself; of all kinds, `u` gives that of the cell at a position (from 0), ``0 <= u < 1``."""

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
        """Return the image of a position under a permutation of ``range(n)``, without listing it.

        A Feistel network on a rectangle of at least n fields; a result beyond n is permuted again.
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
        # As many digits as a float can hold, leading zeros too: they are permuted as well.
        count = math.ceil(_BITS / math.log2(base))
        while base**count <= position:
            count += 1
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


METHODS: Mapping[str, type[IndependentPoints | LatinPoints | HaltonPoints]] = {
    "random": IndependentPoints,
    "latin": LatinPoints,
    "qmc": HaltonPoints,
}


def _number(use: str, seed: int, key: str, *more: int) -> int:
    """Return 64 bits that no other use draws."""
    # Each use has a text of its own: numbers hold no line break, and the key, which may, comes last.
    text = "\n".join([use, str(seed), *map(str, more), key])
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def _share(number: int) -> float:
    return float(number >> (64 - _BITS)) * 2.0**-_BITS


def _primes(count: int) -> list[int]:
    found: list[int] = []
    candidate = 2
    while len(found) < count:
        if all(candidate % prime for prime in found if prime * prime <= candidate):
            found.append(candidate)
        candidate += 1
    return found
