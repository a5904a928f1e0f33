"""Queries: what the store knows, without changing it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlfn.store.rows as shapes
from mlfn.errors import NotFoundError, StoreCorruptError
from mlfn.spec.record import Attempt, Output, Reason, RunRecord, RunState
from mlfn.store.rows import Fault, Shape
from mlfn.store.session import Session

_AT_ONCE = 500  # ids in one statement

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
        return _asked(rows[0])

    def find_id(self, prefix: str) -> str:
        """Return the id of the one run whose id begins with `prefix`, whether that run can be read or not."""
        rows = self._beginning_with(prefix)
        return str(rows[0][1]) if rows else self.get_run(prefix).id

    def projects(self) -> list[str]:
        """Return the projects that have runs, by name."""
        return [str(row[0]) for row in self.session.read("SELECT DISTINCT project FROM runs ORDER BY project")]

    def find_run(self, prefix: str) -> RunRecord:
        """Return the one run whose id begins with `prefix`."""
        rows = self._beginning_with(prefix)
        return _asked(rows[0]) if rows else self.get_run(prefix)

    def raw_state(self, run: str) -> tuple[Any, Any]:
        """Return (state, owner) as they stand there, whether a run can be read or not."""
        rows = self.session.read("SELECT state, owner FROM runs WHERE id = ?", (run,))
        return (rows[0][0], rows[0][1]) if rows else (None, None)

    def _beginning_with(self, prefix: str) -> list[tuple[Any, ...]]:
        wanted = prefix.lower()
        if not wanted or set(wanted) - set("0123456789abcdef"):
            raise NotFoundError(f"{prefix!r} is no run id: hexadecimal digits are allowed; `mlfn runs` lists the runs.")
        rows = self.session.read(
            f"SELECT {_COLUMNS} FROM runs WHERE id >= ? AND id <= ? ORDER BY seq DESC LIMIT 5",
            (wanted, wanted + "g"),
        )
        if len(rows) > 1 and rows[0][1] != wanted:
            ids = ", ".join(str(row[1])[: len(wanted) + 4] for row in rows)
            raise NotFoundError(f"{prefix!r} begins the ids of several runs ({ids}, ...): give more digits.")
        return rows

    def list_runs(self, wanted: RunFilter, *, limit: int, newest: bool = True) -> list[RunRecord]:
        """Return runs, newest first (or oldest first); those that cannot be read are passed over."""
        where, args = wanted.where()
        order = "DESC" if newest else "ASC"
        return self._readable(f"SELECT {_COLUMNS} FROM runs WHERE {where} ORDER BY seq {order} LIMIT ?", args, limit)

    def page(self, *, before: int | None, limit: int) -> tuple[list[RunRecord | Unreadable], int | None]:
        """Return runs, newest first, those that cannot be read among them, and where the next page begins."""
        where, args = RunFilter(before=before).where()
        rows = self.session.read(f"SELECT {_COLUMNS} FROM runs WHERE {where} ORDER BY seq DESC LIMIT ?", (*args, limit))
        return _either(rows), rows[-1][0] if rows else None

    def rows_of(self, runs: Sequence[str]) -> list[RunRecord | Unreadable]:
        """Return those of the runs that exist."""
        found: list[RunRecord | Unreadable] = []
        for start in range(0, len(runs), _AT_ONCE):
            some = runs[start : start + _AT_ONCE]
            marks = ", ".join("?" * len(some))
            found += _either(self.session.read(f"SELECT {_COLUMNS} FROM runs WHERE id IN ({marks})", some))
        return found

    def readable_runs(self, runs: Sequence[str]) -> dict[str, RunRecord]:
        """Return those of the runs that exist and can be read, in the order of the ids; others are passed over."""
        found = {record.id: record for record in _readable(self.rows_of(runs))}
        return {run: found[run] for run in runs if run in found}

    def best_runs(self, wanted: RunFilter, metric: str, *, limit: int, highest: bool) -> list[RunRecord]:
        """Return runs by a metric or numeric output, best first; ties go to the older run."""
        where, args = wanted.where()
        order = "DESC" if highest else "ASC"
        columns = ", ".join(f"runs.{column.strip()}" for column in _COLUMNS.split(","))
        # A text, which SQLite may have among numbers, is greater than all of them.
        return self._readable(
            f"SELECT {columns} FROM scores JOIN runs ON runs.id = scores.run WHERE scores.name = ? "
            f"AND scores.value > ? AND scores.value < ? AND {where} ORDER BY scores.value {order}, runs.seq LIMIT ?",
            (metric, -math.inf, math.inf, *args),
            limit,
        )

    def _readable(self, sql: str, args: Sequence[Any], limit: int) -> list[RunRecord]:
        """Return what can be read of runs; as many as are asked for, where there are so many."""
        asked = limit
        while True:
            rows = self.session.read(sql, (*args, asked))
            found = _readable(_either(rows))
            if len(found) >= limit or len(rows) < asked:
                return found[:limit]
            asked = 2 * asked - len(found)

    def count_runs(self, wanted: RunFilter) -> int:
        """Return how many runs match."""
        where, args = wanted.where()
        return int(self.session.read(f"SELECT count(*) FROM runs WHERE {where}", args)[0][0])

    def states(self, runs: Sequence[str]) -> dict[str, tuple[RunState, str | None]]:
        """Return (state, owner) of each of the runs that exist and whose state can be read."""
        found: dict[str, tuple[RunState, str | None]] = {}
        for start in range(0, len(runs), _AT_ONCE):
            some = runs[start : start + _AT_ONCE]
            marks = ", ".join("?" * len(some))
            for run, state, owner in self.session.read(
                f"SELECT id, state, owner FROM runs WHERE id IN ({marks})",
                some,
            ):
                if state in _STATES:
                    found[run] = (_STATES[state], owner)
                else:
                    shapes.pass_over(Fault("runs", run, "state", f"{shapes.shown(state)} is not a state"))
        return found

    def retries(self, run: str) -> int:
        """Return how much of its retry budget a run has used."""
        rows = self.session.read("SELECT retries FROM runs WHERE id = ?", (run,))
        return rows[0][0] if rows and type(rows[0][0]) is int else 0

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
        found: list[Output] = []
        for row in rows:
            output = output_of(row, run)
            if isinstance(output, Fault):
                raise output.error()
            found.append(output)
        return found

    def scores(self, run: str) -> dict[str, float]:
        """Return the last value of each metric and numeric output."""
        rows = self.session.read("SELECT name, value FROM scores WHERE run = ? ORDER BY name", (run,))
        return dict(_fitting(rows, shapes.SCORE, run))

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
        _fitting(rows, shapes.POINT, run, f"metric {name!r}")
        return [(step, math.nan if value is None else value, time) for step, value, time in rows]

    def thinned_series(self, run: str, attempt: int, name: str, *, most: int) -> tuple[int, list[float]]:
        """Return how many points a metric has, and about `most` of their values, the last one among them."""
        key = (run, attempt, name)
        count = int(
            self.session.read("SELECT count(*) FROM metrics WHERE run = ? AND attempt = ? AND name = ?", key)[0][0]
        )
        every = max(1, -(-count // most))
        rows = self.session.read(
            "SELECT step, value, time FROM (SELECT step, value, time, row_number() OVER (ORDER BY time, step) AS place "
            "FROM metrics WHERE run = ? AND attempt = ? AND name = ?) AS numbered "
            "WHERE (? - place) % ? = 0 ORDER BY place",
            (*key, count, every),
        )
        _fitting(rows, shapes.POINT, run, f"metric {name!r}")
        return count, [math.nan if value is None else value for _, value, _ in rows]

    def attempts(self, run: str) -> list[Attempt]:
        """Return every try at the run, first one first."""
        rows = self.session.read(
            "SELECT run, attempt, worker, started, ended, state, reason, log, failure FROM attempts WHERE run = ? ORDER BY attempt",
            (run,),
        )
        return [Attempt(*row) for row in _fitting(rows, shapes.ATTEMPT, run)]

    def begun(self, run: str, attempt: int) -> float | None:
        """Return when a worker began with an attempt; None where that is unknown."""
        rows = self.session.read("SELECT started FROM attempts WHERE run = ? AND attempt = ?", (run, attempt))
        return rows[0][0] if rows and type(rows[0][0]) in shapes.NUMBER else None

    def events(self, run: str) -> list[tuple[float, int, str, str | None]]:
        """Return what happened to the run as (time, attempt, what, detail), oldest first."""
        rows = self.session.read("SELECT time, attempt, what, detail FROM events WHERE run = ? ORDER BY seq", (run,))
        return [(time, attempt, what, detail) for time, attempt, what, detail in _fitting(rows, shapes.EVENT, run)]

    def plan(self, digest: str) -> dict[str, Any]:
        """Return what runs under this plan have in common."""
        rows = self.session.read("SELECT body FROM plans WHERE hash = ?", (digest,))
        if not rows:
            raise StoreCorruptError(
                f"The store {self.session.engine.label} lacks the plan {digest}; was it restored in part?"
            )
        return _mapping_of(rows[0][0], digest, "plan")

    def plan_of(self, function: str) -> dict[str, Any] | None:
        """Return a plan of a function version; None where none is kept."""
        rows = self.session.read("SELECT hash FROM plans WHERE function = ? ORDER BY hash LIMIT 1", (function,))
        return self.plan(rows[0][0]) if rows else None

    def payload_digests(self) -> set[str] | None:
        """Return the payloads that a stored plan refers to; None where a plan cannot be read: it may be any."""
        found: set[str] = set()
        for digest, body in self.session.read("SELECT hash, body FROM plans"):
            try:
                found.add(_mapping_of(body, digest, "plan")["payload"])
            except StoreCorruptError as error:
                shapes.pass_over(error)
                return None
        return found

    def plan_hashes(self) -> set[str]:
        """Return the plans that a run refers to."""
        return {row[0] for row in self.session.read("SELECT DISTINCT plan FROM runs")}

    def function(self, digest: str) -> dict[str, Any]:
        """Return a function version's spec."""
        rows = self.session.read("SELECT spec FROM functions WHERE hash = ?", (digest,))
        if not rows:
            raise NotFoundError(f"No function version {digest!r} in the store {self.session.engine.label}.")
        return _mapping_of(rows[0][0], digest, "function version")

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
        return [
            (client, host, pid, started, beat)
            for client, host, pid, started, beat in rows
            if _fits(shapes.CLIENT, (client, host, pid, started, beat))
        ]

    def workers(self, client: str | None = None) -> list[WorkerRow]:
        """Return the known workers, of one client or of all."""
        where, args = ("WHERE client = ?", (client,)) if client else ("", ())
        rows = self.session.read(
            f"SELECT id, client, host, pid, started, folder, consumed FROM workers {where}",
            args,
        )
        return [WorkerRow(*row) for row in rows if _fits(shapes.WORKER, row)]

    def worker_ids(self, client: str | None = None) -> set[str]:
        """Return the ids of the known workers, of one client or of all; of those too whose rows cannot be read."""
        where, args = ("WHERE client = ?", (client,)) if client else ("", ())
        return {row[0] for row in self.session.read(f"SELECT id FROM workers {where}", args)}

    def unfinished(self, owner: str) -> list[RunRecord]:
        """Return the runs of an owner that are not terminal, oldest first; their parts end with them."""
        return self.list_runs(_unfinished(owner), limit=10**9, newest=False)

    def is_needed(self, client: str) -> bool:
        """Say whether a run that is not over, or a worker, names this client; rows that cannot be read count."""
        return bool(self.count_runs(_unfinished(client)) or self.worker_ids(client))

    def known_runs(self, runs: Iterable[str]) -> set[str]:
        """Return those of the ids that are in the store."""
        ids = list(runs)
        found: set[str] = set()
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            marks = ", ".join("?" * len(some))
            found.update(row[0] for row in self.session.read(f"SELECT id FROM runs WHERE id IN ({marks})", some))
        return found


