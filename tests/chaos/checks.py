"""What must be true when a story is over."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from mlfn.spec.record import RunRecord
from mlfn.store.commands import Store
from mlfn.store.queries import RunFilter
from tests.chaos.virtual import Script, Unit
from tests.chaos.world import World

_ENDS = ("succeeded", "failed", "cancelled", "pruned")


def faults(world: World, store: Store) -> list[str]:
    """Return what is not as it must be."""
    records = store.list_runs(RunFilter(), limit=1000)
    found = [f"run {record.id[:8]}: {fault}" for record in records for fault in _of_run(world, store, record)]
    known = {record.id for record in records}
    found += [
        f"run {run[:8]} attempt {attempt} was created, and is not stored"
        for run, attempt in world.engine.ledger
        if run not in known
    ]
    found += [f"the engine still has {name[:8]}" for name in world.engine.names() if not world.is_out_of_reach(name)]
    found += [f"execution {row.id[:8]} is still stored" for row in store.executions()]
    return found


def _of_run(world: World, store: Store, record: RunRecord) -> Iterator[str]:
    if not record.state.is_terminal:
        yield f"is {record.state}, and not terminal"
        return
    attempts = store.attempts(record.id)
    if [item.attempt for item in attempts] != list(range(1, record.attempt + 1)):
        yield f"has attempts {[item.attempt for item in attempts]}, its record says {record.attempt}"
    if any(item.state not in _ENDS for item in attempts):
        yield f"has attempts that have not ended: {[item.state for item in attempts]}"
    is_withdrawn = (
        record.state == "cancelled" and attempts and attempts[-1].state == "failed"
    )  # before the next attempt
    if attempts and attempts[-1].state != record.state and not is_withdrawn:
        yield f"is {record.state}, its last attempt {attempts[-1].state}"
    ends = [what for _, _, what, _ in store.events(record.id) if what in _ENDS]
    if ends != [str(record.state)]:
        yield f"has recorded the ends {ends}"
    plan = next(plan for plan in world.plans.values() if plan.hash == record.plan)
    if store.retries(record.id) > (plan.retry.times if plan.retry else 0):
        yield f"has used {store.retries(record.id)} retries of its budget"
    yield from _of_units(world, store, record)
    yield from _of_outcome(world, store, record, has_timeout=plan.timeout is not None)


def _of_units(world: World, store: Store, record: RunRecord) -> Iterator[str]:
    """Compare what is recorded of each attempt with what the engine did."""
    for attempt in range(1, record.attempt + 1):
        units = world.engine.ledger.get((record.id, attempt), [])
        begun = [unit for unit in units if unit.journal]
        if len(begun) > 1 and not (world.usurped or world.deleted):
            yield f"attempt {attempt} ran {len(begun)} times"
        recorded = [(step, value) for step, value, _ in store.series(record.id, attempt, "loss")]
        journals = [_points(unit) for unit in units]
        if not any(points[: len(recorded)] == recorded for points in [*journals, []]):
            yield f"attempt {attempt} has the points {recorded}, the engine {journals}"
        is_last = attempt == record.attempt and record.state == "succeeded"
        if is_last and recorded not in journals:
            yield f"attempt {attempt} has lost points: {recorded}, the engine {journals}"
    for run, attempt in world.engine.ledger:
        if run == record.id and attempt > record.attempt:
            yield f"attempt {attempt} was created, the record has {record.attempt}"


def _points(unit: Unit) -> list[tuple[int, float]]:
    events = [event for event in unit.journal if event["event"] == "metrics"]
    return [(step, value) for event in events for _, step, value, _ in event["points"]]


def _of_outcome(world: World, store: Store, record: RunRecord, *, has_timeout: bool) -> Iterator[str]:
    script = Script(**world.scripts[record.id])
    units = world.engine.ledger.get((record.id, record.attempt), [])
    did = [event["state"] for unit in units for event in unit.journal if event["event"] == "finished"]
    if record.state == "succeeded":
        outputs: list[Any] = [output.inline for output in store.outputs(record.id, record.attempt)]
        if outputs != [script.value]:
            yield f"has the outputs {outputs}, its script returns {script.value!r}"
        if "succeeded" not in did:
            yield "is succeeded, and the engine knows of no success"
    disturbed = record.id in world.cancelled or world.deleted or has_timeout
    if record.state == "cancelled" and record.id not in world.cancelled:
        yield "is cancelled, and no one asked for that"
    if record.state != "succeeded" and "succeeded" in did and not disturbed:
        yield f"is {record.state} ({record.reason}), and had succeeded at the engine"
    if (
        record.state != "succeeded"
        and set(script.ends) <= {"return", "evict"}
        and not disturbed
        and not _is_refused(record)
    ):
        text = record.failure.message if record.failure else ""
        yield f"is {record.state} ({record.reason}: {text}), and its script returns"


def _is_refused(record: RunRecord) -> bool:
    """Return whether all its free attempts are used up."""
    return record.attempt > 10


def leftovers(path: str) -> list[str]:
    """Return what the tables hold that no query shows."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT count(*) FROM executions").fetchone()
    return [f"{rows[0]} executions are stored"] if rows[0] else []
