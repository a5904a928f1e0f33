"""Queries about runs: by id, by filter, by metric, by owner."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from mlfn.errors import NotFoundError
from mlfn.spec.record import Reason, RunRecord, RunState
from mlfn.store.queries import RunFilter
from mlfn.store.rows import Fault, Unreadable, checked, readable, warn_skipped
from mlfn.store.sql import shapes
from mlfn.store.sql.connection import Connected, Connection

STATES = {state.value: state for state in RunState}
_IDS_PER_STATEMENT = 500
_COLUMNS = ", ".join(shapes.RUN.columns)
OF_RUN = "run = (SELECT seq FROM runs WHERE id = ?)"  # of tables whose rows belong to runs
# A partial index serves only queries that repeat its condition word for word.
_INDEXED_STATES = {
    frozenset({"pending", "running"}): "state IN ('pending', 'running')",
    frozenset({"failed", "cancelled", "pruned"}): "state IN ('failed', 'cancelled', 'pruned')",
}


class RunQueries(Connected):
    """Queries about runs."""

    def get_run(self, run: str) -> RunRecord:
        rows = self.connection.read(f"SELECT {_COLUMNS} FROM runs WHERE id = ?", (run,))
        if not rows:
            raise NotFoundError(
                f"No run {run!r} in the store {self.connection.engine.label}; `mlfn runs` lists those there."
            )
        return checked(record_of(rows[0]))

    def resolve_run(self, prefix: str) -> RunRecord:
        rows = self._beginning_with(prefix)
        return checked(record_of(rows[0])) if rows else self.get_run(prefix)

    def resolve_id(self, prefix: str) -> str:
        rows = self._beginning_with(prefix)
        return str(rows[0][1]) if rows else self.get_run(prefix).id

    def _beginning_with(self, prefix: str) -> list[tuple[Any, ...]]:
        wanted = prefix.lower()
        if not wanted or set(wanted) - set("0123456789abcdef"):
            raise NotFoundError(f"{prefix!r} is no run id: hexadecimal digits are allowed; `mlfn runs` lists the runs.")
        rows = self.connection.read(
            f"SELECT {_COLUMNS} FROM runs WHERE id >= ? AND id <= ? ORDER BY seq DESC LIMIT 5",
            (wanted, wanted + "g"),
        )
        if len(rows) > 1 and rows[0][1] != wanted:
            ids = ", ".join(str(row[1])[: len(wanted) + 4] for row in rows)
            raise NotFoundError(f"{prefix!r} begins the ids of several runs ({ids}, ...): give more digits.")
        return rows

    def raw_state(self, run: str) -> tuple[Any, Any]:
        rows = self.connection.read("SELECT state, owner FROM runs WHERE id = ?", (run,))
        return (rows[0][0], rows[0][1]) if rows else (None, None)

    def list_runs(self, wanted: RunFilter, *, limit: int, newest: bool = True) -> list[RunRecord]:
        where, args = _where(wanted)
        order = "DESC" if newest else "ASC"
        return self._readable(f"SELECT {_COLUMNS} FROM runs WHERE {where} ORDER BY seq {order} LIMIT ?", args, limit)

    def best_runs(self, wanted: RunFilter, metric: str, *, limit: int, highest: bool) -> list[RunRecord]:
        where, args = _where(wanted)
        order = "DESC" if highest else "ASC"
        columns = ", ".join(f"runs.{column}" for column in shapes.RUN.columns)
        # In SQLite, a text among numbers is greater than all of them.
        return self._readable(
            f"SELECT {columns} FROM scores JOIN runs ON runs.seq = scores.run WHERE scores.name = ? "
            f"AND scores.value > ? AND scores.value < ? AND {where} ORDER BY scores.value {order}, runs.seq LIMIT ?",
            (metric, -math.inf, math.inf, *args),
            limit,
        )

    def _readable(self, sql: str, args: Sequence[Any], limit: int) -> list[RunRecord]:
        """Return up to `limit` readable runs; more rows are read to replace unreadable ones."""
        asked = limit
        while True:
            rows = self.connection.read(sql, (*args, asked))
            found = readable(map(record_of, rows))
            if len(found) >= limit or len(rows) < asked:
                return found[:limit]
            asked = 2 * asked - len(found)

    def page(self, *, before: int | None, limit: int) -> tuple[list[RunRecord | Unreadable], int | None]:
        where, args = _where(RunFilter(before=before))
        rows = self.connection.read(
            f"SELECT {_COLUMNS} FROM runs WHERE {where} ORDER BY seq DESC LIMIT ?", (*args, limit)
        )
        return _records(rows), rows[-1][0] if rows else None

    def rows_of(self, runs: Sequence[str]) -> list[RunRecord | Unreadable]:
        """Return those of the runs that exist."""
        return _records(self._rows_of(runs))

    def _rows_of(self, runs: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        return among(self.connection, f"SELECT {_COLUMNS} FROM runs WHERE id IN ({{}})", runs)

    def readable_runs(self, runs: Sequence[str]) -> dict[str, RunRecord]:
        found = {record.id: record for record in readable(map(record_of, self._rows_of(runs)))}
        return {run: found[run] for run in runs if run in found}

    def known_runs(self, runs: Iterable[str]) -> set[str]:
        return {run for (run,) in among(self.connection, "SELECT id FROM runs WHERE id IN ({})", list(runs))}

    def states(self, runs: Sequence[str]) -> dict[str, tuple[RunState, str | None]]:
        found: dict[str, tuple[RunState, str | None]] = {}
        sql = "SELECT id, state, owner, queued FROM runs WHERE id IN ({})"
        for run, state, owner, queued in among(self.connection, sql, runs):
            if state in STATES:
                found[run] = (RunState.PENDING if queued else STATES[state], owner)
            else:
                warn_skipped(Fault("runs", run, "state", f"{shapes.excerpt(state)} is not a state"))
        return found

    def count_runs(self, wanted: RunFilter) -> int:
        where, args = _where(wanted)
        return int(self.connection.read(f"SELECT count(*) FROM runs WHERE {where}", args)[0][0])

    def projects(self) -> list[str]:
        return [
            str(row[0])
            for row in self.connection.read("SELECT DISTINCT project FROM runs WHERE parent IS NULL ORDER BY project")
        ]

    def unfinished(self, owner: str) -> list[RunRecord]:
        wanted = RunFilter(owner=owner, states=("pending", "running"), without_parts=True)
        return self.list_runs(wanted, limit=10**9, newest=False)

    def cancel_requests(self, owner: str) -> list[str]:
        rows = self.connection.read(
            "SELECT id FROM runs WHERE owner = ? AND state IN ('pending', 'running') AND cancel_requested = 1", (owner,)
        )
        return [row[0] for row in rows]

    def parts_of(self, run: str) -> list[str]:
        return [row[0] for row in self.connection.read("SELECT id FROM runs WHERE part_of = ? ORDER BY seq", (run,))]

    def find_finished(self, function: str, memo: str) -> str | None:
        rows = self.connection.read(
            "SELECT id FROM runs WHERE function = ? AND memo = ? AND memo IS NOT NULL AND state = 'succeeded' "
            "AND reused IS NULL ORDER BY seq DESC LIMIT 1",
            (function, memo),
        )
        return str(rows[0][0]) if rows else None

    def retries(self, run: str) -> int:
        rows = self.connection.read("SELECT retries FROM runs WHERE id = ?", (run,))
        return rows[0][0] if rows and type(rows[0][0]) is int else 0


def among(connection: Connection, sql: str, runs: Sequence[str], *args: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query with one ``IN ({})``, after its `args`, a few hundred ids at a time."""
    for start in range(0, len(runs), _IDS_PER_STATEMENT):
        some = runs[start : start + _IDS_PER_STATEMENT]
        yield from connection.read(sql.format(", ".join("?" * len(some))), (*args, *some))


