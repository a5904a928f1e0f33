"""Points sampled from distributions."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlfn.errors import OptionError, nearest
from mlfn.sweep.params.listed import short
from mlfn.sweep.spaces.distributions import Space, as_spaces, draw, parents_first
from mlfn.sweep.spaces.points import METHODS
from mlfn.sweep.strategies.cells import Cells, check_keys, checked_count, keywords

if TYPE_CHECKING:
    from typing_extensions import Self


class Random(Cells):
    """Points sampled from distributions; each value depends on seed, iteration and key alone.

    Adding a key leaves the values of the others as they are (with ``"qmc"``, adding it behind them).

    Parameters
    ----------
    spaces: a distribution for each key; a plain list is a choice.
    n: how many cells.
    seed: None draws one; it is stored and shown.
    method: ``"random"`` draws each cell by itself; ``"latin"`` cuts each key's distribution into `n` equal shares and
        samples once from each interval; ``"qmc"`` follows a scrambled Halton sequence, which spreads any first k cells evenly.

    >>> from mlfn.sweep.spaces.distributions import randint, uniform
    >>> Random({"depth": randint(2, 32), "lr": uniform(0, 1)}, n=50, seed=7)[0]
    {'depth': 18, 'lr': 0.261209074337}
    """

    name = "random"

    def __init__(
        self, spaces: Mapping[str, Space | Sequence[Any]], *, n: int, seed: int | None = None, method: str = "random"
    ) -> None:
        check_keys(spaces)
        self.spaces = as_spaces(spaces)
        self.n = checked_count(n)
        if isinstance(seed, bool) or not (seed is None or hasattr(seed, "__index__")):
            raise OptionError(f"seed={short(seed)} must be a whole number, as in seed=7.")
        self.seed = secrets.randbits(32) if seed is None else int(seed)
        if method not in METHODS:
            raise OptionError(f"method={method!r} is unknown: {nearest(str(method), METHODS)}")
        self.method = method
        self._order = parents_first(self.spaces)
        self._points = METHODS[method](seed=self.seed, n=self.n, keys=tuple(self.spaces))
        super().__init__(self.n)

    @property
    def keys(self) -> tuple[str, ...]:
        """The swept names."""
        return tuple(self.spaces)

    @property
    def _whole_size(self) -> int:
        return self.n

    def _params(self, position: int) -> dict[str, Any]:
        return draw(self.spaces, self._order, lambda key: self._points.u(position, key))

    def seeded(self, seed: int) -> Random:
        """Return the same numbers, drawn by another seed."""
        return Random(self.spaces, n=self.n, seed=seed, method=self.method).view(self.iterations)

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
