"""Queries: everything that is read about runs, functions, clients and executions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, Protocol

from mlfn.host.frozen import frozen
from mlfn.spec.plan import Plan
from mlfn.spec.record import Attempt, Output, RunRecord, RunState
from mlfn.store.rows import Fault, Survey, Unreadable


@frozen
class ExecutionRow:
    """An execution, the client that owns it, and up to where its reports are received."""

    id: str
    client: str
    place: str
    target: str
    handle: Mapping[str, Any]  # JSON that only its place reads
    cursor: str | None  # None until something was observed there
    units: int


@frozen
class TagRow:
    """A tag and the version that it names."""

    project: str
    name: str
    tag: str
    function: str
    run: str


@frozen
class RunFilter:
    """Which runs to list: every field that is set must match."""

    project: str | None = None
    name: str | None = None
    states: tuple[str, ...] = ()
    function: str | None = None
    parent: str | None = None
    top_level: bool = False  # only runs without a parent
    without_parts: bool = False  # no children that live within another run's attempt
    owner: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    since: float | None = None
    before: int | None = None  # seq of the last run of the page before


class Queries(Protocol):
    """What a listing, a view and a dispatcher read. Nothing here changes the store.

    A `get_` or `resolve_` method raises NotFoundError for what is not there, and a query for one run StoreCorruptError
    for a row that cannot be read; a query for many leaves that row out with a warning in the log.
    """

    @property
    def label(self) -> str:
        """The store's address as messages show it, without a password."""
        ...

    def schema_version(self) -> int:
        """Return the number of the last migration."""
        ...

    def size(self) -> int:
        """Return how many bytes the store takes."""
        ...

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        ...

    # -- runs

    def get_run(self, run: str) -> RunRecord:
        """Return one run by its whole id."""
        ...

    def resolve_run(self, prefix: str) -> RunRecord:
        """Return the only run whose id begins with `prefix`."""
        ...

    def resolve_id(self, prefix: str) -> str:
        """Return the id of the only run whose id begins with `prefix`, even if its row cannot be read."""
        ...

    def raw_state(self, run: str) -> tuple[Any, Any]:
        """Return (state, owner) as stored, even if the row cannot be read; (None, None) for an unknown run."""
        ...

    def list_runs(self, wanted: RunFilter, *, limit: int, newest: bool = True) -> list[RunRecord]:
        """Return runs, newest first or oldest first."""
        ...

    def best_runs(self, wanted: RunFilter, metric: str, *, limit: int, highest: bool) -> list[RunRecord]:
        """Return runs by a metric or numeric output, best first; ties go to the older run."""
        ...

    def page(self, *, before: int | None, limit: int) -> tuple[list[RunRecord | Unreadable], int | None]:
        """Return runs, newest first, and where the next page begins."""
        ...

    def count_runs(self, wanted: RunFilter) -> int:
        """Return how many runs match, including those that cannot be read."""
        ...

    def readable_runs(self, runs: Sequence[str]) -> dict[str, RunRecord]:
        """Return those of the runs that exist, in the order of the ids."""
        ...

    def known_runs(self, runs: Iterable[str]) -> set[str]:
        """Return those of the ids that are in the store."""
        ...

    def states(self, runs: Sequence[str]) -> dict[str, tuple[RunState, str | None]]:
        """Return (state, owner) of those of the runs that exist; a queued run is pending."""
        ...

    def projects(self) -> list[str]:
        """Return the projects of runs without a parent, by name."""
        ...

    def unfinished(self, owner: str) -> list[RunRecord]:
        """Return the runs of an owner that are not terminal, oldest first, without parts of other runs."""
        ...

    def cancel_requests(self, owner: str) -> list[str]:
        """Return the active runs of an owner for which a cancel is requested."""
        ...

    def parts_of(self, run: str) -> list[str]:
        """Return the children that live within a run's attempt, which its handler opened."""
        ...

    def find_finished(self, function: str, memo: str) -> str | None:
        """Return the newest run that succeeded with this function and these parameters, no copy of another run."""
        ...

    def faults_of(self, run: str) -> list[Fault]:
        """Return what cannot be read of one run and its rows in other tables."""
        ...

    def survey(self) -> Survey:
        """Check the newest runs and those that are not over, so many that it takes a second or two."""
        ...

    # -- attempts and what they logged

    def attempts(self, run: str) -> list[Attempt]:
        """Return the attempts of a run, first one first."""
        ...

    def attempt_started(self, run: str, attempt: int) -> float | None:
        """Return when an attempt started; None where that is unknown."""
        ...

    def retries(self, run: str) -> int:
        """Return how much of its retry budget a run has used."""
        ...

    def events(self, run: str) -> list[tuple[float, int, str, str | None]]:
        """Return what happened to a run as (time, attempt, what, detail), oldest first."""
        ...

    def outputs(self, run: str, attempt: int) -> list[Output]:
        """Return the outputs of an attempt by name."""
        ...

    def metric_names(self, run: str, attempt: int) -> list[str]:
        """Return the names of the metrics that an attempt logged."""
        ...

    def series(self, run: str, attempt: int, name: str) -> list[tuple[int | None, float, float]]:
        """Return the points of a metric as (step, value, time), as logged."""
        ...

    def thinned_series(self, run: str, attempt: int, name: str, *, most: int) -> tuple[int, list[float]]:
        """Return how many points a metric has, and about `most` of its values, evenly chosen, with the last one."""
        ...

    def scores(self, run: str) -> dict[str, float]:
        """Return the last value of each metric and numeric output."""
        ...

    def scores_among(self, runs: Sequence[str]) -> dict[str, dict[str, float]]:
        """Return the same for several runs, by run."""
        ...

    # -- functions, plans and tags

    def get_function(self, digest: str) -> dict[str, Any]:
        """Return a function version's spec."""
        ...

    def resolve_function(self, prefix: str) -> str:
        """Return the hash of the only function version whose hash begins with `prefix`."""
        ...

    def get_plan(self, digest: str) -> Plan:
        """Return what the runs of a plan have in common; StoreCorruptError for one that is not there."""
        ...

    def find_plan(self, function: str) -> Plan | None:
        """Return a plan of a function version."""
        ...

    def payload_digests(self) -> set[str] | None:
        """Return the payloads that plans refer to; None where a plan cannot be read, which may refer to any."""
        ...

    def tags(self) -> list[TagRow]:
        """Return all tags."""
        ...

    # -- clients and executions

    def clients(self) -> list[tuple[str, str, int, str, float]]:
        """Return (id, host, pid, started, heartbeat) of the registered clients."""
        ...

    def executions(self, client: str | None = None) -> list[ExecutionRow]:
        """Return the executions of one client, or of all."""
        ...

    def execution_ids(self) -> set[str]:
        """Return the ids of all executions, including those whose rows cannot be read."""
        ...

    def is_needed(self, client: str) -> bool:
        """Return whether an active run or an execution refers to a client, whether its row can be read or not."""
        ...
