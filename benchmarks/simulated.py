"""An engine whose units take no time but on the clock, so that hours of a sweep show what mlfn itself adds to them.

Store, dispatcher, driver and place are real ones; the engine is that of tests/chaos, and nothing goes wrong on the way to it.
The clock runs as it does, so all that they do counts as long as it takes; only where driver and dispatcher both wait does it
jump to what comes next: the end of a run, or the end of a wait.

Import this before mlfn: it replaces ``time.time``, ``time.monotonic``, ``time.sleep`` and ``queue.SimpleQueue``.
"""

from __future__ import annotations

import heapq
import queue
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

SLOTS = 16
_FOREVER = 1e12


class Clock:
    """Time that goes by itself, and jumps where all who could do something wait."""

    def __init__(self, actors: int) -> None:
        self._actors = actors
        self._changed = threading.Condition()
        self._waiting: dict[int, float] = {}
        self._jumped = 0.0
        self._real = time.monotonic
        self._epoch = time.time() - time.monotonic()

    def monotonic(self) -> float:
        """Return seconds since some moment."""
        return self._real() + self._jumped

    def now(self) -> float:
        """Return seconds since 1970."""
        return self._epoch + self.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait; whoever is no actor does so by the real clock."""
        if threading.current_thread().name.startswith("mlfn-"):
            self.wait(lambda: False, self.monotonic() + seconds)
        else:
            threading.Event().wait(seconds)

    def wait(self, ready: Callable[[], object], until: float) -> None:
        """Let an actor wait until there is something, or until then."""
        me = threading.get_ident()
        with self._changed:
            while not ready() and (left := until - self.monotonic()) > 0:
                self._waiting[me] = until
                if len(self._waiting) == self._actors:
                    self._jumped += max(0.0, min(self._waiting.values()) - self.monotonic())
                    self._rouse()
                else:
                    self._changed.wait(min(left, threading.TIMEOUT_MAX))
            self._waiting.pop(me, None)

    def tell(self, act: Callable[[], object]) -> None:
        """Do what may end somebody's waiting."""
        with self._changed:
            act()
            self._rouse()

    def _rouse(self) -> None:
        self._waiting.clear()  # each looks again, and waits again if it must
        self._changed.notify_all()


class Queue:
    """`queue.SimpleQueue` by the clock."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()

    def put(self, item: Any) -> None:
        """Add an item."""
        CLOCK.tell(lambda: self._items.append(item))

    def get(self, *, timeout: float = _FOREVER) -> Any:
        """Return the first item, once there is one."""
        CLOCK.wait(lambda: self._items, CLOCK.monotonic() + timeout)
        return self.get_nowait()

    def get_nowait(self) -> Any:
        """Return the first item if there is one."""
        try:
            return self._items.popleft()
        except IndexError:
            raise queue.Empty from None

    def empty(self) -> bool:
        """Say whether there is none."""
        return not self._items


CLOCK = Clock(actors=2)  # the dispatcher and the driver


class Time:
    """The clock, for an engine."""

    def now(self) -> float:
        """Return seconds since 1970."""
        return CLOCK.now()

    def wait(self, until: float, is_woken: Callable[[], bool]) -> None:
        """Wait until something happens, or until then."""
        CLOCK.wait(is_woken, CLOCK.monotonic() + until - CLOCK.now())

    def wake(self) -> None:
        """End a wait."""
        CLOCK.tell(lambda: None)


ENGINE_SECONDS = [0.0]
"""Processor time of the engine itself, which would be another machine's."""


def _count(engine: type) -> None:
    """Add up what an engine's own work takes."""

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            begun = time.thread_time()
            try:
                return method(*args)
            finally:
                ENGINE_SECONDS[0] += time.thread_time() - begun

        return timed

    for name in ("create", "watch", "lines", "delete"):
        setattr(engine, name, counted(getattr(engine, name)))


def install(lasts: Callable[[int], float], *, slots: int = SLOTS) -> None:
    """Let all that is imported from now on go by the clock, and have an engine at ``on("chaos", engine="simulated")``."""
    time.time, time.monotonic, time.sleep = CLOCK.now, CLOCK.monotonic, CLOCK.sleep
    queue.SimpleQueue = Queue  # type: ignore[misc, assignment]
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from mlfn.settings import members
    from mlfn.worker.task import Task
    from tests.chaos.engines import VIRTUAL
    from tests.chaos.virtual import Script, VirtualEngine

    def script_of(task: Task) -> Script:
        number = task.params["i"]["inline"]
        return Script(takes=lasts(number), value=number)

    _count(VirtualEngine)
    members.BUILT_IN["place"]["chaos"] = "tests.chaos.place:ChaosPlace"
    VIRTUAL["simulated"] = VirtualEngine(Time(), room=slots, starting=0.0, script_of=script_of)


def even(i: int) -> float:
    """Return how long a run takes where all take the same."""
    return 1.0


def varied(i: int) -> float:
    """Return how long a run takes where they differ, one second on average."""
    return random.Random(i).expovariate(1.0)


def at_best(children: int, lasts: Callable[[int], float]) -> float:
    """Return how long the children take in their order on all slots, if nothing lay between two of them."""
    free = [0.0] * SLOTS
    for i in range(children):
        heapq.heapreplace(free, free[0] + lasts(i))
    return max(free)
