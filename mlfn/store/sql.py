"""The store over SQL: every change to a run goes through `apply`, one fenced transaction for a batch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlfn.errors import StorageError, StoreError
from mlfn.failpoints import failpoint
from mlfn.identity import ProcessIdentity
from mlfn.spec.record import Output, Reason, RemoteFailure, RunState
from mlfn.store.changes import (
    NAMES,
    Adopted,
    BestMarked,
    CancelRequested,
    Change,
    ChildBegun,
    Claimed,
    Engaged,
    Finished,
    MetricLogged,
    OutputLogged,
    Progressed,
    Requeued,
    Reused,
    Started,
    Submitted,
    SweepClosed,
    SweepSubmitted,
    TakenBack,
    Withdrawn,
)
from mlfn.store.engine import Engine
from mlfn.store.families import FamilyReading, TagRow
from mlfn.store.nesting import left_open, mark_best, open_child, take_from_best
from mlfn.store.reading import number_of
from mlfn.store.session import Session


class UsurpedError(StoreError):
    """This client was taken for dead, and another reads its workers' journals now."""


class SqlStore(FamilyReading):
    """Functions, runs, attempts, outputs, metrics, events: plain SQL, the same statements for every engine.

    Of two attempts of one run only one outcome is recorded: each statement that moves a run names the attempt and the
    state it moves from, and what hangs on it (outputs, events) is written only if a row was moved.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(Session(engine))

    def apply(
        self, changes: Sequence[Change], *, consumed: Mapping[str, int] | None = None, client: str | None = None
    ) -> list[int]:
        """Apply `changes` in one transaction and return a number for each: 0 for one that came too late.

        A `Claimed` answers with the attempt number. `consumed` says up to where `client` has read its workers'
        journals: noted in the same transaction, so that nothing of them is ever applied twice, not even when a batch
        comes again whose answer was lost.
        """
        names = [NAMES[type(change)] for change in changes]
        with self.session.writing() as engine:
            news = [_advance(engine, worker, offset, client) for worker, offset in (consumed or {}).items()]
            # Alone among what can happen to a run, a metric's point looks the same when it is logged once more.
            appliers = _APPLIERS if not news or any(news) else _APPLIERS_AGAIN
            answers = [appliers[type(change)](engine, change) for change in changes]
            for name in names:
                failpoint(f"store.{name}.before")
        for name in names:
            failpoint(f"store.{name}.committed")
        return answers

    def add_function(self, digest: str, *, project: str, name: str, spec: str, time: float) -> None:
        """Keep a function version; the same hash again changes nothing."""
        self._insert(
            "INSERT INTO functions (hash, project, name, spec, created) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (digest, project, name, spec, time),
        )

    def move_tag(self, row: TagRow, *, time: float) -> None:
        """Let a tag name another version from now on."""
        self._insert(
            "INSERT INTO tags (project, name, tag, function, run, moved) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (project, name, tag) DO UPDATE SET function = excluded.function, run = excluded.run, "
            "moved = excluded.moved",
            (row.project, row.name, row.tag, row.function, row.run, time),
        )

    def add_plan(self, digest: str, *, function: str, body: str) -> None:
        """Keep what runs of one function version have in common."""
        self._insert(
            "INSERT INTO plans (hash, function, body) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (digest, function, body)
        )

    def register_client(self, client: str, process: ProcessIdentity, *, time: float) -> None:
        """Make a client known, or renew its heartbeat."""
        self._insert(
            "INSERT INTO clients (id, host, pid, started, beat) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET beat = excluded.beat",
            (client, process.host, process.pid, process.started, time),
        )

    def remove_client(self, client: str) -> None:
        """Forget a client that ended in order."""
        self._insert("DELETE FROM clients WHERE id = ?", (client,))

    def refusals(self, changes: Sequence[Change]) -> dict[int, Exception]:
        """Return which of `changes` no store can take, whatever its state, and why; nothing is changed."""
        found: dict[int, Exception] = {}
        for index, change in enumerate(changes):
            try:
                with self.session.trying() as engine:
                    _APPLIERS[type(change)](engine, change)
            except StorageError:
                raise
            except Exception as error:  # noqa: BLE001 - a value that does not fit raises whatever its driver raises
                found[index] = error
        return found

    def take_worker(self, worker: str, *, client: str, former: str) -> bool:
        """Become the one who reads the journal of a worker that holds no run; False if somebody else was quicker."""
        with self.session.writing() as engine:
            taken = engine.execute(
                "UPDATE workers SET client = ? WHERE id = ? AND client = ?", (client, worker, former)
            )
            return bool(taken.rowcount)

    def remove_worker(self, worker: str) -> None:
        """Forget a worker that is gone and whose journal was read to its end."""
        self._insert("DELETE FROM workers WHERE id = ?", (worker,))

    def remove_runs(self, runs: Sequence[str]) -> None:
        """Delete terminal runs with all that hangs on them."""
        with self.session.writing() as engine:
            for run in runs:
                deleted = engine.execute(
                    "DELETE FROM runs WHERE id = ? AND state NOT IN ('pending', 'running')", (run,)
                )
                if deleted.rowcount:
                    for table in ("attempts", "outputs", "metrics", "scores", "events", "labels", "sweeps"):
                        engine.execute(f"DELETE FROM {table} WHERE run = ?", (run,))

    def _insert(self, sql: str, args: Sequence[Any]) -> None:
        with self.session.writing() as engine:
            engine.execute(sql, args)


def _advance(engine: Engine, worker: str, offset: int, client: str | None) -> bool:
    """Note up to where a journal is read; False when it was noted before."""
    moved = engine.execute(
        "UPDATE workers SET consumed = ? WHERE id = ? AND client = ? AND consumed < ?", (offset, worker, client, offset)
    )
    if moved.rowcount:
        return True
    if engine.execute("SELECT 1 FROM workers WHERE id = ? AND client = ?", (worker, client)).fetchone() is None:
        raise UsurpedError(f"Worker {worker} is read by another client now: this one was taken for dead.")
    return False


_HELD = "EXISTS (SELECT 1 FROM runs WHERE id = ? AND attempt = ? AND state = 'running')"
# PostgreSQL must be told the types of what a SELECT without a table is made of.
_NEW_RUN = (
    "CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), 'pending', "
    "CAST(? AS TEXT), CAST(? AS TEXT), ?, CAST(? AS TEXT), CAST(? AS TEXT), ?, CAST(? AS TEXT), CAST(? AS TEXT), ?"
)


def _submitted(engine: Engine, change: Submitted, *, sweep: bool = False) -> int:
    values: list[Any] = [
        change.run,
        change.project,
        change.name,
        change.function,
        change.plan,
        change.place,
        change.owner,
        json.dumps(change.params),
        change.time,
        json.dumps(change.labels) if change.labels else "{}",
        change.parent,
        change.iteration,
        _json(change.point),
        change.memo,
        int(sweep),
    ]
    fence = ""
    if change.driver is not None:
        fence = f"WHERE {_HELD}"
        values += [change.parent, change.driver]
    added = engine.execute(
        "INSERT INTO runs (id, project, name, function, plan, place, state, owner, params, created, labels, parent, "
        "iteration, point, memo, sweep) "
        f"SELECT {_NEW_RUN} {fence or 'WHERE 1 = 1'} ON CONFLICT DO NOTHING",
        values,
    ).rowcount
    if not added:
        return 0
    for key, value in change.labels.items():
        engine.execute("INSERT INTO labels (key, value, run) VALUES (?, ?, ?)", (key, value, change.run))
    _event(engine, change.run, 0, change.time, "submitted")
    return 1


def _sweep_submitted(engine: Engine, change: SweepSubmitted) -> int:
    added = engine.execute(
        "INSERT INTO sweeps (run, name, slot, body) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (change.run, change.name, change.slot, json.dumps(change.body)),
    ).rowcount
    return _submitted(engine, change.submitted, sweep=True) if added else 0


def _sweep_closed(engine: Engine, change: SweepClosed) -> int:
    over = "EXISTS (SELECT 1 FROM runs WHERE id = sweeps.run AND state NOT IN ('pending', 'running'))"
    return int(engine.execute(f"UPDATE sweeps SET slot = NULL WHERE run = ? AND {over}", (change.run,)).rowcount)


def _reused(engine: Engine, change: Reused) -> int:
    moved = engine.execute(
        "UPDATE runs SET state = 'succeeded', reused = ?, attempt = 1, started = ?, ended = ?, "
        "returns = (SELECT returns FROM runs AS source WHERE source.id = ?) "
        "WHERE id = ? AND state = 'pending' "
        "AND EXISTS (SELECT 1 FROM runs AS source WHERE source.id = ? AND source.state = 'succeeded')",
        (change.source, change.time, change.time, change.source, change.run, change.source),
    ).rowcount
    if not moved:
        return 0
    engine.execute(
        "INSERT INTO outputs (run, attempt, key, role, packer, type, inline, path, sha256, size) "
        "SELECT ?, 1, key, role, packer, type, inline, path, sha256, size FROM outputs "
        "WHERE run = ? AND attempt = (SELECT attempt FROM runs WHERE id = ?)",
        (change.run, change.source, change.source),
    )
    engine.execute(
        "INSERT INTO metrics (run, attempt, name, step, value, time) SELECT ?, 1, name, step, value, time FROM metrics "
        "WHERE run = ? AND attempt = (SELECT attempt FROM runs WHERE id = ?)",
        (change.run, change.source, change.source),
    )
    engine.execute(
        "INSERT INTO scores (run, name, value) SELECT ?, name, value FROM scores WHERE run = ?",
        (change.run, change.source),
    )
    _event(engine, change.run, 1, change.time, "reused", change.source)
    return 1


def _engaged(engine: Engine, change: Engaged) -> int:
    process = change.process
    return int(
        engine.execute(
            "INSERT INTO workers (id, client, host, pid, started, folder) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (change.worker, change.client, process.host, process.pid, process.started, change.folder),
        ).rowcount
    )


def _claimed(engine: Engine, change: Claimed) -> int:
    row = engine.execute(
        "UPDATE runs SET state = 'running', attempt = attempt + 1, worker = ?, started = COALESCE(started, ?) "
        "WHERE id = ? AND state = 'pending' AND owner = ? AND cancel_requested = 0 RETURNING attempt",
        (change.worker, change.time, change.run, change.owner),
    ).fetchone()
    if row is None:
        return 0
    attempt = int(row[0])
    engine.execute(
        "INSERT INTO attempts (run, attempt, worker, claimed, state, log) VALUES (?, ?, ?, ?, 'running', ?)",
        (change.run, attempt, change.worker, change.time, change.log),
    )
    if change.body is not None:
        engine.execute("UPDATE sweeps SET body = ? WHERE run = ?", (json.dumps(change.body), change.run))
    _event(engine, change.run, attempt, change.time, "claimed")
    return attempt


def _started(engine: Engine, change: Started) -> int:
    return int(
        engine.execute(
            "UPDATE attempts SET started = ? WHERE run = ? AND attempt = ? AND started IS NULL",
            (change.time, change.run, change.attempt),
        ).rowcount
    )


def _metric(engine: Engine, change: MetricLogged) -> int:
    value = None if math.isnan(change.value) else change.value
    added = engine.execute(
        f"INSERT INTO metrics (run, attempt, name, step, value, time) SELECT ?, ?, ?, ?, ?, ? WHERE {_HELD}",
        (change.run, change.attempt, change.name, change.step, value, change.time, change.run, change.attempt),
    ).rowcount
    if added:
        _score(engine, change.run, change.name, change.value)
    return int(added)


def _known_metric(_: Engine, __: MetricLogged) -> int:
    return 1


def _output(engine: Engine, change: OutputLogged) -> int:
    held = engine.execute(f"SELECT 1 WHERE {_HELD}", (change.run, change.attempt)).fetchone()
    if held is None:
        return 0
    _store_output(engine, change.run, change.attempt, change.output)
    return 1


def _progress(engine: Engine, change: Progressed) -> int:
    return int(
        engine.execute(
            "UPDATE runs SET progress = ? WHERE id = ? AND attempt = ? AND state = 'running'",
            (json.dumps(change.progress), change.run, change.attempt),
        ).rowcount
    )


def _finished(engine: Engine, change: Finished) -> int:
    outcome = change.outcome
    failure = _json(outcome.failure and outcome.failure.to_json())
    moved = engine.execute(
        "UPDATE runs SET state = ?, reason = ?, failure = ?, returns = ?, ended = ? "
        "WHERE id = ? AND attempt = ? AND state = 'running' RETURNING nests, best",
        (
            outcome.state.value,
            outcome.reason and outcome.reason.value,
            failure,
            _json(outcome.returns),
            change.time,
            change.run,
            change.attempt,
        ),
    ).fetchone()
    if moved is None:
        return 0
    nests, best = moved
    if nests:
        _end_children(engine, change.run, outcome.state, outcome.reason, change.time)
    for output in outcome.outputs:
        _store_output(engine, change.run, change.attempt, output)
    if best is not None:
        take_from_best(engine, change.run, change.attempt, best)
    _close_attempt(
        engine, change.run, change.attempt, outcome.state.value, outcome.reason, change.time, outcome.failure
    )
    _event(
        engine, change.run, change.attempt, change.time, outcome.state.value, outcome.reason and outcome.reason.value
    )
    return 1


def _requeued(engine: Engine, change: Requeued) -> int:
    moved = engine.execute(
        "UPDATE runs SET state = 'pending', worker = NULL, not_before = ?, failure = ?, reason = ?, best = NULL, "
        "retries = retries + ? WHERE id = ? AND attempt = ? AND state = 'running' RETURNING nests",
        (
            change.not_before,
            _json(change.failure and change.failure.to_json()),
            change.reason.value,
            int(change.counts),
            change.run,
            change.attempt,
        ),
    ).fetchone()
    if moved is None:
        return 0
    if moved[0]:
        _end_children(engine, change.run, RunState.FAILED, change.reason, change.time)
    engine.execute("DELETE FROM scores WHERE run = ?", (change.run,))
    _close_attempt(engine, change.run, change.attempt, "failed", change.reason, change.time, change.failure)
    _event(engine, change.run, change.attempt, change.time, "requeued", change.reason.value)
    return 1


def _taken_back(engine: Engine, change: TakenBack) -> int:
    moved = engine.execute(
        "UPDATE runs SET state = 'pending', worker = NULL, attempt = attempt - 1, "
        "started = CASE WHEN attempt = 1 THEN NULL ELSE started END "
        "WHERE id = ? AND attempt = ? AND state = 'running'",
        (change.run, change.attempt),
    ).rowcount
    if moved:
        engine.execute("DELETE FROM attempts WHERE run = ? AND attempt = ?", (change.run, change.attempt))
        engine.execute(
            "DELETE FROM events WHERE run = ? AND attempt = ? AND what = 'claimed'", (change.run, change.attempt)
        )
    return int(moved)


def _withdrawn(engine: Engine, change: Withdrawn) -> int:
    outcome = change.outcome
    moved = engine.execute(
        "UPDATE runs SET state = ?, reason = ?, failure = COALESCE(?, failure), ended = ? WHERE id = ? AND state = 'pending'",
        (
            outcome.state.value,
            outcome.reason and outcome.reason.value,
            _json(outcome.failure and outcome.failure.to_json()),
            change.time,
            change.run,
        ),
    ).rowcount
    if moved:
        _event(engine, change.run, 0, change.time, outcome.state.value, outcome.reason and outcome.reason.value)
    return int(moved)


def _child_begun(engine: Engine, change: ChildBegun) -> int:
    if not open_child(engine, change):
        return 0
    _event(engine, change.run, 0, change.time, "submitted")
    _event(engine, change.run, 1, change.time, "claimed")
    return 1


def _end_children(engine: Engine, parent: str, state: RunState, reason: Reason | None, time: float) -> None:
    for end in left_open(engine, parent, state=state, reason=reason, time=time):
        _finished(engine, end)


def _cancel(engine: Engine, change: CancelRequested) -> int:
    moved = engine.execute(
        "UPDATE runs SET cancel_requested = 1 WHERE id = ? AND cancel_requested = 0 AND state IN ('pending', 'running')",
        (change.run,),
    ).rowcount
    if moved:
        _event(engine, change.run, 0, change.time, "cancel requested")
    return int(moved)


def _adopted(engine: Engine, change: Adopted) -> int:
    # With its worker or not at all: a run whose journal somebody else reads would be taken for lost.
    held = "AND worker = ?" if change.worker else ""
    moved = engine.execute(
        f"UPDATE runs SET owner = ? WHERE id = ? AND owner = ? AND state IN ('pending', 'running') {held}",
        (change.owner, change.run, change.former, *([change.worker] if change.worker else [])),
    ).rowcount
    if not moved:
        return 0
    if change.worker:
        engine.execute(
            "UPDATE workers SET client = ? WHERE id = ? AND client = ?", (change.owner, change.worker, change.former)
        )
    engine.execute("UPDATE runs SET owner = ? WHERE part_of = ? AND state = 'running'", (change.owner, change.run))
    _event(engine, change.run, 0, change.time, "adopted")
    return 1


def _store_output(engine: Engine, run: str, attempt: int, output: Output) -> None:
    inline = None if output.path is not None else json.dumps(output.inline)
    engine.execute(
        "INSERT INTO outputs (run, attempt, key, role, packer, type, inline, path, sha256, size) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (run, attempt, key) DO UPDATE SET role = excluded.role, "
        "packer = excluded.packer, type = excluded.type, inline = excluded.inline, path = excluded.path, "
        "sha256 = excluded.sha256, size = excluded.size",
        (
            run,
            attempt,
            output.key,
            output.role,
            output.packer,
            output.type,
            inline,
            output.path,
            output.sha256,
            output.size,
        ),
    )
    # A number that the function returns or logs can be sorted by, as a metric can.
    number = number_of(output.inline)
    if number is not None:
        _score(engine, run, output.key, number)


def _score(engine: Engine, run: str, name: str, value: float) -> None:
    try:
        number = float(value)
    except OverflowError:  # a whole number beyond what a column of reals holds
        return
    if math.isnan(number):  # the last one counts, and NaN is above and below nothing
        engine.execute("DELETE FROM scores WHERE run = ? AND name = ?", (run, name))
        return
    engine.execute(
        "INSERT INTO scores (run, name, value) VALUES (?, ?, ?) ON CONFLICT (run, name) DO UPDATE SET value = excluded.value",
        (run, name, number),
    )


def _close_attempt(
    engine: Engine, run: str, attempt: int, state: str, reason: Any, time: float, failure: RemoteFailure | None
) -> None:
    engine.execute(
        "UPDATE attempts SET state = ?, reason = ?, ended = ?, failure = ? WHERE run = ? AND attempt = ?",
        (state, reason and reason.value, time, failure and failure.first_line, run, attempt),
    )


def _event(engine: Engine, run: str, attempt: int, time: float, what: str, detail: str | None = None) -> None:
    engine.execute(
        "INSERT INTO events (run, attempt, time, what, detail) VALUES (?, ?, ?, ?, ?)",
        (run, attempt, time, what, detail),
    )


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


_APPLIERS: Mapping[type, Callable[[Engine, Any], int]] = {
    Submitted: _submitted,
    SweepSubmitted: _sweep_submitted,
    SweepClosed: _sweep_closed,
    Reused: _reused,
    Engaged: _engaged,
    Claimed: _claimed,
    Started: _started,
    MetricLogged: _metric,
    OutputLogged: _output,
    Progressed: _progress,
    Finished: _finished,
    Requeued: _requeued,
    TakenBack: _taken_back,
    Withdrawn: _withdrawn,
    ChildBegun: _child_begun,
    BestMarked: mark_best,
    CancelRequested: _cancel,
    Adopted: _adopted,
}
_APPLIERS_AGAIN: Mapping[type, Callable[[Engine, Any], int]] = {**_APPLIERS, MetricLogged: _known_metric}
assert set(_APPLIERS) == set(NAMES)
assert {state.value for state in RunState} >= {"pending", "running"}
