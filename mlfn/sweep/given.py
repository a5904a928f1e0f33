"""Strategies of the user's own: an iterable of parameters that is read as it goes, or an object that is asked and told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any

from mlfn.errors import ParameterError
from mlfn.sweep.strategy import Strategy, Told


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
        return _checked(point, iteration)

    def to_json(self, encode: Callable[[Any], Any]) -> dict[str, Any]:
        # What has no length is used up by being read: whoever made it must make it again.
        return {"points": [encode(point) for point in self._points]} if isinstance(self._points, Sized) else {}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], decode: Callable[[Any], Any]) -> Given:
        if "points" not in data:
            raise ParameterError(
                "This sweep's parameters came from an iterator, which is gone with its process: run the script that made it "
                "again, with the same name=, and it goes on."
            )
        return cls([decode(point) for point in data["points"]])


class AskTell(Strategy):
    """An object with ``ask()`` and ``tell(params, value)``: value is a number, a tuple of them, or None for a failure."""

    adaptive = True

    def __init__(self, chooser: Any) -> None:
        self._chooser = chooser
        self._over = False

    def ask(self, iteration: int) -> Mapping[str, Any] | None:
        point = None if self._over else self._chooser.ask()
        self._over = point is None
        return None if point is None else _checked(point, iteration)

    def tell(self, told: Told) -> None:
        if told.state.is_terminal:
            values = told.values if told.values is None or len(told.values) != 1 else told.values[0]
            self._chooser.tell(dict(told.params), values)

    def to_json(self, encode: Callable[[Any], Any]) -> dict[str, Any]:
        return {}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], decode: Callable[[Any], Any]) -> AskTell:
        raise ParameterError(
            "This sweep's parameters came from an object of the script that made it: run that script again, with the same "
            "name=, and it goes on."
        )


def _checked(point: Any, iteration: int) -> Mapping[str, Any]:
    if not isinstance(point, Mapping) or not all(isinstance(key, str) for key in point):
        raise ParameterError(
            f"The parameters of child {iteration} are {point!r}: a mapping by name is allowed, as in {{'depth': 4}}."
        )
    return dict(point)
