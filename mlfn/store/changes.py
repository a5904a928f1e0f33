"""Everything that can happen to a run, as data: `apply` takes a batch of these in one transaction.

Named tuples: they are defined and made in a quarter of the time that frozen dataclasses take, and every start defines them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

from mlfn.spec.record import Outcome, Output, Reason, RemoteFailure

_NO_LABELS: Mapping[str, str] = {}


class Submitted(NamedTuple):
    """A new run. A second one with the same id is ignored."""

    run: str
    name: str
    project: str
    function: str
    plan: str
    place: str
    owner: str
    params: Mapping[str, Any]
    time: float
    labels: Mapping[str, str] = _NO_LABELS
    parent: str | None = None
    iteration: int = 0
    point: Mapping[str, Any] | None = None  # the parameters that its sweep chose
    memo: str | None = None  # equal for two calls with equal parameters
    driver: int | None = None  # the parent's attempt that adds it; refused if that is no longer the current one


class SweepSubmitted(NamedTuple):
    """A new run with children; refused while another sweep of its name and project is not over.

    But for the one that it `replaces`, which goes on without the name.
    """

    submitted: Submitted
    name: str | None
    body: Mapping[str, Any]
    replaces: str | None = None

    @property
    def run(self) -> str:
        """The parent's id."""
        return self.submitted.run

    @property
    def slot(self) -> str | None:
        """The name within its project, which one sweep at a time holds."""
        return None if self.name is None else f"{self.submitted.project}/{self.name}"


class SweepClosed(NamedTuple):
    """A sweep is over: its name is free again."""

    run: str


class Reused(NamedTuple):
    """pending -> succeeded, with the outcome of a run that had the same function and parameters."""

    run: str
    source: str
    time: float


class ExecutionCreated(NamedTuple):
    """A place holds an execution for a client. Stored before its first claim, so that it is found after a crash."""

    execution: str
    client: str
    place: str
    target: str
    handle: Mapping[str, Any]  # JSON that only its place reads
    units: int = 1


class Claimed(NamedTuple):
    """pending -> running as the next attempt, by the owner; `body` replaces the description of a sweep.

    With `queued` it waits at its place and is read as pending until it has started.
    """

    run: str
    owner: str
    execution: str | None
    time: float
    body: Mapping[str, Any] | None = None
    unit: int | None = None
    queued: bool = False


class StatusNoted(NamedTuple):
    """What a queued attempt waits for, in its place's words."""

    run: str
    attempt: int
    status: str | None


class Started(NamedTuple):
    """The attempt has started; it is queued no longer."""

    run: str
    attempt: int
    time: float


class PageNoted(NamedTuple):
    """The address at which the attempt's engine shows what it does, to people."""

    run: str
    attempt: int
    url: str
    time: float


class Acknowledged(NamedTuple):
    """So many lines of the attempt's journal are recorded; fewer than before change nothing."""

    run: str
    attempt: int
    lines: int


Point = tuple[str, int | None, float, float]  # name, step, value, time


class MetricsLogged(NamedTuple):
    """Points of metrics, numbered from `first` on among all of the attempt; a number recorded before changes nothing."""

    run: str
    attempt: int
    first: int
    points: tuple[Point, ...]


class OutputLogged(NamedTuple):
    """A result or artifact of a run that goes on."""

    run: str
    attempt: int
    output: Output


class Progressed(NamedTuple):
    """The progress that the run reports."""

    run: str
    attempt: int
    progress: Mapping[str, Any]


class Finished(NamedTuple):
    """running -> terminal."""

    run: str
    attempt: int
    outcome: Outcome
    time: float
    started: float | None = None  # as a `Started` before it would say


class Requeued(NamedTuple):
    """running -> pending: the attempt is over and another may follow; with `counts`, it used the retry budget."""

    run: str
    attempt: int
    reason: Reason
    failure: RemoteFailure | None
    not_before: float
    time: float
    counts: bool = True


class Recalled(NamedTuple):
    """running -> pending, as if the attempt had not been claimed: its execution will not start it."""

    run: str
    attempt: int


class FinishedUnstarted(NamedTuple):
    """pending -> terminal: cancelled or failed before it started."""

    run: str
    outcome: Outcome
    time: float


class ChildStarted(NamedTuple):
    """A handler opens a child of its run, which runs at once and ends with that attempt at the latest."""

    run: str
    parent: str
    attempt: int  # the parent's
    params: Mapping[str, Any]
    time: float


class BestMarked(NamedTuple):
    """A handler chooses a succeeded child whose outputs are copied to its parent."""

    run: str
    parent: str
    attempt: int  # the parent's


class CancelRequested(NamedTuple):
    """A request that the owner of a run end it."""

    run: str
    time: float


class Adopted(NamedTuple):
    """A client takes over a run of a dead client; a running one together with its execution."""

    run: str
    owner: str
    former: str
    time: float
    execution: str | None = None


Change = (
    Submitted
    | SweepSubmitted
    | SweepClosed
    | Reused
    | ExecutionCreated
    | Claimed
    | StatusNoted
    | Started
    | PageNoted
    | Acknowledged
    | MetricsLogged
    | OutputLogged
    | Progressed
    | Finished
    | Requeued
    | Recalled
    | FinishedUnstarted
    | ChildStarted
    | BestMarked
    | CancelRequested
    | Adopted
)

# The points at which a test may end the process, each once before and once after the transaction is committed.
FAILPOINTS = tuple(f"store.{change.__name__}.{when}" for change in get_args(Change) for when in ("before", "committed"))