def _unfinished(owner: str) -> RunFilter:
    return RunFilter(owner=owner, states=("pending", "running"), whole=True)


@dataclass(frozen=True)
class Unreadable:
    """A row of a run that cannot be read, and what is in it all the same."""

    fault: Fault
    row: tuple[Any, ...] = field(repr=False)

    @property
    def id(self) -> str:
        """The run's id."""
        return self.fault.run

    def mentioned(self) -> set[str]:
        """Return the ids of runs that stand anywhere in it; its own is not among them."""
        texts = (str(value) for value in self.row)
        return {run for text in texts for run in _RUN_ID.findall(text)} - {self.id}


_RUN_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
_STATES = {state.value: state for state in RunState}


def record_of(row: tuple[Any, ...]) -> RunRecord | Fault:
    """Return a run by its row, or what is wrong with that."""
    misfit = shapes.RUN.misfit(row)
    if misfit is not None:
        return Fault("runs", str(row[1]), *misfit)
    (
        seq, run, name, project, function, plan, place, state, reason, attempt, owner, worker, params, created, started,
        ended, not_before, cancel, failure, returns, progress, labels, parent, sweep, iteration, point, reused, part_of,
    ) = row  # fmt: skip
    try:
        shapes.check_moments(created, started, ended)
        return RunRecord(
            id=run,
            name=name,
            project=project,
            function=function,
            plan=plan,
            place=place,
            state=_STATES.get(state) or RunState(state),
            attempt=attempt,
            params=shapes.params_of(params),
            created=created,
            reason=Reason(reason) if reason else None,
            started=started,
            ended=ended,
            owner=owner,
            worker=worker,
            cancel_requested=bool(cancel),
            not_before=not_before,
            failure=shapes.failure_of(failure) if failure else None,
            returns=shapes.returns_of(returns) if returns else None,
            progress=shapes.mapping(progress) if progress else None,
            labels=shapes.labels_of(labels),
            parent=parent,
            seq=seq,
            sweep=bool(sweep),
            iteration=iteration,
            point=shapes.mapping(point) if point else None,
            reused=reused,
            part_of=part_of,
        )
    except (ValueError, TypeError):
        values = dict(zip(shapes.RUN.columns, row, strict=True))
        return shapes.first_fault("runs", run, [(column, read, values[column]) for column, read in _READERS.items()])


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "created": shapes.moment,
    "started": shapes.moment,
    "ended": shapes.moment,
    "state": RunState,
    "reason": lambda text: Reason(text) if text else None,
    "params": shapes.params_of,
    "failure": shapes.failure_of,
    "returns": shapes.returns_of,
    "progress": shapes.maybe_mapping,
    "labels": shapes.labels_of,
    "point": shapes.maybe_mapping,
}


