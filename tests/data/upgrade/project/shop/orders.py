"""Classes of the user's own, which travel with functions by value and come back by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, IntFlag
from typing import Generic, TypeVar

import mlfn

T = TypeVar("T")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Service(IntFlag):
    GIFT = 1
    EXPRESS = 2


class Point:
    __slots__ = ("x", "y")

    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and (self.x, self.y) == (other.x, other.y)

    def __hash__(self) -> int:
        return hash((self.x, self.y))


@dataclass(frozen=True)
class Order:
    number: int
    colour: Colour = Colour.RED
    place: Point = field(default_factory=lambda: Point(0, 0))


class Shelf(ABC, Generic[T]):
    def __init__(self) -> None:
        self.items: list[T] = []

    @abstractmethod
    def room(self) -> int: ...


class ShortShelf(Shelf[Order]):
    def room(self) -> int:
        return 2 - len(self.items)


class NoStockError(Exception):
    """Takes other arguments than it passes on."""

    def __init__(self, item: str, left: int) -> None:
        super().__init__(f"{item}: {left} left")
        self.item = item
        self.left = left


class ClosedError(mlfn.errors.RunError):
    """Stands below one of mlfn's own."""


class NoPriceError(Exception):
    """Is pickled in a way of its own."""

    def __init__(self, item: str) -> None:
        super().__init__(f"what does a {item} cost?")
        self.item = item

    def __reduce__(self) -> tuple[Callable[[str], NoPriceError], tuple[str]]:
        return no_price_of, (self.item,)


def no_price_of(item: str) -> NoPriceError:
    return NoPriceError(item)