def in_states(states: Sequence[str]) -> str:
    """Return a condition for runs that are shown in one of some states: a run that is queued at its place is pending."""
    stored = f"runs.state IN ({', '.join('?' * len(states))})"
    if ("pending" in states) == ("running" in states):
        return stored
    return f"({stored} OR queued = 1)" if "pending" in states else f"{stored} AND queued = 0"


def _where(wanted: RunFilter) -> tuple[str, list[Any]]:
    """Return a filter as SQL conditions over `runs` and their arguments."""
    clauses: list[str] = []
    args: list[Any] = []
    for column in ("project", "name", "function", "parent", "owner"):
        if getattr(wanted, column) is not None:
            clauses.append(f"runs.{column} = ?")
            args.append(getattr(wanted, column))
    if wanted.top_level:
        clauses.append("runs.parent IS NULL")
    if wanted.without_parts:
        clauses.append("runs.part_of IS NULL")
    if wanted.states:
        clauses.append(in_states(wanted.states))
        args.extend(wanted.states)
        clauses += [clause for group, clause in _INDEXED_STATES.items() if group.issuperset(wanted.states)]
    for key, value in wanted.labels.items():
        clauses.append("EXISTS (SELECT 1 FROM labels WHERE key = ? AND value = ? AND run = runs.seq)")
        args.extend((key, value))
    if wanted.since is not None:
        clauses.append("runs.created >= ?")
        args.append(wanted.since)
    if wanted.before is not None:
        clauses.append("runs.seq < ?")
        args.append(wanted.before)
    return " AND ".join(clauses) or "1 = 1", args


def record_of(row: tuple[Any, ...]) -> RunRecord | Fault:
    """Return the run of a row, or why the row cannot be read."""
    values = shapes.parse_row(shapes.RUN, row, row[1], _PARSERS)
    if isinstance(values, Fault):
        return values
    if values["queued"]:
        values["state"] = RunState.PENDING
    return RunRecord(**values)


_PARSERS: Mapping[str, Callable[[Any], Any]] = {
    "created": shapes.parse_time,
    "started": shapes.parse_time,
    "ended": shapes.parse_time,
    "state": RunState,
    "reason": lambda text: Reason(text) if text else None,
    "params": shapes.parse_params,
    "cancel_requested": bool,
    "queued": bool,
    "sweep": bool,
    "failure": shapes.parse_failure,
    "returns": shapes.parse_returns,
    "progress": shapes.parse_object_or_none,
    "labels": shapes.parse_labels,
    "point": shapes.parse_object_or_none,
}


def _records(rows: Iterable[tuple[Any, ...]]) -> list[RunRecord | Unreadable]:
    return [Unreadable(one, row) if isinstance(one := record_of(row), Fault) else one for row in rows]
