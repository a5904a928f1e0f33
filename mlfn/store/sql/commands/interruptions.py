"""What comes between a run and its end: retries, recalls, cancellation, another owner."""

from __future__ import annotations

from mlfn.spec.record import RunState
from mlfn.store.changes import Adopted, CancelRequested, FinishedUnstarted, Recalled, Requeued
from mlfn.store.sql.commands.results import HELD, add_event
from mlfn.store.sql.commands.runs import end_children, failure_json
from mlfn.store.sql.connection import changed_rows
from mlfn.store.sql.engine import Engine

_UNCLAIMED = "state = 'pending', execution = NULL, unit = NULL, claimed = NULL, begun = NULL, queued = 0, status = NULL"


def requeue(engine: Engine, change: Requeued) -> int:
    """End a running attempt and make its run pending again."""
    failure, reason = change.failure, change.reason.value
    moved = changed_rows(
        engine,
        "INSERT INTO attempts (run, attempt, execution, unit, claimed, started, ended, state, reason, failure) "
        "SELECT seq, attempt, execution, unit, claimed, begun, ?, 'failed', CAST(? AS TEXT), CAST(? AS TEXT) "
        f"FROM runs WHERE {HELD}",
        (change.time, reason, failure and failure.first_line, change.run, change.attempt),
    )
    if not moved:
        return 0
    [(seq, nests)] = engine.execute(
        f"UPDATE runs SET {_UNCLAIMED}, not_before = ?, failure = ?, reason = ?, best = NULL, retries = retries + ? "
        f"WHERE {HELD} RETURNING seq, nests",
        (
            change.not_before,
            failure_json(failure),
            reason,
            int(change.counts),
            change.run,
            change.attempt,
        ),
    ).fetchall()
    if nests:
        end_children(engine, change.run, RunState.FAILED, change.reason, change.time)
    engine.execute("DELETE FROM scores WHERE run = ?", (seq,))
    return 1


def recall(engine: Engine, change: Recalled) -> int:
    """Undo a claim, as if the run had stayed pending."""
    return changed_rows(
        engine,
        f"UPDATE runs SET {_UNCLAIMED}, attempt = attempt - 1, "
        f"started = CASE WHEN attempt = 1 THEN NULL ELSE started END WHERE {HELD}",
        (change.run, change.attempt),
    )


def finish_unstarted(engine: Engine, change: FinishedUnstarted) -> int:
    """End a pending run."""
    return changed_rows(
        engine,
        "UPDATE runs SET state = ?, reason = ?, failure = COALESCE(?, failure), ended = ? WHERE id = ? AND state = 'pending'",
        (
            change.outcome.state.value,
            change.outcome.reason and change.outcome.reason.value,
            failure_json(change.outcome.failure),
            change.time,
            change.run,
        ),
    )


def request_cancel(engine: Engine, change: CancelRequested) -> int:
    """Ask the owner of an active run to end it."""
    moved = changed_rows(
        engine,
        "UPDATE runs SET cancel_requested = 1 WHERE id = ? AND cancel_requested = 0 AND state IN ('pending', 'running')",
        (change.run,),
    )
    if moved:
        add_event(engine, change.run, change.time, "cancel requested")
    return moved


def adopt(engine: Engine, change: Adopted) -> int:
    """Give an active run another owner, and its execution with it."""
    # Only together with its execution: a run whose journal another client reads would be recorded as lost.
    held = "AND execution = ?" if change.execution else ""
    moved = changed_rows(
        engine,
        f"UPDATE runs SET owner = ? WHERE id = ? AND owner = ? AND state IN ('pending', 'running') {held}",
        (change.owner, change.run, change.former, *([change.execution] if change.execution else [])),
    )
    if not moved:
        return 0
    if change.execution:
        engine.execute(
            "UPDATE executions SET client = ? WHERE id = ? AND client = ?",
            (change.owner, change.execution, change.former),
        )
    engine.execute("UPDATE runs SET owner = ? WHERE part_of = ? AND state = 'running'", (change.owner, change.run))
    add_event(engine, change.run, change.time, "adopted")
    return 1
