"""`Inbox`: what the threads of a place leave for the thread that decides, which waits for it in `collect`."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from mlfn.backends.places.base import Report

Message = TypeVar("Message")


class Inbox(Generic[Message]):
    """Messages in the order in which they came. `take` says what one comes to, `look` what no message tells."""

    def __init__(
        self, take: Callable[[Message], Iterable[Report]], look: Callable[[], Iterable[Report]] | None = None
    ) -> None:
        self._take = take
        self._look = look
        self._messages: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._next_look = 0.0
        self._is_woken = False

    def put(self, message: Message) -> None:
        """Leave a message; from any thread."""
        self._messages.put(message)

    def wake(self) -> None:
        """Have `collect` return; from any thread."""
        self._messages.put(None)

    def look_soon(self) -> None:
        """Have `collect` look before it waits again."""
        self._next_look = 0.0

    def collect(self, timeout: float, every: float | None = None) -> list[Report]:
        """Wait for messages for `timeout` seconds, look every so many, and return the first reports that there are."""
        until = time.monotonic() + timeout
        while True:
            awake = until if every is None else min(until, self._next_look)
            reports = list(self._read(max(0.0, awake - time.monotonic())))
            if self._look is not None and every is not None and time.monotonic() >= self._next_look:
                self._next_look = time.monotonic() + every
                reports += self._look()
            if reports or self._is_woken or time.monotonic() >= until:
                self._is_woken = False
                return reports

    def next(self, timeout: float) -> Message | None:
        """Return the next message, once, as it is; None where there is none in time."""
        try:
            return self._messages.get(timeout=max(0.0, timeout))
        except queue.Empty:
            return None

    def _read(self, timeout: float) -> Iterator[Report]:
        """Wait for a message, and yield what all that are there come to."""
        with contextlib.suppress(queue.Empty):
            message = self._messages.get(timeout=timeout) if timeout else self._messages.get_nowait()
            while True:
                if message is None:
                    self._is_woken = True
                else:
                    yield from self._take(message)
                message = self._messages.get_nowait()
