"""Everything that can happen to a run, as data: one transaction applies a batch of these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlfn.identity import ProcessIdentity
from mlfn.spec.record import Outcome, Output, Reason, RemoteFailure


@dataclass(frozen=True)
class Submitted:
    """A new run; the same id again changes nothing."""

    run: str
    name: str
    project: str
    function: str
    plan: str
    place: str
    owner: str
    params: Mapping[str, Any]
    time: float
    labels: Mapping[str, str] = field(default_factory=dict)
    parent: str | None = None
    iteration: int = 0
    point: Mapping[str, Any] | None = None  # what its sweep chose for it, by key
    memo: str | None = None  # equal for two calls with equal parameters
    driver: int | None = None  # the attempt of the parent that it belongs to: another one's children are refused


@dataclass(frozen=True)
class SweepSubmitted:
    """A new run that children will belong to; refused while another sweep of its name and project is not over."""

    submitted: Submitted
    name: str | None
    body: Mapping[str, Any]

    @property
    def run(self) -> str:
        """The parent's id."""
        return self.submitted.run

    @property
    def slot(self) -> str | None:
        """What one sweep at a time can have."""
        return None if self.name is None else f"{self.submitted.project}/{self.name}"


@dataclass(frozen=True)
class SweepClosed:
    """A sweep is over: its name is free again."""

    run: str


@dataclass(frozen=True)
class Reused:
    """pending -> succeeded, with the outcome of a run that had the same function and parameters."""

    run: str
    source: str
    time: float


@dataclass(frozen=True)
class Engaged:
    """A worker process is known, so that its journal is found after a crash; before it gets its first run."""

    worker: str
    client: str
    process: ProcessIdentity
    folder: str


@dataclass(frozen=True)
class Claimed:
    """pending -> running under the next attempt number, by its owner alone; of a sweep, from then on as `body` says."""

    run: str
    owner: str
    worker: str | None
    log: str | None
    time: float
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Started:
    """The worker has begun with the attempt."""

    run: str
    attempt: int
    time: float


@dataclass(frozen=True)
class MetricLogged:
    """One point of a metric's series."""

    run: str
    attempt: int
    name: str
    step: int | None
    value: float
    time: float


@dataclass(frozen=True)
class OutputLogged:
    """A result or artifact, while the run goes on."""

    run: str
    attempt: int
    output: Output


@dataclass(frozen=True)
class Progressed:
    """How far the run says it is."""

    run: str
    attempt: int
    progress: Mapping[str, Any]


@dataclass(frozen=True)
class Finished:
    """running -> terminal, by the attempt that holds the run."""

    run: str
    attempt: int
    outcome: Outcome
    time: float


@dataclass(frozen=True)
class Requeued:
    """running -> pending: this attempt is over and another may follow; `counts` says whether it used the retry budget."""

    run: str
    attempt: int
    reason: Reason
    failure: RemoteFailure | None
    not_before: float
    time: float
    counts: bool = True


@dataclass(frozen=True)
class TakenBack:
    """running -> pending, as if the attempt had never been claimed: its worker did not begin it and never will."""

    run: str
    attempt: int


@dataclass(frozen=True)
class Withdrawn:
    """pending -> terminal: cancelled, or failed before it could start."""

    run: str
    outcome: Outcome
    time: float


@dataclass(frozen=True)
class ChildBegun:
    """A handler opens a child of its run: it runs at once, and ends with that attempt of its parent at the latest."""

    run: str
    parent: str
    attempt: int  # the parent's
    params: Mapping[str, Any]
    time: float


@dataclass(frozen=True)
class BestMarked:
    """A handler says of a child that has succeeded that its parent shall carry its outputs."""

    run: str
    parent: str
    attempt: int  # the parent's


@dataclass(frozen=True)
class CancelRequested:
    """Somebody wants the run to end; its owner acts on it."""

    run: str
    time: float


@dataclass(frozen=True)
class Adopted:
    """A living client takes over a run of a dead one; one that runs, together with the journal of its worker."""

    run: str
    owner: str
    former: str
    time: float
    worker: str | None = None


Change = (
    Submitted
    | SweepSubmitted
    | SweepClosed
    | Reused
    | Engaged
    | Claimed
    | Started
    | MetricLogged
    | OutputLogged
    | Progressed
    | Finished
    | Requeued
    | TakenBack
    | Withdrawn
    | ChildBegun
    | BestMarked
    | CancelRequested
    | Adopted
)

NAMES = {
    Submitted: "submitted",
    SweepSubmitted: "sweep_submitted",
    SweepClosed: "sweep_closed",
    Reused: "reused",
    Engaged: "engaged",
    Claimed: "claimed",
    Started: "started",
    MetricLogged: "metric",
    OutputLogged: "output",
    Progressed: "progress",
    Finished: "finished",
    Requeued: "requeued",
    TakenBack: "taken_back",
    Withdrawn: "withdrawn",
    ChildBegun: "child",
    BestMarked: "best",
    CancelRequested: "cancel",
    Adopted: "adopted",
}

# The points at which a test may end the process, each once before and once after the transaction is committed.
FAILPOINTS = tuple(f"store.{name}.{when}" for name in NAMES.values() for when in ("before", "committed"))
