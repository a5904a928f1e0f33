"""What dead clients left: runs, and the journals of their workers, for a living client to take in."""

from __future__ import annotations

import functools
import logging
from typing import Protocol

from mlfn.backends.registry import engine_class
from mlfn.dispatch.dispatcher import NO_OWNER, Dispatcher
from mlfn.dispatch.failures import failed
from mlfn.dispatch.retry_policy import seconds_before_retry
from mlfn.errors import MlfnError, RunLostError, StoreCorruptError
from mlfn.host.identity import now
from mlfn.settings.declarations import Settings
from mlfn.spec.plan import Plan
from mlfn.spec.record import Reason, RunRecord
from mlfn.store.changes import Adopted, Finished, Requeued
from mlfn.store.commands import Store
from mlfn.store.queries import ExecutionRow
from mlfn.store.rows import warn_skipped

logger = logging.getLogger(__name__)


class Adopter(Protocol):
    """What adoption asks of a session."""

    id: str
    store: Store
    settings: Settings
    adopted: set[str]

    def register(self) -> None: ...
    def owner_lives(self, owner: str | None) -> bool: ...
    def dispatcher_at(self, engine: str, target: str) -> Dispatcher: ...
    def another_dispatcher(self, engine: str, target: str) -> Dispatcher: ...


def settle(adopter: Adopter, dead: str, *, awaited: str | None = None) -> None:
    """Record what a dead client's executions reported that are known to have ended; the others are left alone.

    For the execution `awaited`, one witness of its end is proof enough. A run whose row or plan cannot be read stays as it
    is, and its client registered.
    """
    store = adopter.store
    running = _running(adopter, dead)
    for row in store.executions(dead):
        held = [record for record in running if record.execution == row.id]
        running = [record for record in running if record.execution != row.id]
        if _has_ended(adopter, row, awaited=row.id == awaited):
            _record_journal(adopter, row, held, former=dead)
    for record in running:
        if record.sweep:  # it stays pending until a driver resumes it; its children are runs like others
            store.apply([Requeued(record.id, record.attempt, Reason.LOST, None, now(), now(), counts=False)])
        elif adopt(adopter, record):  # else another client has adopted it
            _record_lost(adopter, record)
    if not store.is_needed(dead):
        store.remove_client(dead)


def _has_ended(adopter: Adopter, row: ExecutionRow, *, awaited: bool) -> bool:
    """Return whether an execution is known to have ended; nothing is known of one whose place is not installed here."""
    try:
        engine = engine_class(row.place)
    except MlfnError as error:
        _warn_once(f"runs of a dead client are left as they are: {error}")
        return False
    return bool(engine.has_ended(row.handle, heartbeat=adopter.settings.heartbeat, awaited=awaited))


@functools.cache
def _warn_once(text: str) -> None:
    logger.warning("%s", text)


def take_over(adopter: Adopter, record: RunRecord) -> None:
    """Adopt a running run of a dead client, with its execution and that one's other runs."""
    former = record.owner or NO_OWNER
    adopter.store.get_plan(record.plan)  # raises for a plan that cannot be read
    for row in adopter.store.executions(former):
        if row.id == record.execution:
            held = [item for item in _running(adopter, former) if item.execution == row.id]
            if _takes_over(adopter, row, held, former=former):
                _follow(adopter, row, held)


def adopt_idle(adopter: Adopter, engine: str, target: str) -> None:
    """Adopt the executions that dead clients left there without a run: what is left of them there is removed."""
    store = adopter.store
    for row in store.executions():
        if (row.place, row.target) == (engine, target) and not adopter.owner_lives(row.client):
            held = [record for record in _running(adopter, row.client) if record.execution == row.id]
            if not held and _takes_over(adopter, row, held, former=row.client):
                _follow(adopter, row, held)


def _running(adopter: Adopter, owner: str) -> list[RunRecord]:
    """Return the running runs of a client whose rows and plans can be read."""
    running = [record for record in adopter.store.unfinished(owner) if record.is_claimed]
    unknown: set[str] = set()
    for plan in {record.plan for record in running if not record.sweep}:
        try:
            adopter.store.get_plan(plan)
        except StoreCorruptError as error:
            unknown.add(plan)
            warn_skipped(error)
    return [record for record in running if record.sweep or record.plan not in unknown]


def adopt(adopter: Adopter, record: RunRecord) -> bool:
    """Become the owner of a run without an execution; False if another client was first."""
    adopter.register()
    adopter.adopted.add(record.id)
    return bool(adopter.store.apply([Adopted(record.id, adopter.id, record.owner or NO_OWNER, now())])[0])


def _record_journal(adopter: Adopter, row: ExecutionRow, held: list[RunRecord], *, former: str) -> None:
    """Record the journal of an execution that is gone, and remove the execution."""
    if not _takes_over(adopter, row, held, former=former):
        return
    try:
        adopter.another_dispatcher(row.place, row.target).settle(row, _with_plans(adopter, held))
    except Exception as error:  # noqa: BLE001 - a full disk, a journal that cannot be read
        logger.warning("the journal of execution %s cannot be recorded now; trying again soon: %s", row.id, error)
        _follow(adopter, row, held)


def _takes_over(adopter: Adopter, row: ExecutionRow, held: list[RunRecord], *, former: str) -> bool:
    """Take over an execution and its runs atomically; False if another client was first."""
    adopter.register()
    if not held:
        return adopter.store.adopt_execution(row.id, client=adopter.id, former=former)
    adopter.adopted.update(record.id for record in held)
    return any(adopter.store.apply([Adopted(record.id, adopter.id, former, now(), row.id) for record in held]))


def _follow(adopter: Adopter, row: ExecutionRow, held: list[RunRecord]) -> None:
    adopter.dispatcher_at(row.place, row.target).adopt(row, _with_plans(adopter, held))


def _with_plans(adopter: Adopter, held: list[RunRecord]) -> list[tuple[RunRecord, Plan]]:
    return [(record, adopter.store.get_plan(record.plan)) for record in held]


def _record_lost(adopter: Adopter, record: RunRecord) -> None:
    """Record as lost a run that ran inside its dead client, or whose execution is gone already.

    A sweep's child is requeued where its retry policy allows: the next driver of the sweep owns it.
    """
    store = adopter.store
    text = f"{record.name}: the process that ran it is gone without an outcome."
    outcome = failed(Reason.LOST, RunLostError(text))
    wait = None
    if record.iteration and record.part_of is None and record.parent and store.get_run(record.parent).sweep:
        plan = store.get_plan(record.plan)
        wait = seconds_before_retry(outcome, plan.retry, used=store.retries(record.id), free=0)
    if wait is None:
        store.apply([Finished(record.id, record.attempt, outcome, now())])
        return
    again = Requeued(record.id, record.attempt, Reason.LOST, outcome.failure, now() + wait, now())
    store.apply([again, Adopted(record.id, NO_OWNER, adopter.id, now())])