def _either(rows: Iterable[tuple[Any, ...]]) -> list[RunRecord | Unreadable]:
    return [Unreadable(one, row) if isinstance(one := record_of(row), Fault) else one for row in rows]


def _readable(runs: list[RunRecord | Unreadable]) -> list[RunRecord]:
    found: list[RunRecord] = []
    for run in runs:
        if isinstance(run, Unreadable):
            shapes.pass_over(run.fault)
        else:
            found.append(run)
    return found


def _asked(row: tuple[Any, ...]) -> RunRecord:
    """Return the very run that somebody asked for."""
    record = record_of(row)
    if isinstance(record, Fault):
        raise record.error()
    return record


def output_of(row: tuple[Any, ...], run: str) -> Output | Fault:
    """Return an output by its row, or what is wrong with that."""
    key, role, packer, kind, inline, path, sha256, size = row
    misfit = shapes.OUTPUT.misfit(row)
    if misfit is None and inline is None and path is None:
        misfit = "inline", "there is neither a value nor a file"
    value: Any = None
    try:
        if misfit is None and inline is not None:
            value = shapes.loaded(inline)
    except ValueError as error:
        misfit = "inline", str(error)
    if misfit is not None:
        return Fault("outputs", run, *misfit, f"output {key!r}")
    return Output(key, role, packer, kind, value, path, sha256, size)


