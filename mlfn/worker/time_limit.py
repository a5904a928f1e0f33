"""A run's time limit, kept by the process that runs it where no client does.

A client stops a run at its limit, and then the run has the client's words. Where the client has died, the process stops itself a
little later: it is interrupted as a cancelled run is, and a client that comes back reads that it had passed its limit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, final

from mlfn.worker.reporter import Channel, Points

CLIENT_SECONDS = 1.0  # beyond the limit, in which a client stops the run
SUPERVISED_SECONDS = 3.0  # beyond the grace time, in which a supervisor has killed its ranks and reported that


@final
class TimeLimit:
    """While it is entered, `seconds` and those of a client from the run's start on: then `stop` is called, and `give_up` after `grace`.

    Both are called in a thread of its own; `give_up` does not return.
    """

    def __init__(
        self, seconds: float | None, grace: float, *, stop: Callable[[], object], give_up: Callable[[], object]
    ) -> None:
        self._seconds = seconds
        self._grace = grace
        self._stop = stop
        self._give_up = give_up
        self._over = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> TimeLimit:
        """Count nothing yet."""
        return self

    def begin(self) -> None:
        """Begin to count: the run has started."""
        if self._seconds is not None:
            threading.Thread(target=self._watch, args=(self._seconds,), name="mlfn-time-limit", daemon=True).start()

    def watched(self, channel: Channel) -> Channel:
        """Return a channel through which the run reports that it has started."""
        return channel if self._seconds is None else _Watched(channel, self.begin)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop nothing any more."""
        with self._lock:
            self._over.set()

    def _watch(self, seconds: float) -> None:
        if self._over.wait(seconds + CLIENT_SECONDS):
            return
        with self._lock:
            if self._over.is_set():
                return
            self._stop()
        if not self._over.wait(self._grace):
            self._give_up()


class _Watched:
    """A channel that calls `begin` when the run has started."""

    def __init__(self, channel: Channel, begin: Callable[[], object]) -> None:
        self._channel = channel
        self._begin = begin

    @property
    def points(self) -> Points:
        return self._channel.points

    def send(self, event: dict[str, Any]) -> None:
        self._channel.send(event)
        if event["event"] == "started":
            self._begin()
