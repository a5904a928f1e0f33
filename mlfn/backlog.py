"""What waits to be started at a place: queues by plan, runs to try again later, runs whose parents still run."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Set as AbstractSet

from mlfn.spec.record import RunState
from mlfn.ticket import Ticket

_QUEUED_SECONDS = 0.02  # how much work may wait at a worker, as far as one can tell
_MOST_QUEUED = 8


class Backlog:
    """Pending runs in the order in which they may start; used by one thread."""

    def __init__(self) -> None:
        self._ready: dict[str, deque[Ticket]] = {}
        self._later: list[tuple[float, int, Ticket]] = []
        self._behind: dict[str, list[Ticket]] = {}
        self._order = itertools.count()

    def put(self, ticket: Ticket) -> None:
        """Queue a run behind the others of its plan."""
        if ticket.state is RunState.PENDING:
            self._ready.setdefault(ticket.plan, deque()).append(ticket)

    def put_first(self, ticket: Ticket) -> None:
        """Queue a run before the others of its plan."""
        if ticket.state is RunState.PENDING:
            self._ready.setdefault(ticket.plan, deque()).appendleft(ticket)

    def put_later(self, ticket: Ticket, until: float) -> None:
        """Keep a run until a moment, in seconds since the epoch."""
        heapq.heappush(self._later, (until, next(self._order), ticket))

    def put_behind(self, ticket: Ticket, parent: str) -> None:
        """Keep a run until its parent has ended."""
        self._behind.setdefault(parent, []).append(ticket)

    def move_due(self, moment: float) -> None:
        """Queue the runs whose moment has come."""
        while self._later and self._later[0][0] <= moment:
            self.put(heapq.heappop(self._later)[2])

    def next_due(self) -> float | None:
        """Return when the next run is due."""
        return self._later[0][0] if self._later else None

    def parents(self) -> AbstractSet[str]:
        """Return the runs that others wait behind."""
        return set(self._behind)

    def released(self, parent: str) -> list[Ticket]:
        """Return the runs that waited behind one, and wait no more."""
        return self._behind.pop(parent, [])

    def plans(self) -> list[str]:
        """Return the plans that have runs queued, in the order in which their first one came."""
        return list(self._ready)

    def first(self, plan: str) -> Ticket | None:
        """Return the first run of a plan that is still pending; None, and the queue is gone, where there is none."""
        queue = self._ready.get(plan)
        while queue and queue[0].state is not RunState.PENDING:
            queue.popleft()  # cancelled while it waited
        if queue:
            return queue[0]
        self._ready.pop(plan, None)
        return None

    def take(self, plan: str) -> None:
        """Take away the first run of a plan."""
        self._ready[plan].popleft()


class Pace:
    """How long runs of a plan take, and how many of them may therefore wait at a worker."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def note(self, plan: str, took: float) -> None:
        """Take in how long a run took, in seconds."""
        # Slower at once, quicker bit by bit: a queue behind a run that takes long is the dearer mistake.
        self._seconds[plan] = max(took, 0.8 * self._seconds.get(plan, took))

    def slow_down(self, plan: str, seconds: float) -> None:
        """Expect runs to take this long from now on."""
        self._seconds[plan] = seconds

    def most_queued(self, plan: str) -> int:
        """Return how many runs a worker may have: several where they take less than handing one over."""
        pace = self._seconds.get(plan)
        return 1 if pace is None else max(1, min(_MOST_QUEUED, int(_QUEUED_SECONDS / max(pace, 1e-6))))