def _fitting(rows: list[tuple[Any, ...]], shape: Shape, run: str, item: str = "") -> list[tuple[Any, ...]]:
    """Return rows of a run that somebody asked for, all of which must have this shape."""
    misfit_of = shape.misfit
    for row in rows:
        if (misfit := misfit_of(row)) is not None:
            raise Fault(shape.table, run, *misfit, item).error()
    return rows


def _fits(shape: Shape, row: tuple[Any, ...]) -> bool:
    """Say whether the row of a client or worker can be read; one that cannot is passed over."""
    misfit = shape.misfit(row)
    if misfit is None:
        return True
    column, why = misfit
    shapes.pass_over(
        StoreCorruptError(
            f"The row of {row[0]!r} cannot be read ({shape.table}.{column}: {why}); restore the store from a copy."
        )
    )
    return False


def _mapping_of(text: Any, digest: str, what: str) -> dict[str, Any]:
    try:
        return shapes.mapping(text)
    except (ValueError, TypeError) as error:
        raise StoreCorruptError(
            f"The {what} {digest} cannot be read ({error}); restore the store from a copy, or submit the same "
            "function with the same options again, which stores it anew."
        ) from error


def number_of(inline: Any) -> float | None:
    """Return the number that an inline value is, as JSON or as a tagged NumPy scalar; False is 0 and True 1."""
    value = inline
    if isinstance(value, dict) and value.get("!") == "numpy":
        value = value["v"][1]
    if isinstance(value, dict) and value.get("!") == "float":
        value = float(value["v"])
    return value if isinstance(value, (int, float)) else None
