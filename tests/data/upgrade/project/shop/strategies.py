"""A strategy of the user's own, which the store knows by where it lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mlfn.sweep.strategy import Strategy, Told


class Countdown(Strategy):
    """Chooses ever smaller values of x."""

    def __init__(self, start: int) -> None:
        self.start = start

    def ask(self, iteration: int) -> Mapping[str, Any] | None:
        return {"x": float(self.start - iteration)} if iteration < self.start else None

    def tell(self, told: Told) -> None:
        pass

    def to_json(self, encode: Callable[[Any], Any]) -> dict[str, Any]:
        return {"start": encode(self.start)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], decode: Callable[[Any], Any]) -> Countdown:
        return cls(decode(data["start"]))
