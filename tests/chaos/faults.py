"""What goes wrong between a client and an engine, by a seed: the same seed makes the same go wrong."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

from tests.chaos.engine import RefusedError, UnreachableError
from tests.chaos.rates import Rates

T = TypeVar("T")


class Faults:
    """Decides what goes wrong next."""

    def __init__(self, seed: int, rates: Rates, now: Callable[[], float]) -> None:
        self._random = random.Random(seed)
        self._rates = rates
        self._now = now
        self.cut_off_until = 0.0
        self._full_until = 0.0

    def call(self, act: Callable[[], T]) -> T:
        """Do what an engine is asked for, or raise UnreachableError, before or after that."""
        if self._now() < self.cut_off_until:
            raise UnreachableError
        if self._happens(self._rates.unreachable):
            self.cut_off_until = self._now() + self._while()
            raise UnreachableError
        answer = act()
        if self._happens(self._rates.unanswered):
            raise UnreachableError
        return answer

    def refuse(self) -> None:
        """Refuse a create, perhaps."""
        if self._happens(self._rates.refused):
            raise RefusedError(": the engine's quota is used up")

    def has_room(self) -> bool:
        """Return whether a reservation may be made now."""
        if self._happens(self._rates.unavailable):
            self._full_until = self._now() + self._while()
        return self._now() >= self._full_until

    def delays(self) -> list[float]:
        """Return after how many seconds a report arrives, each time that it does."""
        times = [self._while() if self._happens(self._rates.late) else 0.0]
        if self._happens(self._rates.doubled):
            times.append(self._while())
        return times

    def replays(self) -> bool:
        """Return whether a journal is read again from its first line."""
        return self._happens(self._rates.replayed)

    def _happens(self, rate: float) -> bool:
        return rate > 0 and self._random.random() < rate

    def _while(self) -> float:
        return self._random.uniform(0.0, self._rates.longest)
