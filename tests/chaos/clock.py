"""Time and ids that a seed determines; to be imported before mlfn, whose modules take `time.time` by name."""

from __future__ import annotations

import random
import time
import uuid

_EPOCH = 1_800_000_000.0


class Clock:
    """Time that goes where it is told to."""

    def __init__(self) -> None:
        self.elapsed = 0.0

    def now(self) -> float:
        """Return seconds since 1970."""
        return _EPOCH + self.elapsed

    def monotonic(self) -> float:
        """Return seconds since the start."""
        return self.elapsed

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.elapsed += max(0.0, seconds)


CLOCK = Clock()


def install() -> None:
    """Let all that is imported from now on go by the clock."""
    time.time, time.monotonic, time.sleep = CLOCK.now, CLOCK.monotonic, CLOCK.sleep


def begin(seed: int) -> None:
    """Set the clock back, and make new ids follow from a seed."""
    CLOCK.elapsed = 0.0
    ids = random.Random(f"ids {seed}")
    uuid.uuid4 = lambda: uuid.UUID(int=ids.getrandbits(128), version=4)  # type: ignore[assignment]
