"""Cells drawn from spaces."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlfn.errors import OptionError, nearest
from mlfn.sweep.cells import Cells, check_keys, keywords
from mlfn.sweep.listing import short
from mlfn.sweep.points import METHODS
from mlfn.sweep.space import Space, as_spaces, draw, parents_first

if TYPE_CHECKING:
    from typing_extensions import Self


class Random(Cells):
    """Cells drawn from spaces; each depends on seed, number and key alone.

    Adding a key leaves the values of the others as they are (with ``"qmc"``, adding it behind them).

    Parameters
    ----------
    spaces: a distribution for each key; a plain list is a choice.
    n: how many cells.
    seed: None draws one; it is kept, and shown, so that the same cells can be had again.
    method: ``"random"`` draws each cell by itself; ``"latin"`` cuts each key's distribution into `n` equal shares and
        takes a value of every share; ``"qmc"`` follows a scrambled Halton sequence, which spreads any first k cells evenly.

    >>> from mlfn.sweep.space import randint, uniform
    >>> Random({"depth": randint(2, 32), "lr": uniform(0, 1)}, n=50, seed=7)[0]
    {'depth': 18, 'lr': 0.261209074337}
    """

    name = "random"

    def __init__(
        self, spaces: Mapping[str, Space | Sequence[Any]], *, n: int, seed: int | None = None, method: str = "random"
    ) -> None:
        check_keys(spaces)
        self.spaces = as_spaces(spaces)
        self.n = _whole_number("n", n, "how many cells to draw, as in n=50")
        if self.n < 1:
            raise OptionError(f"n={n!r} is no number of cells: give 1 or more, as in n=50.")
        self.seed = secrets.randbits(32) if seed is None else _whole_number("seed", seed, "as in seed=7")
        if method not in METHODS:
            raise OptionError(f"method={method!r} is unknown: {nearest(str(method), METHODS)}")
        self.method = method
        self._order = parents_first(self.spaces)
        self._points = METHODS[method](seed=self.seed, n=self.n, keys=tuple(self.spaces))
        super().__init__(self.n)

    @property
    def _whole_size(self) -> int:
        return self.n

    def _params(self, position: int) -> dict[str, Any]:
        return draw(self.spaces, self._order, lambda key: self._points.u(position, key))

    def seeded(self, seed: int) -> Random:
        """Return the same numbers, drawn by another seed."""
        other = Random(self.spaces, n=self.n, seed=seed, method=self.method)
        other._see(self.iterations)
        return other

    def _arguments(self) -> Iterator[str]:
        yield f"n={self.n}, seed={self.seed}"
        if self.method != "random":
            yield f"method={self.method!r}"
        yield from keywords(self.spaces)

    def _to_json(self, encode: Callable[[Any], Any]) -> dict[str, Any]:
        spaces = [[key, space.to_json(encode)] for key, space in self.spaces.items()]
        return {"spaces": spaces, "n": self.n, "seed": self.seed, "method": self.method}

    @classmethod
    def _from_json(cls, data: Mapping[str, Any], decode: Callable[[Any], Any]) -> Self:
        spaces = {key: Space.from_json(space, decode) for key, space in data["spaces"]}
        return cls(spaces, n=data["n"], seed=data["seed"], method=data["method"])


def _whole_number(name: str, value: Any, example: str) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise OptionError(f"{name}={short(value)} ({type(value).__name__}) must be a whole number: {example}.")
    return int(value.__index__())
