"""`Cells`: strategies that know the parameters of every child by its number, and compute them on demand."""

from __future__ import annotations

import copy
import sys
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from mlfn.errors import OptionError, ParameterError
from mlfn.sweep.params.listed import listed, listing_from_json, listing_to_json, short
from mlfn.sweep.strategy import Strategy

if TYPE_CHECKING:
    from typing_extensions import Self


class Cells(Strategy, Sequence[dict[str, Any]]):
    """Parameters by number; immutable and lazy.

    Indexes count from 0, iterations from 1. A slice is a view whose cells keep the iteration numbers that they have in
    the whole; `ask` goes by these numbers. ``len()`` fails, as Python's own does, beyond ``sys.maxsize``: `size` does not.
    """

    name: ClassVar[str]
    iterations: range  # the number of each cell, in the order of the cells
    size: int

    def __init__(self, count: int) -> None:
        self.iterations = range(1, count + 1)
        self.size = count  # pyright: ignore[reportIncompatibleVariableOverride] - never None: all cells are known

    @property
    @abstractmethod
    def keys(self) -> tuple[str, ...]:
        """The swept names."""

    @abstractmethod
    def _params(self, position: int) -> dict[str, Any]:
        """Return the parameters at a position of the whole, from 0."""

    def view(self, iterations: range) -> Self:
        """Return the cells with these numbers."""
        view = copy.copy(self)
        view.iterations, view.size = iterations, _length(iterations)
        return view

    def following(self, iteration: int) -> int:
        """Return the number of the child after `iteration`: numbers ascend in a reversed view too."""
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
        raise ParameterError(f"Child {iteration} is not in this slice: it has {self.iterations!r}.")

    def __len__(self) -> int:
        if self.size > sys.maxsize:
            raise OverflowError(f"{self.size} cells are more than len() can say: use .size.")
        return self.size

    def __bool__(self) -> bool:
        return self.size > 0

    def __getitem__(self, index: Any) -> Any:
        """Return the parameters at an index of this view, or for a slice the view of it."""
        if isinstance(index, slice):
            return self.view(self.iterations[index])
        try:
            return self._params(self.iterations[index] - 1)
        except IndexError:
            raise IndexError(f"Cell {index} of {self.size}: indexes go from {-self.size} to {self.size - 1}.") from None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self._params(iteration - 1) for iteration in self.iterations)

    def __reversed__(self) -> Iterator[dict[str, Any]]:
        return iter(self[::-1])

    def __repr__(self) -> str:
        view = "" if self._is_whole else f"[children {_shown(self.iterations)}]"
        return f"{type(self).__name__}({', '.join(self._arguments())}){view}"

    @property
    @abstractmethod
    def _whole_size(self) -> int:
        """How many cells the whole has."""

    @property
    def _is_whole(self) -> bool:
        return self.iterations == range(1, self._whole_size + 1)

    @abstractmethod
    def _arguments(self) -> Iterator[str]:
        """Yield its arguments as they are written in code."""

    def to_json(self, encode: Callable[[Any], Any]) -> dict[str, Any]:
        """Return what `from_json` needs; `encode` turns one value of any type into JSON."""
        view = self.iterations
        bounds = {} if self._is_whole else {"iterations": [view.start, view.stop, view.step]}
        return {"strategy": self.name, **self._to_json(encode), **bounds}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], decode: Callable[[Any], Any]) -> Self:
        """Rebuild from `to_json`."""
        whole = cls._from_json(data, decode)
        return whole.view(range(*data["iterations"])) if "iterations" in data else whole

    @abstractmethod
    def _to_json(self, encode: Callable[[Any], Any]) -> dict[str, Any]: ...

    @classmethod
    @abstractmethod
    def _from_json(cls, data: Mapping[str, Any], decode: Callable[[Any], Any]) -> Self: ...


class ListedCells(Cells):
    """Members that are made of lists."""

    def __init__(self, values: Mapping[str, Sequence[Any]]) -> None:
        check_keys(values)
        self.values: Mapping[str, Sequence[Any]] = {key: listed(items, key) for key, items in values.items()}
        super().__init__(self._whole_size)

    @property
    def keys(self) -> tuple[str, ...]:
        """The swept names."""
        return tuple(self.values)

    def _arguments(self) -> Iterator[str]:
        return keywords({key: list(v) if isinstance(v, tuple) else v for key, v in self.values.items()})

    def _to_json(self, encode: Callable[[Any], Any]) -> dict[str, Any]:
        # Pairs: the order of the keys numbers the cells, and a database may not keep that of an object.
        return {"values": [[key, listing_to_json(items, encode)] for key, items in self.values.items()]}

    @classmethod
    def _from_json(cls, data: Mapping[str, Any], decode: Callable[[Any], Any]) -> Self:
        return cls({key: listing_from_json(items, decode) for key, items in data["values"]})


def checked_count(n: Any) -> int:
    """Return a number of children."""
    if isinstance(n, bool) or not hasattr(n, "__index__") or n < 1:
        raise OptionError(f"n={short(n)} is no number of children: give 1 or more, as in n=50.")
    return int(n.__index__())


def check_keys(values: Mapping[str, Any]) -> None:
    """Raise ParameterError for keys that name no swept parameter; a key with dots names a field within one."""
    if not isinstance(values, Mapping):
        raise ParameterError(
            f"{short(values)} ({type(values).__name__}) names nothing to sweep: write the parameters by name, "
            "as in depth=[4, 8]."
        )
    if not values:
        raise ParameterError("Nothing is swept: name a parameter and its values, as in depth=[4, 8].")
    for key in values:
        if not isinstance(key, str) or not all(key.split(".")):
            raise ParameterError(f"{key!r} names no parameter: write 'depth', or 'model.depth' for a field within one.")
    refuse_overlap(values)


def checked_point(point: Any, iteration: int) -> dict[str, Any]:
    """Return a copy of what user code chose for a child; raise ParameterError unless it is a mapping by name."""
    if not isinstance(point, Mapping) or not all(isinstance(key, str) and all(key.split(".")) for key in point):
        raise ParameterError(
            f"The parameters of child {iteration} are {short(point)}: a mapping by name is allowed, as in {{'depth': 4}}."
        )
    return dict(point)


def refuse_overlap(values: Mapping[str, Any]) -> None:
    """Refuse a parameter together with a field within it."""
    for key in values:
        parts = key.split(".")
        for end in range(1, len(parts)):
            whole = ".".join(parts[:end])
            if whole in values:
                raise ParameterError(f"{key!r} is a part of {whole!r}, which is swept as well: sweep one of them.")


def keywords(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield keys and values as they are written in a call."""
    if all(key.isidentifier() for key in values):
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
