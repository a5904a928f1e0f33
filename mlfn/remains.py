"""What dead clients left: runs, and the journals of their workers, for a living client to take in."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from mlfn.dispatch import NOBODY, Dispatcher
from mlfn.errors import RunLostError, StoreCorruptError
from mlfn.identity import ProcessIdentity, now
from mlfn.places.orphans import is_gone
from mlfn.settings import Settings
from mlfn.spec.record import Reason, RunRecord, RunState
from mlfn.store.changes import Adopted, Finished, Requeued
from mlfn.store.reading import WorkerRow
from mlfn.store.rows import pass_over
from mlfn.store.sql import SqlStore
from mlfn.verdict import failed, retry_of, waits_before_retry

logger = logging.getLogger(__name__)
_DEAD_ELSEWHERE = 120.0  # seconds without a heartbeat after which a client on another host counts as dead
ClientRow = tuple[str, str, int, str, float]


class Heir(Protocol):
    """The client that takes in what others left."""

    id: str
    store: SqlStore
    settings: Settings
    adopted: set[str]

    def register(self) -> None:
        """Be known in the store before anything there names this client."""
        ...

    def dispatcher(self, place: str, options: Mapping[str, Any]) -> Dispatcher:
        """Return the dispatcher of a place."""
        ...

    def another_dispatcher(self, place: str, options: Mapping[str, Any]) -> Dispatcher:
        """Return one that nobody else uses."""
        ...


def lives(row: ClientRow) -> bool:
    """Say whether a client may still see its runs through."""
    _, host, pid, started, beat = row
    state = ProcessIdentity(host, pid, started).state()
    return time.time() - beat < _DEAD_ELSEWHERE if state == "elsewhere" else state != "gone"


def settle(heir: Heir, dead: str, *, awaited: str | None = None) -> None:
    """Record what a dead client's workers have said, those that are gone; what still runs is left alone.

    `awaited` names a worker that is waited for until it is certain that it is gone, if its process is. A run whose row
    or plan cannot be read is left as it is, and its client known.
    """
    store = heir.store
    running = _at_work(heir, dead)
    for row in store.workers(dead):
        held = [record for record in running if record.worker == row.id]
        running = [record for record in running if record.worker != row.id]
        process = ProcessIdentity(row.host, row.pid, row.started)
        if is_gone(process, Path(row.folder), heartbeat=heir.settings.heartbeat) or (
            row.id == awaited and process.state() == "gone"
        ):
            _bury(heir, row, held, former=dead)
    for record in running:
        if record.sweep:  # it waits for somebody to drive it on; its children are runs like others
            store.apply([Requeued(record.id, record.attempt, Reason.LOST, None, now(), now(), counts=False)])
        elif adopt(heir, record):  # else another client has it, with its worker
            _lose(heir, record)
    if not store.is_needed(dead):
        store.remove_client(dead)


def take_over(heir: Heir, record: RunRecord) -> None:
    """See a dead client's run through that is at work, and what else its worker holds."""
    former = record.owner or NOBODY
    heir.store.plan(record.plan)  # whoever asks for this very run is told that it cannot be read
    for row in heir.store.workers(former):
        if row.id == record.worker:
            held = [item for item in _at_work(heir, former) if item.worker == row.id]
            if _takes(heir, row, held, former=former):
                _see_through(heir, row, held)


def _at_work(heir: Heir, owner: str) -> list[RunRecord]:
    """Return the runs of a client that are running, of those that can be read with their plans."""
    running = [record for record in heir.store.unfinished(owner) if record.state is RunState.RUNNING]
    unknown: set[str] = set()
    for plan in {record.plan for record in running if not record.sweep}:
        try:
            heir.store.plan(plan)
        except StoreCorruptError as error:
            unknown.add(plan)
            pass_over(error)
    return [record for record in running if record.sweep or record.plan not in unknown]


def adopt(heir: Heir, record: RunRecord) -> bool:
    """Become the owner of a run that no worker has; False if somebody else was quicker."""
    heir.register()
    heir.adopted.add(record.id)
    return bool(heir.store.apply([Adopted(record.id, heir.id, record.owner or NOBODY, now())])[0])


def _bury(heir: Heir, row: WorkerRow, held: list[RunRecord], *, former: str) -> None:
    """Record what the journal of a worker says that is gone, and forget it."""
    if not _takes(heir, row, held, former=former):
        return
    place = _place_of(heir, held)
    try:
        heir.another_dispatcher(place["name"], place["options"]).settle(row, _with_plans(heir, held))
    except Exception as error:  # noqa: BLE001 - a full disk, a journal that cannot be read
        logger.warning("what worker %s left cannot be recorded now; trying again soon: %s", row.id, error)
        _see_through(heir, row, held)


def _takes(heir: Heir, row: WorkerRow, held: list[RunRecord], *, former: str) -> bool:
    """Become the one who reads a worker's journal and sees its runs through, both or neither."""
    heir.register()
    if not held:
        return heir.store.take_worker(row.id, client=heir.id, former=former)
    heir.adopted.update(record.id for record in held)
    return any(heir.store.apply([Adopted(record.id, heir.id, former, now(), row.id) for record in held]))


def _see_through(heir: Heir, row: WorkerRow, held: list[RunRecord]) -> None:
    place = _place_of(heir, held)
    heir.dispatcher(place["name"], place["options"]).adopt(row, _with_plans(heir, held))


def _with_plans(heir: Heir, held: list[RunRecord]) -> list[tuple[RunRecord, Mapping[str, Any]]]:
    return [(record, heir.store.plan(record.plan)) for record in held]


def _place_of(heir: Heir, held: list[RunRecord]) -> Mapping[str, Any]:
    place: dict[str, Any] = heir.store.plan(held[0].plan)["place"] if held else {"name": "local", "options": {}}
    return place


def _lose(heir: Heir, record: RunRecord) -> None:
    """End a run whose dead client was itself where it ran (inline), or whose worker was already buried.

    A sweep's child is tried again as any other, if it may be: whoever drives the sweep on sees it through.
    """
    store = heir.store
    text = f"{record.name}: the process that ran it is gone without an outcome."
    outcome = failed(Reason.LOST, RunLostError(text))
    wait = None
    if record.iteration and record.part_of is None and record.parent and store.get_run(record.parent).sweep:
        retry = retry_of(store.plan(record.plan))
        wait = waits_before_retry(outcome, retry, used=store.retries(record.id), free=0)
    if wait is None:
        store.apply([Finished(record.id, record.attempt, outcome, now())])
        return
    again = Requeued(record.id, record.attempt, Reason.LOST, outcome.failure, now() + wait, now())
    store.apply([again, Adopted(record.id, NOBODY, heir.id, now())])
