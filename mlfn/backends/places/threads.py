"""A few threads that work until the process ends: those of `concurrent.futures` take nothing any more once it is about to end."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class Threads:
    """Does what it is given in a few daemon threads, which are started as they are needed."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._queue: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._started: list[threading.Thread] = []

    def do(self, action: Callable[[], object]) -> None:
        """Have a thread do something, which must not raise."""
        self._queue.put(action)
        if len(self._started) < self._most:
            thread = threading.Thread(target=self._work, name="mlfn-place", daemon=True)
            self._started.append(thread)
            thread.start()

    def close(self) -> None:
        """End the threads once they have done what they were given."""
        for _ in self._started:
            self._queue.put(None)

    def _work(self) -> None:
        while (action := self._queue.get()) is not None:
            action()
