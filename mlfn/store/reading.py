"""Queries: what the store knows, without changing it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlfn.errors import NotFoundError, StoreCorruptError
from mlfn.spec.record import Attempt, Output, Reason, RemoteFailure, RunRecord, RunState
from mlfn.store.session import Session

_COLUMNS = (
    "seq, id, name, project, function, plan, place, state, reason, attempt, owner, worker, params, created, started, ended, "
    "not_before, cancel_requested, failure, returns, progress, labels, parent, sweep, iteration, point, reused, part_of"
)


# Partial indexes serve a query that repeats their condition word for word.
_INDEXED_STATES = {
    frozenset({"pending", "running"}): "state IN ('pending', 'running')",
    frozenset({"failed", "cancelled", "pruned"}): "state IN ('failed', 'cancelled', 'pruned')",
}


@dataclass(frozen=True)
class WorkerRow:
    """A worker as stored: which process, whose, and how much of its journal was read."""

    id: str
    client: str
    host: str
    pid: int
    started: str
    folder: str
    consumed: int


@dataclass(frozen=True)
class RunFilter:
    """Which runs to list: every field that is set must match."""

    project: str | None = None
    name: str | None = None
    states: tuple[str, ...] = ()
    function: str | None = None
    parent: str | None = None
    on_top: bool = False  # only those that have no parent
    whole: bool = False  # only those that are no part of another run's attempt
    owner: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    since: float | None = None
    before: int | None = None  # seq of the last run of the page before

    def where(self) -> tuple[str, list[Any]]:
        """Return SQL conditions over `runs` and their arguments."""
        clauses: list[str] = []
        args: list[Any] = []
        for column in ("project", "name", "function", "parent", "owner"):
            if getattr(self, column) is not None:
                clauses.append(f"runs.{column} = ?")
                args.append(getattr(self, column))
        if self.on_top:
            clauses.append("runs.parent IS NULL")
        if self.whole:
            clauses.append("runs.part_of IS NULL")
        if self.states:
            clauses.append(f"runs.state IN ({', '.join('?' * len(self.states))})")
            args.extend(self.states)
            clauses += [clause for group, clause in _INDEXED_STATES.items() if group.issuperset(self.states)]
        for key, value in self.labels.items():
            clauses.append("EXISTS (SELECT 1 FROM labels WHERE key = ? AND value = ? AND run = runs.id)")
            args.extend((key, value))
        if self.since is not None:
            clauses.append("runs.created >= ?")
            args.append(self.since)
        if self.before is not None:
            clauses.append("runs.seq < ?")
            args.append(self.before)
        return " AND ".join(clauses) or "1 = 1", args


class Reading:
    """The half of the store that reads."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def get_run(self, run: str) -> RunRecord:
        """Return one run by its whole id, or raise NotFoundError."""
        rows = self.session.read(f"SELECT {_COLUMNS} FROM runs WHERE id = ?", (run,))
        if not rows:
            raise NotFoundError(
                f"No run {run!r} in the store {self.session.engine.label}; `mlfn runs` lists those there."
            )
        return _record(rows[0])

    def projects(self) -> list[str]:
        """Return the projects that have runs, by name."""
        return [str(row[0]) for row in self.session.read("SELECT DISTINCT project FROM runs ORDER BY project")]

    def find_run(self, prefix: str) -> RunRecord:
        """Return the one run whose id begins with `prefix`."""
        wanted = prefix.lower()
        if not wanted or set(wanted) - set("0123456789abcdef"):
            raise NotFoundError(f"{prefix!r} is no run id: hexadecimal digits are allowed; `mlfn runs` lists the runs.")
        rows = self.session.read(
            f"SELECT {_COLUMNS} FROM runs WHERE id >= ? AND id <= ? ORDER BY seq DESC LIMIT 5",
            (wanted, wanted + "g"),
        )
        if not rows:
            return self.get_run(prefix)
        if len(rows) > 1 and rows[0][1] != wanted:
            ids = ", ".join(str(row[1])[: len(wanted) + 4] for row in rows)
            raise NotFoundError(f"{prefix!r} begins the ids of several runs ({ids}, ...): give more digits.")
        return _record(rows[0])

    def list_runs(self, wanted: RunFilter, *, limit: int, newest: bool = True) -> list[RunRecord]:
        """Return runs, newest first (or oldest first)."""
        where, args = wanted.where()
        order = "DESC" if newest else "ASC"
        rows = self.session.read(
            f"SELECT {_COLUMNS} FROM runs WHERE {where} ORDER BY seq {order} LIMIT ?",
            (*args, limit),
        )
        return [_record(row) for row in rows]

    def best_runs(self, wanted: RunFilter, metric: str, *, limit: int, highest: bool) -> list[RunRecord]:
        """Return runs by a metric or numeric output, best first; ties go to the older run."""
        where, args = wanted.where()
        order = "DESC" if highest else "ASC"
        columns = ", ".join(f"runs.{column.strip()}" for column in _COLUMNS.split(","))
        rows = self.session.read(
            f"SELECT {columns} FROM scores JOIN runs ON runs.id = scores.run WHERE scores.name = ? "
            f"AND abs(scores.value) < ? AND {where} ORDER BY scores.value {order}, runs.seq LIMIT ?",
            (metric, math.inf, *args, limit),
        )
        return [_record(row) for row in rows]

    def count_runs(self, wanted: RunFilter) -> int:
        """Return how many runs match."""
        where, args = wanted.where()
        return int(self.session.read(f"SELECT count(*) FROM runs WHERE {where}", args)[0][0])

    def states(self, runs: Sequence[str]) -> dict[str, tuple[RunState, str | None]]:
        """Return (state, owner) of each of the runs that exist."""
        found: dict[str, tuple[RunState, str | None]] = {}
        for start in range(0, len(runs), 500):
            some = runs[start : start + 500]
            marks = ", ".join("?" * len(some))
            for run, state, owner in self.session.read(
                f"SELECT id, state, owner FROM runs WHERE id IN ({marks})",
                some,
            ):
                found[run] = (RunState(state), owner)
        return found

    def retries(self, run: str) -> int:
        """Return how much of its retry budget a run has used."""
        rows = self.session.read("SELECT retries FROM runs WHERE id = ?", (run,))
        return int(rows[0][0]) if rows else 0

    def cancel_requests(self, owner: str) -> list[str]:
        """Return runs of this owner that somebody wants to end."""
        rows = self.session.read(
            "SELECT id FROM runs WHERE owner = ? AND state IN ('pending', 'running') AND cancel_requested = 1", (owner,)
        )
        return [row[0] for row in rows]

    def outputs(self, run: str, attempt: int) -> list[Output]:
        """Return the outputs of one attempt, in the order of their names."""
        rows = self.session.read(
            "SELECT key, role, packer, type, inline, path, sha256, size FROM outputs WHERE run = ? AND attempt = ? ORDER BY key",
            (run, attempt),
        )
        return [
            Output(key, role, packer, kind, _load(inline, run, key), path, sha256, size)
            for key, role, packer, kind, inline, path, sha256, size in rows
        ]

    def scores(self, run: str) -> dict[str, float]:
        """Return the last value of each metric and numeric output."""
        return dict(self.session.read("SELECT name, value FROM scores WHERE run = ? ORDER BY name", (run,)))

    def metric_names(self, run: str, attempt: int) -> list[str]:
        """Return the names of the metrics that the attempt logged."""
        rows = self.session.read(
            "SELECT DISTINCT name FROM metrics WHERE run = ? AND attempt = ? ORDER BY name", (run, attempt)
        )
        return [row[0] for row in rows]

    def series(self, run: str, attempt: int, name: str) -> list[tuple[int | None, float, float]]:
        """Return the points of one metric as (step, value, time), as logged."""
        rows = self.session.read(
            "SELECT step, value, time FROM metrics WHERE run = ? AND attempt = ? AND name = ? ORDER BY time, step",
            (run, attempt, name),
        )
        return [(step, math.nan if value is None else value, time) for step, value, time in rows]

    def thinned_series(self, run: str, attempt: int, name: str, *, most: int) -> tuple[int, list[float]]:
        """Return how many points a metric has, and about `most` of their values, the last one among them."""
        key = (run, attempt, name)
        count = int(
            self.session.read("SELECT count(*) FROM metrics WHERE run = ? AND attempt = ? AND name = ?", key)[0][0]
        )
        every = max(1, -(-count // most))
        rows = self.session.read(
            "SELECT value FROM (SELECT value, row_number() OVER (ORDER BY time, step) AS place FROM metrics "
            "WHERE run = ? AND attempt = ? AND name = ?) AS numbered WHERE (? - place) % ? = 0 ORDER BY place",
            (*key, count, every),
        )
        return count, [math.nan if value is None else value for (value,) in rows]

    def attempts(self, run: str) -> list[Attempt]:
        """Return every try at the run, first one first."""
        rows = self.session.read(
            "SELECT run, attempt, worker, started, ended, state, reason, log, failure FROM attempts WHERE run = ? ORDER BY attempt",
            (run,),
        )
        return [Attempt(*row) for row in rows]

    def events(self, run: str) -> list[tuple[float, int, str, str | None]]:
        """Return what happened to the run as (time, attempt, what, detail), oldest first."""
        rows = self.session.read("SELECT time, attempt, what, detail FROM events WHERE run = ? ORDER BY seq", (run,))
        return [(time, attempt, what, detail) for time, attempt, what, detail in rows]

    def plan(self, digest: str) -> dict[str, Any]:
        """Return what runs under this plan have in common."""
        rows = self.session.read("SELECT body FROM plans WHERE hash = ?", (digest,))
        if not rows:
            raise StoreCorruptError(
                f"The store {self.session.engine.label} lacks the plan {digest}; was it restored in part?"
            )
        body: dict[str, Any] = _load(rows[0][0], digest, "plan")
        return body

    def plan_of(self, function: str) -> dict[str, Any] | None:
        """Return a plan of a function version; None where none is kept."""
        rows = self.session.read("SELECT hash FROM plans WHERE function = ? ORDER BY hash LIMIT 1", (function,))
        return self.plan(rows[0][0]) if rows else None

    def payload_digests(self) -> set[str]:
        """Return the payloads that a stored plan refers to."""
        rows = self.session.read("SELECT hash, body FROM plans")
        return {str(_load(body, digest, "plan")["payload"]) for digest, body in rows}

    def plan_hashes(self) -> set[str]:
        """Return the plans that a run refers to."""
        return {row[0] for row in self.session.read("SELECT DISTINCT plan FROM runs")}

    def function(self, digest: str) -> dict[str, Any]:
        """Return a function version's spec."""
        rows = self.session.read("SELECT spec FROM functions WHERE hash = ?", (digest,))
        if not rows:
            raise NotFoundError(f"No function version {digest!r} in the store {self.session.engine.label}.")
        spec: dict[str, Any] = _load(rows[0][0], digest, "spec")
        return spec

    def find_function(self, prefix: str) -> str:
        """Return the whole hash of the one function version whose hash begins with `prefix`."""
        wanted = prefix.lower()
        rows = self.session.read(
            "SELECT hash FROM functions WHERE hash >= ? AND hash <= ? ORDER BY hash LIMIT 5", (wanted, wanted + "g")
        )
        found = [row[0] for row in rows]
        if len(found) > 1 and wanted not in found:
            some = ", ".join(str(digest)[: len(wanted) + 4] for digest in found)
            raise NotFoundError(
                f"{prefix!r} begins the hashes of several function versions ({some}): give more digits."
            )
        if not found:
            raise NotFoundError(
                f"No function version {prefix!r} in the store {self.session.engine.label}; `mlfn show ID` names a run's."
            )
        return wanted if wanted in found else str(found[0])

    def clients(self) -> list[tuple[str, str, int, str, float]]:
        """Return (id, host, pid, started, beat) of the known clients."""
        rows = self.session.read("SELECT id, host, pid, started, beat FROM clients")
        return [(client, host, pid, started, beat) for client, host, pid, started, beat in rows]

    def workers(self, client: str | None = None) -> list[WorkerRow]:
        """Return the known workers, of one client or of all."""
        where, args = ("WHERE client = ?", (client,)) if client else ("", ())
        rows = self.session.read(
            f"SELECT id, client, host, pid, started, folder, consumed FROM workers {where}",
            args,
        )
        return [WorkerRow(*row) for row in rows]

    def unfinished(self, owner: str) -> list[RunRecord]:
        """Return the runs of an owner that are not terminal, oldest first; their parts end with them."""
        wanted = RunFilter(owner=owner, states=("pending", "running"), whole=True)
        return self.list_runs(wanted, limit=10**9, newest=False)

    def known_runs(self, runs: Iterable[str]) -> set[str]:
        """Return those of the ids that are in the store."""
        return set(self.states(list(runs)))


def _record(row: tuple[Any, ...]) -> RunRecord:
    (
        seq, run, name, project, function, plan, place, state, reason, attempt, owner, worker, params, created, started,
        ended, not_before, cancel, failure, returns, progress, labels, parent, sweep, iteration, point, reused, part_of,
    ) = row  # fmt: skip
    try:
        return RunRecord(
            id=run,
            name=name,
            project=project,
            function=function,
            plan=plan,
            place=place,
            state=RunState(state),
            attempt=attempt,
            params=json.loads(params),
            created=created,
            reason=Reason(reason) if reason else None,
            started=started,
            ended=ended,
            owner=owner,
            worker=worker,
            cancel_requested=bool(cancel),
            not_before=not_before,
            failure=RemoteFailure.from_json(json.loads(failure)) if failure else None,
            returns=json.loads(returns) if returns else None,
            progress=json.loads(progress) if progress else None,
            labels=json.loads(labels) if labels != "{}" else {},
            parent=parent,
            seq=seq,
            sweep=bool(sweep),
            iteration=iteration,
            point=json.loads(point) if point else None,
            reused=reused,
            part_of=part_of,
        )
    except (ValueError, TypeError) as error:
        raise StoreCorruptError(
            f"The row of run {run!r} cannot be read ({error}); restore the store from a copy, or delete that row."
        ) from error


def _load(text: str | None, owner: str, what: str) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError as error:
        raise StoreCorruptError(
            f"The {what} of {owner!r} cannot be read ({error}); restore the store from a copy, or delete that row."
        ) from error


def number_of(inline: Any) -> float | None:
    """Return the number that an inline value is, as JSON or as a tagged NumPy scalar; False is 0 and True 1."""
    value = inline
    if isinstance(value, dict) and value.get("!") == "numpy":
        value = value["v"][1]
    if isinstance(value, dict) and value.get("!") == "float":
        value = float(value["v"])
    return value if isinstance(value, (int, float)) else None
