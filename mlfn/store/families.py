"""Queries over a sweep and its children."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlfn.errors import NotFoundError
from mlfn.spec.record import RunState
from mlfn.store.reading import Reading

_AT_ONCE = 500  # ids in one statement


@dataclass(frozen=True)
class ChildRow:
    """What a sweep needs to know of one of its children."""

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


@dataclass(frozen=True)
class TagRow:
    """A tag, and the version that it names."""

    project: str
    name: str
    tag: str
    function: str
    run: str


class FamilyReading(Reading):
    """Parents and children, and what came of them."""

    def tags(self) -> list[TagRow]:
        """Return all tags."""
        rows = self.session.read("SELECT project, name, tag, function, run FROM tags ORDER BY project, name, tag")
        return [TagRow(*row) for row in rows]

    def sweep_body(self, run: str) -> dict[str, Any]:
        """Return what a sweep was described as."""
        rows = self.session.read("SELECT body FROM sweeps WHERE run = ?", (run,))
        if not rows:
            raise NotFoundError(f"Run {run[:8]} is no sweep: it has no description to go on from.")
        body: dict[str, Any] = json.loads(rows[0][0])
        return body

    def find_sweep(self, project: str, name: str) -> str | None:
        """Return the newest sweep of that name."""
        rows = self.session.read(
            "SELECT sweeps.run FROM sweeps JOIN runs ON runs.id = sweeps.run "
            "WHERE sweeps.name = ? AND runs.project = ? ORDER BY runs.seq DESC LIMIT 1",
            (name, project),
        )
        return str(rows[0][0]) if rows else None

    def children(self, parent: str, *, states: Sequence[RunState] = ()) -> list[ChildRow]:
        """Return a sweep's children in the order of their numbers; of these states only, if any are given."""
        only = f"AND state IN ({', '.join('?' * len(states))})" if states else ""
        rows = self.session.read(
            "SELECT id, iteration, state, reason, attempt, owner, point, started, ended, failure, reused FROM runs "
            f"WHERE parent = ? AND iteration > 0 {only} ORDER BY iteration",
            (parent, *(state.value for state in states)),
        )
        return [
            ChildRow(
                run, iteration, RunState(state), reason, attempt, owner, json.loads(point) if point else {},
                started, ended, json.loads(failure) if failure else None, reused,
            )
            for run, iteration, state, reason, attempt, owner, point, started, ended, failure, reused in rows
        ]  # fmt: skip

    def child_counts(self, parent: str) -> dict[RunState, int]:
        """Return how many children are in each state."""
        rows = self.session.read(
            "SELECT state, count(*) FROM runs WHERE parent = ? AND iteration > 0 GROUP BY state", (parent,)
        )
        return {RunState(state): count for state, count in rows}

    def family_scores(self, parent: str) -> dict[str, dict[str, float]]:
        """Return, by child, the last value of each metric and numeric output."""
        return _by_run(
            self.session.read(
                "SELECT scores.run, scores.name, scores.value FROM scores JOIN runs ON runs.id = scores.run "
                "WHERE runs.parent = ? AND runs.iteration > 0",
                (parent,),
            )
        )

    def scores_among(self, runs: Sequence[str]) -> dict[str, dict[str, float]]:
        """Return the same for some runs."""
        return _by_run(self._among("SELECT run, name, value FROM scores WHERE run IN ({})", runs))

    def extremes_among(self, runs: Sequence[str], name: str) -> dict[str, tuple[float, float]]:
        """Return the least and the greatest value of a metric's series, by run; of its last attempt."""
        rows = self._among(
            "SELECT metrics.run, min(metrics.value), max(metrics.value) FROM metrics JOIN runs ON runs.id = metrics.run "
            "AND runs.attempt = metrics.attempt WHERE metrics.name = ? AND metrics.value IS NOT NULL "
            "AND metrics.run IN ({}) GROUP BY metrics.run",
            runs,
            name,
        )
        return {run: (least, greatest) for run, least, greatest in rows}

    def series_among(self, runs: Sequence[str], name: str) -> dict[str, list[tuple[int | None, float]]]:
        """Return (step, value) of a metric as logged, by run; of its last attempt."""
        found: dict[str, list[tuple[int | None, float]]] = {}
        rows = self._among(
            "SELECT metrics.run, metrics.step, metrics.value FROM metrics JOIN runs ON runs.id = metrics.run "
            "AND runs.attempt = metrics.attempt WHERE metrics.name = ? AND metrics.run IN ({}) "
            "ORDER BY metrics.run, metrics.time, metrics.step",
            runs,
            name,
        )
        for run, step, value in rows:
            found.setdefault(run, []).append((step, math.nan if value is None else value))
        return found

    def constraints_among(self, runs: Sequence[str]) -> dict[str, dict[str, float]]:
        """Return the constraints that runs logged, by run."""
        rows = self._among(
            "SELECT outputs.run, outputs.key, outputs.inline FROM outputs JOIN runs ON runs.id = outputs.run "
            "AND runs.attempt = outputs.attempt WHERE outputs.role = 'constraint' AND outputs.run IN ({})",
            runs,
        )
        return _by_run((run, key, float(json.loads(inline))) for run, key, inline in rows)

    def find_finished(self, function: str, memo: str) -> str | None:
        """Return the newest run that succeeded with the same function and parameters, and was no copy itself."""
        rows = self.session.read(
            "SELECT id FROM runs WHERE function = ? AND memo = ? AND memo IS NOT NULL AND state = 'succeeded' "
            "AND reused IS NULL ORDER BY seq DESC LIMIT 1",
            (function, memo),
        )
        return str(rows[0][0]) if rows else None

    def _among(self, sql: str, runs: Sequence[str], *before: Any) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(runs), _AT_ONCE):
            some = runs[start : start + _AT_ONCE]
            yield from self.session.read(sql.format(", ".join("?" * len(some))), (*before, *some))


def _by_run(rows: Iterable[tuple[Any, ...]]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for run, name, value in rows:
        found.setdefault(run, {})[name] = value
    return found
