"""A strategy made of the user's own object with ``ask()`` and ``tell()``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mlfn.errors import ParameterError
from mlfn.sweep.strategies.cells import checked_point
from mlfn.sweep.strategy import Strategy, Told


class AskTell(Strategy):
    """An object with ``ask()`` and ``tell(params, value)``: value is a number, a tuple of them, or None for a failure."""

    adaptive = True

    def __init__(self, chooser: Any) -> None:
        self._chooser = chooser
        self._over = False

    def ask(self, iteration: int) -> Mapping[str, Any] | None:
        point = None if self._over else self._chooser.ask()
        self._over = point is None
        return None if point is None else checked_point(point, iteration)

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
            "name=, to resume it."
        )
