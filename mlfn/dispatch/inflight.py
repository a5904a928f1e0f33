"""A run that this process owns until it is terminal, and what may own runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mlfn.backends.places.base import Terminated
from mlfn.spec.record import Outcome, RunRecord, RunState

OnPoint = Callable[[str, int | None, float], object]  # takes run, step and value


@dataclass
class InflightRun:
    """A run that this process owns, until it is terminal.

    `ours` says that this process may start it; one that was adopted while it ran is only watched.
    """

    run: str
    name: str
    plan: str
    params: Mapping[str, Any]
    labels: Mapping[str, str] = field(default_factory=dict)
    resolved: Mapping[str, Any] | None = None  # the parameters as an execution may read them, where these differ
    ours: bool = True
    attempt: int = 0
    retries: int = 0
    free: int = 0
    state: RunState = RunState.PENDING
    execution: str | None = None
    parallel: int | None = None  # how many of its sweep may be at work at a time
    failures: int | None = None  # how many of its sweep may fail before no other begins
    started: float | None = None
    deadline: float | None = None
    cause: Outcome | None = None  # the outcome of a run that is being stopped, unless its handler succeeds first
    failure: Outcome | None = None  # how it ends, whatever its worker reports next: one report was unreadable
    reported: tuple[Outcome, float] | None = None  # the reported outcome, kept until the worker is gone
    outcome: Outcome | None = None  # as recorded by this process
    outlives_client: bool = False  # it goes on at its place when this process ends
    status: str | None = None  # what it waits for at its place
    lines: int = 0  # of its unit's own journal, how many are received
    ahead: dict[int, Mapping[str, Any]] = field(default_factory=dict)  # lines that arrived before an earlier one
    terminated: Terminated | None = None  # the end of its unit, which arrived before the whole journal
    done: threading.Event = field(default_factory=threading.Event)
    callbacks: list[Callable[[], object]] = field(default_factory=list)
    iteration: int = 0
    judged: str | None = None  # each point of this metric goes to `on_point`, and the handler waits for an answer
    on_point: OnPoint | None = None

    def after_fork(self) -> None:
        """Release whatever waits for it in a forked child."""
        self.done = threading.Event()  # the thread that held the old one's lock may not be here
        self.done.set()

    @classmethod
    def of_record(cls, run: RunRecord, *, retries: int) -> InflightRun:
        """Return a run that another client owned, and that has used this much of its retry budget."""
        return cls(
            run.id,
            run.name,
            run.plan,
            run.params,
            run.labels,
            attempt=run.attempt,
            retries=retries,
            iteration=run.iteration,
        )

    def in_order(self, events: Sequence[Mapping[str, Any]], first: int) -> Sequence[Mapping[str, Any]]:
        """Return the events that continue what is received of the unit's journal, those that were ahead among them."""
        if first == self.lines and not self.ahead:
            self.lines += len(events)
            return events
        self.ahead.update((number, event) for number, event in enumerate(events, first) if number >= self.lines)
        found = []
        while (event := self.ahead.pop(self.lines, None)) is not None:
            found.append(event)
            self.lines += 1
        return found

    def back_to_pending(self) -> None:
        """Reset the state of the attempt that ended."""
        self.state, self.execution, self.started = RunState.PENDING, None, None
        self.deadline = self.cause = self.reported = self.failure = self.terminated = self.status = None
        self.lines, self.ahead, self.outlives_client = 0, {}, False


class RunController(Protocol):
    """What owns runs in this process until they are terminal: the dispatcher of a place, the driver of a sweep."""

    def inflight(self, run: str) -> InflightRun | None:
        """Return a run that is not terminal."""
        ...

    def unfinished(self) -> list[InflightRun]:
        """Return the runs that are not terminal."""
        ...

    def cancel(self, run: str) -> None:
        """Request a run's cancellation; its `InflightRun` is done when that is confirmed."""
        ...

    def on_done(self, inflight: InflightRun, callback: Callable[[], object]) -> None:
        """Call back when the run is terminal; at once if it is."""
        ...

    def close(self) -> None:
        """End what is idle; what still runs goes on by itself."""
        ...

    def after_fork(self) -> None:
        """Release, in a forked child, every waiter: the runs belong to the parent process."""
        ...
