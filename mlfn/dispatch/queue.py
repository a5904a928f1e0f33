"""The queue of a place: ready runs by plan, runs to retry later, runs that wait for upstream runs."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from mlfn.dispatch.inflight import InflightRun
from mlfn.spec.record import RunState

_QUEUED_SECONDS = 0.02  # seconds of estimated work that may be queued at one worker
_MOST_QUEUED = 8


class RunQueue:
    """Pending runs in the order in which they may start; used by one thread."""

    def __init__(self) -> None:
        self._ready: dict[str, deque[InflightRun]] = {}
        self._later: list[tuple[float, int, InflightRun]] = []
        self._waiting: dict[str, list[InflightRun]] = {}
        self._order = itertools.count()

    def put(self, inflight: InflightRun) -> None:
        """Queue a run behind the others of its plan."""
        if inflight.state is RunState.PENDING:
            self._ready.setdefault(inflight.plan, deque()).append(inflight)

    def put_first(self, inflight: InflightRun) -> None:
        """Queue a run before the others of its plan."""
        if inflight.state is RunState.PENDING:
            self._ready.setdefault(inflight.plan, deque()).appendleft(inflight)

    def put_later(self, inflight: InflightRun, until: float) -> None:
        """Hold a run until a time, in seconds since the epoch."""
        heapq.heappush(self._later, (until, next(self._order), inflight))

    def put_waiting(self, inflight: InflightRun, upstream: str) -> None:
        """Hold a run until an upstream run has ended."""
        self._waiting.setdefault(upstream, []).append(inflight)

    def take_due(self, moment: float) -> Iterator[InflightRun]:
        """Yield the held runs that are due, and hold them no longer."""
        while self._later and self._later[0][0] <= moment:
            yield heapq.heappop(self._later)[2]

    def next_due(self) -> float | None:
        """Return when the next run is due."""
        return self._later[0][0] if self._later else None

    def upstream(self) -> AbstractSet[str]:
        """Return the runs that held runs wait for."""
        return set(self._waiting)

    def release(self, upstream: str) -> list[InflightRun]:
        """Return the runs that were held for an upstream run, and hold them no longer."""
        return self._waiting.pop(upstream, [])

    def plans(self) -> list[str]:
        """Return the plans with queued runs, in order of their first run."""
        return list(self._ready)

    def first(self, plan: str) -> InflightRun | None:
        """Return the first pending run of a plan, or None; runs cancelled meanwhile are dropped."""
        queue = self._ready.get(plan)
        while queue and queue[0].state is not RunState.PENDING:
            queue.popleft()
        if queue:
            return queue[0]
        self._ready.pop(plan, None)
        return None

    def count(self, plan: str) -> int:
        """Return how many runs of a plan are queued, those cancelled meanwhile included."""
        return len(self._ready[plan])

    def take(self, plan: str, most: int) -> list[InflightRun]:
        """Remove and return the first pending runs of a plan, which has one."""
        taken: list[InflightRun] = []
        while len(taken) < most and (first := self.first(plan)) is not None:
            taken.append(first)
            self._ready[plan].popleft()
        return taken


class Pace:
    """How long runs of a plan take, and so how many of them may queue at one worker."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def note(self, plan: str, took: float) -> None:
        """Learn from a run that took so many seconds."""
        # Slower at once, faster gradually: a queue behind a long run is the costlier mistake.
        self._seconds[plan] = max(took, 0.8 * self._seconds.get(plan, took))

    def slow_down(self, plan: str, seconds: float) -> None:
        """Expect runs to take so many seconds."""
        self._seconds[plan] = seconds

    def most_queued(self, plan: str) -> int:
        """Return how many runs a worker may hold: more than one if a run is shorter than its dispatch."""
        pace = self._seconds.get(plan)
        return 1 if pace is None else max(1, min(_MOST_QUEUED, int(_QUEUED_SECONDS / max(pace, 1e-6))))
