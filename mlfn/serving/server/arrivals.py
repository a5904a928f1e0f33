"""Events that wait for the function, and what brings them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mlfn.host.frozen import frozen
from mlfn.serving.events import Event


@frozen
class Arrival:
    """An event that waits for the function; `handled` is called once it has returned or failed."""

    event: Event
    handled: Callable[[], None]


class Source(Protocol):
    """What brings the events of one trigger, in threads of its own."""

    def start(self) -> None:
        """Begin to put arrivals; what cannot be reached is tried again."""

    def stop(self) -> None:
        """Put no more; returns once what was put is handled, or is the broker's to send again."""


Put = Callable[[Arrival], None]
