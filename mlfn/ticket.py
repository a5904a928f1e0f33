"""A run that this process sees through: what it knows of it until it is terminal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlfn.spec.record import Outcome, RunRecord, RunState
from mlfn.store.changes import Submitted


@dataclass
class Ticket:
    """A run that this process sees through, until it is terminal.

    `ours` says that this process may start it; one that was adopted while it ran is only watched.
    """

    run: str
    name: str
    project: str
    plan: str
    params: Mapping[str, Any]
    labels: Mapping[str, str] = field(default_factory=dict)
    ours: bool = True
    attempt: int = 0
    retries: int = 0
    free: int = 0
    state: RunState = RunState.PENDING
    worker: str | None = None
    started: float | None = None
    deadline: float | None = None
    cause: Outcome | None = None  # why it is being stopped: how it ends unless the handler was quicker
    doubt: Outcome | None = None  # how it ends whatever its worker says: something that it said makes no sense
    reported: tuple[Outcome, float] | None = None  # what its worker said, held until the worker is gone
    outcome: Outcome | None = None  # how it ended, where this process recorded that
    done: threading.Event = field(default_factory=threading.Event)
    callbacks: list[Callable[[], object]] = field(default_factory=list)
    iteration: int = 0
    judged: str | None = None  # the metric of which `on_point` is told each point, and the handler waits for an answer
    on_point: Callable[[str, int | None, float], object] | None = None

    def let_go(self) -> None:
        """Let nobody in a forked child wait for it."""
        self.done = threading.Event()  # the thread that held the old one's lock may not be here
        self.done.set()

    @classmethod
    def of_submitted(cls, run: Submitted) -> Ticket:
        """Return the ticket of a run that was just stored."""
        return cls(run.run, run.name, run.project, run.plan, run.params, run.labels, iteration=run.iteration)

    @classmethod
    def of_record(cls, run: RunRecord, *, retries: int) -> Ticket:
        """Return the ticket of a run that another client had, and that has used this much of its retry budget."""
        return cls(
            run.id,
            run.name,
            run.project,
            run.plan,
            run.params,
            run.labels,
            attempt=run.attempt,
            retries=retries,
            iteration=run.iteration,
        )

    def back_to_pending(self) -> None:
        """Forget the attempt that is over."""
        self.state, self.worker, self.started = RunState.PENDING, None, None
        self.deadline = self.cause = self.reported = self.doubt = None
