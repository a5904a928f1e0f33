"""A place whose runs take no time but on the clock, so that hours of a sweep show what mlfn itself adds to them.

Store, dispatcher and driver are the real ones. The clock runs as it does, so all that they do counts as long as it takes;
only where both of them wait does it jump to what comes next: the end of a run, or the end of a wait.

Import this before mlfn: it replaces ``time.time``, ``time.monotonic``, ``time.sleep`` and ``queue.SimpleQueue``.
"""

from __future__ import annotations

import heapq
import itertools
import os
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlfn.execution import Task
    from mlfn.places.base import Report, Room, Surroundings, Unavailable

SLOTS = 16
_POLL = 0.25  # seconds between looks at which runs have started, as the local place has them
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


def install() -> None:
    """Let all that is imported from now on go by the clock, and have the place ``"simulated"``."""
    time.time, time.monotonic, time.sleep = CLOCK.now, CLOCK.monotonic, CLOCK.sleep
    queue.SimpleQueue = Queue  # type: ignore[misc, assignment]
    from mlfn import registry

    registry._PLACES["simulated"] = "simulated:SimulatedPlace"


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


class SimulatedPlace:
    """Slots of which each has one run, which is over when its time is."""

    OPTIONS = ("lasts",)
    LACKS = ()
    secrets_from_caller = True
    runs_in_caller = False

    @staticmethod
    def check(*, lasts: str = "even") -> None:
        """Take what the benchmarks ask for."""

    def __init__(self, surroundings: Surroundings, *, lasts: str = "even") -> None:
        self._lasts = {"even": even, "varied": varied}[lasts]
        self._folder = str(surroundings.folder)
        self._idle = [f"slot-{number}" for number in range(SLOTS)]
        self._known: set[str] = set()
        self._events: list[tuple[str, Mapping[str, Any]]] = []  # that the next poll finds
        self._due: list[tuple[float, int, str, Task]] = []
        self._order = itertools.count()
        self._next_poll = 0.0
        self._awake = False

    def warm(self) -> None:
        """Do nothing: all slots are there."""

    def reserve(self, digest: str, plan: Mapping[str, Any], *, backlog: int) -> Room | Unavailable:
        """Return a slot that has nothing to do."""
        from mlfn.places.base import Room, Unavailable, WorkerStarted

        if not self._idle:
            return Unavailable()
        worker = self._idle.pop()
        if worker in self._known:
            return Room(worker)
        self._known.add(worker)
        return Room(worker, WorkerStarted(worker, os.getpid(), self._folder))

    def start(self, worker: str, task: Task) -> None:
        """Begin a run."""
        self._events.append((worker, self._event("started", task)))
        until = CLOCK.monotonic() + self._lasts(task.params["i"]["inline"])
        heapq.heappush(self._due, (until, next(self._order), worker, task))

    def collect(self, timeout: float) -> list[Report]:
        """Return which runs have started and ended."""
        until = CLOCK.monotonic() + timeout
        if self._due:
            until = min(until, self._due[0][0], self._next_poll if self._events else _FOREVER)
        CLOCK.wait(lambda: self._awake, until)
        self._awake = False
        return self._news()

    def _news(self) -> list[Report]:
        from mlfn.execution import outcome_to_json
        from mlfn.places.base import Reported
        from mlfn.spec.record import Outcome, Output, RunState

        moment = CLOCK.monotonic()
        ended: dict[str, Mapping[str, Any]] = {}
        while self._due and self._due[0][0] <= moment:
            _, _, worker, task = heapq.heappop(self._due)
            output = Output("return", "return", "json", "int", inline=task.params["i"]["inline"], size=4)
            outcome = Outcome(RunState.SUCCEEDED, returns={"keys": ["return"]}, outputs=(output,))
            ended[worker] = self._event("finished", task, **outcome_to_json(outcome))
        polled = moment >= self._next_poll
        if polled:
            self._next_poll = moment + _POLL
        started = {worker: event for worker, event in self._events if polled or worker in ended}
        self._events = [] if polled else [(worker, event) for worker, event in self._events if worker not in ended]
        reports: list[Report] = [Reported(worker, (event,), 0) for worker, event in started.items()]
        return reports + [Reported(worker, (event,), 0) for worker, event in ended.items()]

    def _event(self, what: str, task: Task, **facts: Any) -> Mapping[str, Any]:
        return {"event": what, "run": task.run, "attempt": task.attempt, "time": CLOCK.now(), **facts}

    def finished(self, worker: str) -> None:
        """Have the slot free again."""
        self._idle.append(worker)

    def widen(self, parallel: int | None) -> int:
        """Return how many slots there are."""
        return SLOTS

    def wake(self) -> None:
        """Interrupt `collect`."""

        def awake() -> None:
            self._awake = True

        CLOCK.tell(awake)

    def close(self) -> list[str]:
        """Forget all slots."""
        return sorted(self._known)

    def answer(self, worker: str, run: str, why: str | None) -> None:
        """Do nothing: no run asks."""

    def take_back(self, worker: str) -> list[str]:
        """Return nothing: what a slot was given has begun."""
        return []

    def adopt(self, worker: str, process: Any, folder: str, consumed: int) -> None:
        """Do nothing: no client dies here."""

    def stop(self, worker: str) -> None:
        """Do nothing: no run is ended here."""

    def retire(self, worker: str) -> None:
        """Do nothing."""

    def forget(self, worker: str) -> None:
        """Do nothing: a slot leaves nothing behind."""

    def let_go(self) -> None:
        """Do nothing: nothing is open."""
