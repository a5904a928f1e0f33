"""Reports that come ten times a second at most."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_EVERY = 0.1  # seconds between two reports


class Throttle:
    """Reports numbers, ten times a second at most; the latest one within that time, even if no other follows."""

    def __init__(self, report: Callable[[int], None]) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._latest = -1
        self._reported = -1
        self._next = 0.0
        self._timer: threading.Timer | None = None

    def update(self, number: int) -> None:
        """Report a number, now or soon."""
        self._latest = number
        if time.monotonic() >= self._next:
            self._flush()
        elif self._timer is None:
            self._timer = threading.Timer(_EVERY, self._flush)
            self._timer.daemon = True
            self._timer.start()

    def finish(self, number: int) -> None:
        """Report the last number, and none after it."""
        if self._timer is not None:
            self._timer.cancel()
        self._latest = number
        self._flush()
        self._reported = number + 1

    def _flush(self) -> None:
        with self._lock:
            self._timer = None
            self._next = time.monotonic() + _EVERY
            if self._latest > self._reported:
                self._reported = self._latest
                self._report(self._latest)
