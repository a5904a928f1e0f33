"""What sweeps have in common whose every child can be looked up by its number. Nothing is listed beforehand."""

from __future__ import annotations

import copy
import sys
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, overload

from mlfn.errors import ParameterError
from mlfn.sweep.listing import listed, listing_from_json, listing_to_json, short
from mlfn.sweep.strategy import Strategy

if TYPE_CHECKING:
    from typing_extensions import Self


class Cells(Strategy, Sequence[dict[str, Any]]):
    """Parameters by number; immutable, and lazy: a cell is worked out when it is asked for.

    Indexes count from 0, iterations from 1. A slice is a view whose cells keep the iteration numbers that they have in
    the whole; `ask` goes by these numbers. ``len()`` fails, as Python's own does, beyond ``sys.maxsize``: `size` does not.
    """

    name: ClassVar[str]
    iterations: range
    """The number of each cell, in the order of the cells."""

    size: int

    def __init__(self, count: int) -> None:
        self._see(range(1, count + 1))

    @abstractmethod
    def _params(self, position: int) -> dict[str, Any]:
        """Return the parameters at a position of the whole, from 0."""

    def _see(self, iterations: range) -> None:
        self.iterations = iterations
        # Never None: all cells are known.
        self.size = _length(iterations)  # pyright: ignore[reportIncompatibleVariableOverride]

    def cell(self, index: int) -> dict[str, Any]:
        """Return the parameters at an index of this view; negative ones count from its end."""
        try:
            return self._params(self.iterations[index] - 1)
        except IndexError:
            raise IndexError(f"Cell {index} of {self.size}: indexes go from {-self.size} to {self.size - 1}.") from None

    def following(self, iteration: int) -> int:
        """Return the number of the child after `iteration`: numbers ascend, whichever way the view goes."""
        numbers = self.iterations if self.iterations.step > 0 else self.iterations[::-1]
        if not numbers:
            return 1
        return max(numbers[0], iteration + numbers.step - (iteration - numbers[0]) % numbers.step)

    def ask(self, iteration: int) -> dict[str, Any] | None:
        """Return the parameters of child `iteration`; None after the last. One that a slice leaves out is refused."""
        if iteration in self.iterations:
            return self._params(iteration - 1)
        if not self.iterations or iteration > max(self.iterations[0], self.iterations[-1]):
            return None
        raise ParameterError(f"Iteration {iteration} is not in this slice: it has {self.iterations!r}.")

    def __len__(self) -> int:
        if self.size > sys.maxsize:
            raise OverflowError(f"{self.size} cells are more than len() can say: use .size.")
        return self.size

    def __bool__(self) -> bool:
        return self.size > 0

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | Self:
        if not isinstance(index, slice):
            return self.cell(index)
        view = copy.copy(self)
        view._see(self.iterations[index])
        return view

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self._params(iteration - 1) for iteration in self.iterations)

    def __reversed__(self) -> Iterator[dict[str, Any]]:
        return iter(self[::-1])

    def __repr__(self) -> str:
        view = "" if self._is_whole else f"[iterations {_shown(self.iterations)}]"
        return f"{type(self).__name__}({', '.join(self._arguments())}){view}"

    @property
    @abstractmethod
    def _whole_size(self) -> int: ...

    @property
    def _is_whole(self) -> bool:
        return self.iterations == range(1, self._whole_size + 1)

    @abstractmethod
    def _arguments(self) -> Iterator[str]: ...

    def to_json(self, encode: Callable[[Any], Any]) -> dict[str, Any]:
        """Return what it takes to build it again; `encode` turns one value of any type into JSON."""
        view = self.iterations
        bounds = {} if self._is_whole else {"iterations": [view.start, view.stop, view.step]}
        return {"strategy": self.name, **self._to_json(encode), **bounds}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], decode: Callable[[Any], Any]) -> Self:
        """Rebuild from `to_json`."""
        whole = cls._from_json(data, decode)
        if "iterations" in data:
            whole._see(range(*data["iterations"]))
        return whole

    @abstractmethod
    def _to_json(self, encode: Callable[[Any], Any]) -> dict[str, Any]: ...

    @classmethod
    @abstractmethod
    def _from_json(cls, data: Mapping[str, Any], decode: Callable[[Any], Any]) -> Self: ...


class ListedCells(Cells):
    """Members that go through lists."""

    def __init__(self, values: Mapping[str, Sequence[Any]]) -> None:
        check_keys(values)
        self.values: Mapping[str, Sequence[Any]] = {key: listed(items, key) for key, items in values.items()}
        super().__init__(self._whole_size)

    def _arguments(self) -> Iterator[str]:
        return keywords({key: list(v) if isinstance(v, tuple) else v for key, v in self.values.items()})

    def _to_json(self, encode: Callable[[Any], Any]) -> dict[str, Any]:
        # Pairs, for the order of the keys numbers the cells and a database may not keep that of an object.
        return {"values": [[key, listing_to_json(items, encode)] for key, items in self.values.items()]}

    @classmethod
    def _from_json(cls, data: Mapping[str, Any], decode: Callable[[Any], Any]) -> Self:
        return cls({key: listing_from_json(items, decode) for key, items in data["values"]})


def check_keys(values: Mapping[str, Any]) -> None:
    """Refuse what cannot name swept parameters; a key with dots names a field within a parameter."""
    if not isinstance(values, Mapping):
        raise ParameterError(
            f"{short(values)} ({type(values).__name__}) says not what to sweep: write the parameters by name, "
            "as in depth=[4, 8]."
        )
    if not values:
        raise ParameterError("Nothing is swept: name a parameter and its values, as in depth=[4, 8].")
    for key in values:
        if not isinstance(key, str) or not all(key.split(".")):
            raise ParameterError(f"{key!r} names no parameter: write 'depth', or 'model.depth' for a field within one.")
    refuse_overlap(values)


def refuse_overlap(values: Mapping[str, Any]) -> None:
    """Refuse a parameter together with a field within it."""
    for key in values:
        parts = key.split(".")
        for end in range(1, len(parts)):
            whole = ".".join(parts[:end])
            if whole in values:
                raise ParameterError(f"{key!r} is a part of {whole!r}, which is swept as well: sweep one of them.")


def keywords(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield keys and values as one would write them in a call."""
    plain = all(key.isidentifier() for key in values)
    if plain:
        return (f"{key}={short(value)}" for key, value in values.items())
    return iter(["{" + ", ".join(f"{key!r}: {short(value)}" for key, value in values.items()) + "}"])


def _length(numbers: range) -> int:
    # len() refuses what does not fit a machine word.
    return (numbers[-1] - numbers[0]) // numbers.step + 1 if numbers else 0


def _shown(numbers: range) -> str:
    if not numbers:
        return "none"
    step = f" step {numbers.step}" if numbers.step != 1 else ""
    return f"{numbers[0]}..{numbers[-1]}{step}"
