"""Choosers build a sweep's strategy at submit, once `select` and `parallel` are known."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mlfn.errors import OptionError, SweepError
from mlfn.sweep.conditions.grammar import parse_selector
from mlfn.sweep.options import SweepOptions
from mlfn.sweep.spaces.distributions import ChoiceSpace, Space
from mlfn.sweep.strategies.cells import Cells, ListedCells
from mlfn.sweep.strategies.random import Random
from mlfn.sweep.strategies.rows import Rows
from mlfn.sweep.strategy import Strategy

_PROBES = (
    10_000  # values of one key that are checked before anything starts; later ones are checked when their child starts
)
_NEEDS_OBJECTIVE = "needs an objective: give with_options(select='max.accuracy'), or 'min.' and a metric"


class Chooser(ABC):
    """Makes the strategy that will choose the parameters."""

    keys: tuple[str, ...] = ()
    size: int | None = None
    same_keys = True  # whether every child has all the keys
    unseeded = False  # whether it draws by a seed that the caller did not give

    @abstractmethod
    def strategy(self, options: SweepOptions) -> Strategy:
        """Return a strategy that has seen no results yet."""

    def view(self, cells: Cells) -> Chooser:
        """Return a chooser of some of its cells."""
        raise NotImplementedError

    def seeded(self, seed: int) -> Chooser:
        """Return a chooser that draws by this seed."""
        raise OptionError(f"seed={seed!r}: nothing is drawn here; leave it out.")

    @property
    def cells(self) -> Cells | None:
        """The cells, where all are known beforehand."""
        return None

    def rows(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield iteration and parameters of the children that must be checked one by one before anything starts."""
        return iter(())

    def probes(self) -> Iterator[Mapping[str, Any]]:
        """Yield sample points that are checked, in place of all, before anything starts."""
        return iter(())


@dataclass(frozen=True)
class FromCells(Chooser):
    """Grid, zip and random."""

    known: Cells
    unseeded: bool = False

    def __repr__(self) -> str:
        return repr(self.known)

    @property
    def keys(self) -> tuple[str, ...]:  # type: ignore[override]
        """The swept names."""
        return self.known.keys

    @property
    def size(self) -> int | None:  # type: ignore[override]
        """How many children there are."""
        return self.known.size

    @property
    def cells(self) -> Cells | None:
        """The cells."""
        return self.known

    def view(self, cells: Cells) -> Chooser:
        """Return a chooser of some of the cells."""
        return replace(self, known=cells)

    def strategy(self, options: SweepOptions) -> Strategy:
        """Return the cells themselves."""
        return self.known

    def seeded(self, seed: int) -> Chooser:
        """Return other cells of the same spaces."""
        if not isinstance(self.known, Random):
            return super().seeded(seed)
        return FromCells(self.known.seeded(seed))

    def probes(self) -> Iterator[Mapping[str, Any]]:
        """Yield each value of the lists once, or the ends of each space."""
        if isinstance(self.known, Random):
            yield from _space_probes(self.known.spaces)
        elif isinstance(self.known, ListedCells):
            for key, values in self.known.values.items():
                yield from ({key: values[index]} for index in range(min(len(values), _PROBES)))


@dataclass(frozen=True, repr=False)
class FromRows(FromCells):
    """A list of parameters, where each row may have keys of its own."""

    known: Rows
    same_keys = False

    def rows(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield each row."""
        return zip(self.known.iterations, self.known)


@dataclass(frozen=True)
class FromSearch(Chooser):
    """Adaptive search."""

    spaces: Mapping[str, Space]
    n: int
    arguments: Mapping[str, Any]
    unseeded: bool = False

    def __repr__(self) -> str:
        sampler = self.arguments["sampler"]
        name = sampler if isinstance(sampler, str) else type(sampler).__name__
        spaces = ", ".join(f"{key}={space!r}" for key, space in self.spaces.items())
        return f"chosen by {name} ({spaces})"

    @property
    def keys(self) -> tuple[str, ...]:  # type: ignore[override]
        """The swept names."""
        return tuple(self.spaces)

    @property
    def size(self) -> int | None:  # type: ignore[override]
        """How many children there are."""
        return self.n

    def strategy(self, options: SweepOptions) -> Strategy:
        """Return a search in the directions that are selected."""
        from mlfn.sweep.optuna import Search

        if not options.select:
            raise SweepError(f"A search {_NEEDS_OBJECTIVE}.")
        directions = tuple(parse_selector(text).direction for text in options.select)
        return Search(self.spaces, self.n, directions=directions, parallel=options.parallel or 1, **self.arguments)

    def seeded(self, seed: int) -> Chooser:
        """Return a search by another seed."""
        return replace(self, arguments={**self.arguments, "seed": seed}, unseeded=False)

    def probes(self) -> Iterator[Mapping[str, Any]]:
        """Yield the ends of each space, and the first points."""
        yield from _space_probes(self.spaces)
        yield from self.arguments.get("first") or ()


@dataclass(frozen=True)
class FromUser(Chooser):
    """An iterable of parameters, or an object with ``ask()`` and ``tell()``."""

    make: Callable[[], Strategy]
    size: int | None = None
    needs_values: bool = False  # its tell() takes a score, so `select=` is required

    def __repr__(self) -> str:
        return "chosen while it runs"

    def strategy(self, options: SweepOptions) -> Strategy:
        """Return a new strategy."""
        if self.needs_values and not options.select:
            why = "Without it tell() would get None for each child, as for one that failed."
            raise SweepError(f"An object with ask() and tell() {_NEEDS_OBJECTIVE}. {why}")
        return self.make()


def _space_probes(spaces: Mapping[str, Space]) -> Iterator[Mapping[str, Any]]:
    """Yield the ends of each space, or each of its options."""
    for key, space in spaces.items():
        if isinstance(space, ChoiceSpace):
            yield from ({key: space.options[index]} for index in range(min(len(space.options), _PROBES)))
        else:
            yield from ({key: space.at(u)} for u in (0.0, 0.5, 1 - 2**-53))
