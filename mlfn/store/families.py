"""Queries over a sweep and its children."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlfn.store.rows as shapes
from mlfn.errors import NotFoundError
from mlfn.spec.record import RunState
from mlfn.store.reading import Reading, number_of
from mlfn.store.rows import Fault, Shape

_AT_ONCE = 500  # ids in one statement
_CHILD = "id, iteration, state, reason, attempt, owner, point, started, ended, failure, reused"


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
        try:
            return shapes.mapping(rows[0][0])
        except (ValueError, TypeError) as error:
            raise Fault("sweeps", run, "body", str(error), "description").error() from error

    def find_sweep(self, project: str, name: str) -> str | None:
        """Return the newest sweep of that name."""
        rows = self.session.read(
            "SELECT sweeps.run FROM sweeps JOIN runs ON runs.id = sweeps.run "
            "WHERE sweeps.name = ? AND runs.project = ? ORDER BY runs.seq DESC LIMIT 1",
            (name, project),
        )
        return str(rows[0][0]) if rows else None

    def children(
        self, parent: str, *, states: Sequence[RunState] = (), last: int | None = None, all_or_none: bool = False
    ) -> list[ChildRow]:
        """Return a sweep's children in the order of their numbers; of these states only, or the `last` of them.

        Here and below, those that cannot be read are passed over, and so are numbers that are none; with `all_or_none`
        the first of them is raised.
        """
        only = f"AND state IN ({', '.join('?' * len(states))})" if states else ""
        order = "iteration" if last is None else f"iteration DESC LIMIT {int(last)}"
        rows = self.session.read(
            f"SELECT {_CHILD} FROM runs WHERE parent = ? AND iteration > 0 {only} ORDER BY {order}",
            (parent, *(state.value for state in states)),
        )
        return _children(rows if last is None else rows[::-1], all_or_none=all_or_none)

    def children_at(self, parent: str, iterations: Sequence[int]) -> list[ChildRow]:
        """Return children by their numbers, in the order of these; as many as there are."""
        marks = ", ".join("?" * len(iterations))
        rows = self.session.read(
            f"SELECT {_CHILD} FROM runs WHERE parent = ? AND iteration > 0 AND iteration IN ({marks or 'NULL'})",
            (parent, *iterations),
        )
        found = {child.iteration: child for child in _children(rows)}
        return [found[iteration] for iteration in iterations if iteration in found]

    def child_at(self, parent: str, iteration: int) -> str | None:
        """Return the id of a child by its number, whether it can be read or not."""
        rows = self.session.read(
            "SELECT id FROM runs WHERE parent = ? AND iteration > 0 AND iteration = ?", (parent, iteration)
        )
        return str(rows[0][0]) if rows else None

    def children_at_work(self, parent: str, owner: str, *, limit: int) -> tuple[int, list[ChildRow]]:
        """Return how many children of one client run now, and the first few; however many have ended, this is quick."""
        # The index of what is active is meant, and not that of the parent, of which nothing is compared by itself.
        where = "owner = ? AND state IN ('pending', 'running') AND state = 'running' AND parent || '' = ?"
        [(count,)] = self.session.read(f"SELECT count(*) FROM runs WHERE {where}", (owner, parent))
        rows = self.session.read(
            f"SELECT {_CHILD} FROM runs WHERE {where} ORDER BY seq LIMIT {int(limit)}", (owner, parent)
        )
        return int(count), _children(rows)

    def best_children(self, parent: str, name: str, *, highest: bool, limit: int) -> list[int]:
        """Return the numbers of the children that succeeded with the best values of a metric or numeric output."""
        # Written so that SQLite goes through the children, and not through all runs that have such a metric.
        rows = self.session.read(
            "SELECT runs.iteration FROM runs CROSS JOIN scores WHERE runs.parent = ? AND runs.iteration > 0 "
            "AND runs.state = 'succeeded' AND scores.run = runs.id AND scores.name = ? AND scores.value > ? AND scores.value < ? "
            f"ORDER BY scores.value {'DESC' if highest else 'ASC'}, runs.iteration LIMIT {int(limit)}",
            (parent, name, -math.inf, math.inf),
        )
        return [iteration for (iteration,) in rows]

    def values_as_ended(self, parent: str, name: str) -> list[float]:
        """Return a metric or numeric output of the children that succeeded, in the order in which they ended."""
        rows = self.session.read(
            "SELECT scores.value FROM runs CROSS JOIN scores WHERE runs.parent = ? AND runs.iteration > 0 "
            "AND runs.state = 'succeeded' AND scores.run = runs.id AND scores.name = ? ORDER BY runs.ended",
            (parent, name),
        )
        return [value for (value,) in rows if type(value) in shapes.NUMBER]

    def last_child(self, parent: str) -> int:
        """Return the highest number among a run's children; 0 if it has none."""
        rows = self.session.read("SELECT COALESCE(max(iteration), 0) FROM runs WHERE parent = ?", (parent,))
        return int(rows[0][0])

    def child_counts(self, parent: str) -> dict[RunState, int]:
        """Return how many children are in each state."""
        rows = self.session.read(
            "SELECT state, count(*) FROM runs WHERE parent = ? AND iteration > 0 GROUP BY state", (parent,)
        )
        return {_STATES[state]: count for state, count in rows if state in _STATES}

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

    def reported_among(self, runs: Sequence[str], names: Collection[str]) -> dict[str, set[str]]:
        """Return which of the metrics and outputs the last attempts of runs have reported, as a number or as none."""
        found: dict[str, set[str]] = {}
        for table in ("metrics", "outputs"):
            column = "name" if table == "metrics" else "key"
            rows = self._among(
                f"SELECT DISTINCT {table}.run, {table}.{column} FROM {table} JOIN runs ON runs.id = {table}.run "
                f"AND runs.attempt = {table}.attempt WHERE {table}.run IN ({{}})",
                runs,
            )
            for run, name in rows:
                if name in names:
                    found.setdefault(run, set()).add(name)
        return found

    def extremes_among(self, runs: Sequence[str], name: str) -> dict[str, tuple[float, float]]:
        """Return the least and the greatest value of a metric's series, by run; of its last attempt."""
        rows = self._among(
            "SELECT metrics.run, min(metrics.value), max(metrics.value) FROM metrics JOIN runs ON runs.id = metrics.run "
            "AND runs.attempt = metrics.attempt WHERE metrics.name = ? AND metrics.value <= ? "
            "AND metrics.run IN ({}) GROUP BY metrics.run",
            runs,
            name,
            math.inf,  # a text, which SQLite may have among numbers, is greater than all of them
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
        misfit_of = _STEP.misfit
        for run, step, value in rows:
            points = found.setdefault(run, [])
            if (misfit := misfit_of((step, value))) is None:
                points.append((step, math.nan if value is None else value))
            else:
                shapes.pass_over(Fault("metrics", run, *misfit, f"metric {name!r}"))
        return found

    def constraints_among(self, runs: Sequence[str]) -> dict[str, dict[str, float]]:
        """Return the constraints that runs logged, by run."""
        rows = self._among(
            "SELECT outputs.run, outputs.key, outputs.inline FROM outputs JOIN runs ON runs.id = outputs.run "
            "AND runs.attempt = outputs.attempt WHERE outputs.role = 'constraint' AND outputs.run IN ({})",
            runs,
        )
        return _by_run((run, key, _bound(inline)) for run, key, inline in rows)

    def parts_of(self, run: str) -> list[str]:
        """Return the runs that live and end within a run: its handler opened them."""
        return [row[0] for row in self.session.read("SELECT id FROM runs WHERE part_of = ? ORDER BY seq", (run,))]

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


def _bound(inline: str) -> float:
    """Return a constraint's value; what is no number is not met."""
    try:
        value = number_of(shapes.loaded(inline))
    except (ValueError, TypeError):
        value = None
    return math.inf if value is None or math.isnan(value) else float(value)


_STATES = {state.value: state for state in RunState}
_STEP = Shape("metrics", step=shapes.WHOLE | shapes.NO, value=shapes.NUMBER | shapes.NO)


def child_of(row: tuple[Any, ...]) -> ChildRow | Fault:
    """Return a sweep's child by its row, or what is wrong with that."""
    misfit = shapes.CHILD.misfit(row)
    if misfit is not None:
        return Fault("runs", str(row[0]), *misfit)
    run, iteration, state, reason, attempt, owner, point, started, ended, failure, reused = row
    try:
        return ChildRow(
            run,
            iteration,
            _STATES.get(state) or RunState(state),
            reason,
            attempt,
            owner,
            shapes.mapping(point) if point else {},
            started,
            ended,
            shapes.mapping(failure) if failure else None,
            reused,
        )
    except ValueError:
        readers = (("state", RunState, state), ("point", shapes.maybe_mapping, point))
        return shapes.first_fault("runs", run, (*readers, ("failure", shapes.maybe_mapping, failure)))


def _children(rows: Iterable[tuple[Any, ...]], *, all_or_none: bool = False) -> list[ChildRow]:
    found: list[ChildRow] = []
    for row in rows:
        child = child_of(row)
        if isinstance(child, Fault):
            if all_or_none:
                raise child.error()
            shapes.pass_over(child)
        else:
            found.append(child)
    return found


def _by_run(rows: Iterable[tuple[Any, ...]]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for run, name, value in rows:
        own = found.setdefault(run, {})
        if type(value) in shapes.NUMBER:
            own[name] = value
        else:
            shapes.pass_over(Fault("scores", run, "value", f"{shapes.shown(value)} is not a number", f"score {name!r}"))
    return found
