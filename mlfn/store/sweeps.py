"""Queries about a sweep and its children."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from mlfn.host.frozen import frozen
from mlfn.spec.record import RunState
from mlfn.store.queries import Queries


@frozen
class ChildRow:
    """What a sweep needs to know about one of its children."""

    run: str
    iteration: int
    state: RunState
    reason: str | None
    attempt: int
    owner: str | None
    point: Mapping[str, Any]
    started: float | None
    ended: float | None
    failure: Mapping[str, Any] | None
    reused: str | None


class SweepQueries(Protocol):
    """What a sweep's driver and its views read. Nothing here changes the store.

    A child has an iteration, from 1. Rows that cannot be read and values that are no numbers are left out with a warning
    in the log.
    """

    def get_sweep_body(self, run: str) -> dict[str, Any]:
        """Return a sweep's description; NotFoundError for a run that is no sweep."""
        ...

    def find_sweep(self, project: str, name: str) -> str | None:
        """Return the newest sweep of a name."""
        ...

    def sweep_name(self, run: str) -> str | None:
        """Return the name that a sweep was submitted under; None where it has none."""
        ...

    # -- children of one parent

    def children(
        self, parent: str, *, states: Sequence[RunState] = (), last: int | None = None, strict: bool = False
    ) -> list[ChildRow]:
        """Return children by iteration: those in some states, or the `last` of them.

        With `strict`, a row that cannot be read raises StoreCorruptError.
        """
        ...

    def children_at(self, parent: str, iterations: Sequence[int]) -> list[ChildRow]:
        """Return those of the children that exist, in the order of `iterations`."""
        ...

    def child_at(self, parent: str, iteration: int) -> str | None:
        """Return the id of a child, even if its row cannot be read."""
        ...

    def last_iteration(self, parent: str) -> int:
        """Return the highest iteration; 0 without children."""
        ...

    def child_counts(self, parent: str) -> dict[RunState, int]:
        """Return how many children are in each state."""
        ...

    def running_children(self, parent: str, owner: str, *, limit: int) -> tuple[int, list[ChildRow]]:
        """Return how many children of one owner are running, and the first few; fast however many have ended."""
        ...

    def values_by_end(self, parent: str, name: str) -> list[float]:
        """Return a metric or numeric output of the succeeded children, in the order in which they ended."""
        ...

    def child_scores(self, parent: str) -> dict[str, dict[str, float]]:
        """Return the last value of each metric and numeric output, by child."""
        ...

    # -- the last attempts of several runs

    def reported_among(self, runs: Sequence[str], names: Collection[str]) -> dict[str, set[str]]:
        """Return which of these metrics and outputs each run has, with a number or without."""
        ...

    def extremes_among(self, runs: Sequence[str], name: str) -> dict[str, tuple[float, float]]:
        """Return the least and the greatest value of a metric's series, by run."""
        ...

    def series_among(self, runs: Sequence[str], name: str) -> dict[str, list[tuple[int | None, float]]]:
        """Return the points of a metric as (step, value), by run."""
        ...

    def whole_numbers_among(self, runs: Sequence[str], name: str) -> dict[str, int]:
        """Return an output by run, where that is a whole number: a score is a float, and rounds a large one."""
        ...

    def constraints_among(self, runs: Sequence[str]) -> dict[str, dict[str, float]]:
        """Return the constraints that runs logged, by run; infinity for one that is no number."""
        ...


class Reader(Queries, SweepQueries, Protocol):
    """Both protocols that read, in one object."""
