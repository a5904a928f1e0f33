"""A strategy made of an iterable of parameters, which is read while the sweep runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any

from mlfn.errors import ParameterError
from mlfn.sweep.strategies.cells import checked_point
from mlfn.sweep.strategy import Strategy


class Given(Strategy):
    """The items of an iterable, each a mapping of parameters."""

    def __init__(self, points: Iterable[Mapping[str, Any]]) -> None:
        if isinstance(points, (str, bytes, Mapping)) or not isinstance(points, Iterable):
            raise ParameterError(
                f"sweep({points!r}): an iterable of parameters is allowed, as in sweep([{{'depth': 4}}, {{'depth': 8}}])."
            )
        self._points = points
        self._items: Iterator[Any] | None = None
        self._given = 0
        self.size = len(points) if isinstance(points, Sized) else None

    def ask(self, iteration: int) -> Mapping[str, Any] | None:
        if self._items is None:
            self._items = iter(self._points)
        point = None
        while self._given < iteration:
            try:
                point = next(self._items)
            except StopIteration:
                return None
            self._given += 1
        return checked_point(point, iteration)

    def to_json(self, encode: Callable[[Any], Any]) -> dict[str, Any]:
        # An iterator cannot be stored; the script must recreate it.
        return {"points": [encode(point) for point in self._points]} if isinstance(self._points, Sized) else {}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], decode: Callable[[Any], Any]) -> Given:
        if "points" not in data:
            raise ParameterError(
                "This sweep's parameters came from an iterator, which is gone with its process: run the script that made it "
                "again, with the same name=, to resume it."
            )
        return cls([decode(point) for point in data["points"]])
