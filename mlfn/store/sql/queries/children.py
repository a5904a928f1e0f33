"""Queries about sweeps and their children."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from mlfn.errors import NotFoundError
from mlfn.spec.record import RunState, number_of
from mlfn.store.rows import Fault, checked, readable, warn_skipped
from mlfn.store.sql import shapes
from mlfn.store.sql.connection import Connected
from mlfn.store.sql.queries.results import by_run
from mlfn.store.sql.queries.runs import STATES, among, in_states
from mlfn.store.sweeps import ChildRow

_CHILD = ", ".join(shapes.CHILD.columns)
_STEP = shapes.Shape("metrics", step=shapes.INTEGER | shapes.NULL, value=shapes.NUMBER | shapes.NULL)


class SqlSweepQueries(Connected):
    """Implements `mlfn.store.sweeps.SweepQueries`."""

    def get_sweep_body(self, run: str) -> dict[str, Any]:
        rows = self.connection.read("SELECT body FROM sweeps WHERE run = ?", (run,))
        if not rows:
            raise NotFoundError(f"Run {run[:8]} is no sweep: it has no description to go on from.")
        try:
            return shapes.parse_object(rows[0][0])
        except (ValueError, TypeError) as error:
            raise Fault("sweeps", run, "body", str(error), "description").error() from error

    def find_sweep(self, project: str, name: str) -> str | None:
        rows = self.connection.read(
            "SELECT sweeps.run FROM sweeps JOIN runs ON runs.id = sweeps.run "
            "WHERE sweeps.name = ? AND runs.project = ? ORDER BY runs.seq DESC LIMIT 1",
            (name, project),
        )
        return str(rows[0][0]) if rows else None

    def sweep_name(self, run: str) -> str | None:
        rows = self.connection.read("SELECT name FROM sweeps WHERE run = ? AND name IS NOT NULL", (run,))
        return str(rows[0][0]) if rows else None

    def children(
        self, parent: str, *, states: Sequence[RunState] = (), last: int | None = None, strict: bool = False
    ) -> list[ChildRow]:
        only = f"AND {in_states(states)}" if states else ""
        order = "iteration" if last is None else f"iteration DESC LIMIT {int(last)}"
        rows = self.connection.read(
            f"SELECT {_CHILD} FROM runs WHERE parent = ? AND iteration > 0 {only} ORDER BY {order}",
            (parent, *(state.value for state in states)),
        )
        found = map(child_of, rows if last is None else rows[::-1])
        return [*map(checked, found)] if strict else readable(found)

    def children_at(self, parent: str, iterations: Sequence[int]) -> list[ChildRow]:
        marks = ", ".join("?" * len(iterations))
        rows = self.connection.read(
            f"SELECT {_CHILD} FROM runs WHERE parent = ? AND iteration > 0 AND iteration IN ({marks or 'NULL'})",
            (parent, *iterations),
        )
        found = {child.iteration: child for child in readable(map(child_of, rows))}
        return [found[iteration] for iteration in iterations if iteration in found]

    def child_at(self, parent: str, iteration: int) -> str | None:
        rows = self.connection.read(
            "SELECT id FROM runs WHERE parent = ? AND iteration > 0 AND iteration = ?", (parent, iteration)
        )
        return str(rows[0][0]) if rows else None

    def running_children(self, parent: str, owner: str, *, limit: int) -> tuple[int, list[ChildRow]]:
        # `parent || ''` keeps the planner from the index by parent: the one of active runs is shorter.
        where = (
            "owner = ? AND state IN ('pending', 'running') AND state = 'running' AND queued = 0 AND parent || '' = ?"
        )
        [(count,)] = self.connection.read(f"SELECT count(*) FROM runs WHERE {where}", (owner, parent))
        rows = self.connection.read(
            f"SELECT {_CHILD} FROM runs WHERE {where} ORDER BY seq LIMIT {int(limit)}", (owner, parent)
        )
        return int(count), readable(map(child_of, rows))

    def values_by_end(self, parent: str, name: str) -> list[float]:
        # CROSS JOIN makes SQLite go through the children, not through all runs that have such a metric.
        rows = self.connection.read(
            "SELECT scores.value FROM runs CROSS JOIN scores WHERE runs.parent = ? AND runs.iteration > 0 "
            "AND runs.state = 'succeeded' AND scores.run = runs.seq AND scores.name = ? ORDER BY runs.ended",
            (parent, name),
        )
        return [value for (value,) in rows if type(value) in shapes.NUMBER]

    def last_iteration(self, parent: str) -> int:
        rows = self.connection.read("SELECT COALESCE(max(iteration), 0) FROM runs WHERE parent = ?", (parent,))
        return int(rows[0][0])

    def child_counts(self, parent: str) -> dict[RunState, int]:
        rows = self.connection.read(
            "SELECT CASE queued WHEN 1 THEN 'pending' ELSE state END AS shown, count(*) FROM runs "
            "WHERE parent = ? AND iteration > 0 GROUP BY shown",
            (parent,),
        )
        return {STATES[state]: count for state, count in rows if state in STATES}

    def child_scores(self, parent: str) -> dict[str, dict[str, float]]:
        return by_run(
            self.connection.read(
                "SELECT runs.id, scores.name, scores.value FROM scores JOIN runs ON runs.seq = scores.run "
                "WHERE runs.parent = ? AND runs.iteration > 0",
                (parent,),
            )
        )

    def reported_among(self, runs: Sequence[str], names: Collection[str]) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for table in ("metrics", "outputs"):
            column = "name" if table == "metrics" else "key"
            rows = among(
                self.connection,
                f"SELECT DISTINCT runs.id, {table}.{column} FROM {table} JOIN runs ON runs.seq = {table}.run "
                f"AND runs.attempt = {table}.attempt WHERE runs.id IN ({{}})",
                runs,
            )
            for run, name in rows:
                if name in names:
                    found.setdefault(run, set()).add(name)
        return found

    def extremes_among(self, runs: Sequence[str], name: str) -> dict[str, tuple[float, float]]:
        rows = among(
            self.connection,
            "SELECT runs.id, min(metrics.value), max(metrics.value) FROM metrics JOIN runs ON runs.seq = metrics.run "
            "AND runs.attempt = metrics.attempt WHERE metrics.name = ? AND metrics.value <= ? "
            "AND runs.id IN ({}) GROUP BY runs.id",
            runs,
            name,
            math.inf,  # in SQLite, a text among numbers is greater than all of them
        )
        return {run: (least, greatest) for run, least, greatest in rows}

    def series_among(self, runs: Sequence[str], name: str) -> dict[str, list[tuple[int | None, float]]]:
        found: dict[str, list[tuple[int | None, float]]] = {}
        rows = among(
            self.connection,
            "SELECT runs.id, metrics.step, metrics.value FROM metrics JOIN runs ON runs.seq = metrics.run "
            "AND runs.attempt = metrics.attempt WHERE metrics.name = ? AND runs.id IN ({}) ORDER BY metrics.run, number",
            runs,
            name,
        )
        misfit_of = _STEP.misfit
        for run, step, value in rows:
            points = found.setdefault(run, [])
            if (misfit := misfit_of((step, value))) is None:
                points.append((step, math.nan if value is None else value))
            else:
                warn_skipped(Fault("metrics", run, *misfit, f"metric {name!r}"))
        return found

    def whole_numbers_among(self, runs: Sequence[str], name: str) -> dict[str, int]:
        rows = among(
            self.connection,
            "SELECT runs.id, outputs.inline FROM outputs JOIN runs ON runs.seq = outputs.run "
            "AND runs.attempt = outputs.attempt WHERE outputs.key = ? AND runs.id IN ({})",
            runs,
            name,
        )
        found: dict[str, Any] = {
            run: number_of(shapes.parse_json(inline)) for run, inline in rows if inline is not None
        }
        return {run: value for run, value in found.items() if isinstance(value, int) and not isinstance(value, bool)}

    def constraints_among(self, runs: Sequence[str]) -> dict[str, dict[str, float]]:
        rows = among(
            self.connection,
            "SELECT runs.id, outputs.key, outputs.inline FROM outputs JOIN runs ON runs.seq = outputs.run "
            "AND runs.attempt = outputs.attempt WHERE outputs.role = 'constraint' AND runs.id IN ({})",
            runs,
        )
        return by_run((run, key, _bound(inline)) for run, key, inline in rows)


def _bound(inline: str) -> float:
    """Return a constraint's value; one that is no number counts as violated."""
    try:
        value = number_of(shapes.parse_json(inline))
    except (ValueError, TypeError):
        value = None
    return math.inf if value is None or math.isnan(value) else float(value)


def child_of(row: tuple[Any, ...]) -> ChildRow | Fault:
    """Return the child of a row, or why the row cannot be read."""
    values = shapes.parse_row(shapes.CHILD, row, row[0], _PARSERS)
    if isinstance(values, Fault):
        return values
    if values.pop("queued"):
        values["state"] = RunState.PENDING
    return ChildRow(*values.values())


_PARSERS: Mapping[str, Callable[[Any], Any]] = {
    "state": RunState,
    "point": lambda text: shapes.parse_object(text) if text else {},
    "failure": shapes.parse_object_or_none,
}
