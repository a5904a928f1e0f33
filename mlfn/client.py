"""This process as a client of one store: its store, folders, key and dispatchers; what a dead client left is adopted."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

from mlfn import settings as settings_module
from mlfn import waiting
from mlfn.artifacts import ArtifactStore
from mlfn.capture.belongings import own_modules_of
from mlfn.codec import Codec
from mlfn.dispatch import NOBODY, Dispatcher, Ticket
from mlfn.errors import NotFoundError, ParameterError, RunLostError, StorageError
from mlfn.identity import ProcessIdentity, identify, new_id, now
from mlfn.parents import parents_of
from mlfn.places.base import Surroundings
from mlfn.registry import place_class
from mlfn.settings import Settings
from mlfn.spec.record import Reason, RunRecord, RunState
from mlfn.store import open_store
from mlfn.store.changes import Adopted, CancelRequested, Finished, Requeued
from mlfn.store.reading import WorkerRow
from mlfn.store.sql import SqlStore
from mlfn.verdict import failed
from mlfn.worker.launch import discard_spares

logger = logging.getLogger(__name__)
_FOLDERS = ("artifacts", "logs", "payloads", "workers")
_SAYS_SO_AFTER = 1.0  # seconds of waiting at exit before a line tells why
_DEAD_ELSEWHERE = 120.0  # seconds without a heartbeat after which a client on another host counts as dead


class Keeper(Protocol):
    """Whoever sees runs through in this process: the dispatcher of a place, the driver of a sweep."""

    def ticket(self, run: str) -> Ticket | None:
        """Return the ticket of a run, while it is not over."""
        ...

    def unfinished(self) -> list[Ticket]:
        """Return what is not over."""
        ...

    def cancel(self, run: str) -> None:
        """Ask for a run's end; its ticket tells when that is confirmed."""
        ...

    def on_done(self, ticket: Ticket, callback: Callable[[], object]) -> None:
        """Call back when the run is over; at once if it is."""
        ...

    def close(self) -> None:
        """End what is idle, and let go of the rest."""
        ...

    def let_go(self) -> None:
        """Let nobody in a forked child wait for what its parent sees through: the store will tell."""
        ...


class Client:
    """Everything that this process shares about one store."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.id = new_id()
        self.folder = settings_module.data_folder(settings)
        for folder in (self.folder, *(self.folder / name for name in _FOLDERS)):
            settings_module.ensure_folder(folder)
        self.key = settings_module.signing_key()
        self.artifacts = ArtifactStore(self.folder / "artifacts")
        self.store: SqlStore = open_store(settings.store, self.folder)
        self._dispatchers: dict[tuple[str, str], Dispatcher] = {}
        self._drivers: dict[str, Keeper] = {}  # of sweeps that are not over
        self._inherited: list[object] = []  # kept as they are: they hold processes that are not this one's to end
        self._known: set[str] = set()
        self._lock = threading.RLock()
        self._registered = False
        _all_clients.add(self)

    def codec(self) -> Codec:
        """Return how values are packed on this side."""
        return Codec(self.key, self.artifacts, modules_of=own_modules_of)

    def dispatcher(self, place: str, options: Mapping[str, Any]) -> Dispatcher:
        """Return the dispatcher of a place, started at first use."""
        name = (place, repr(sorted(options.items())))
        with self._lock:
            if name not in self._dispatchers:
                surroundings = Surroundings(
                    client=self.id,
                    folder=self.folder,
                    artifacts=str(self.folder / "artifacts"),
                    key=self.key,
                    secrets_file=settings_module.secrets_file(),
                    max_workers=self.settings.max_workers or settings_module.usable_cores(),
                    max_workers_is_set=bool(self.settings.max_workers),
                    grace=self.settings.grace,
                    heartbeat=self.settings.heartbeat,
                )
                member = place_class(place)(surroundings, **options)
                self._dispatchers[name] = Dispatcher(
                    self.store, member, client=self.id, logs=self.folder / "logs", rescue=self._rescue
                )
            return self._dispatchers[name]

    def warm(self, place: str, options: Mapping[str, Any]) -> None:
        """Begin to start what a first run at this place will need."""
        if not place_class(place).runs_in_caller:
            self.dispatcher(place, options).warm()

    def register(self) -> None:
        """Be known in the store before anything there names this client."""
        if not self._registered:
            self.store.register_client(self.id, identify(os.getpid()), time=now())
            self._registered = True

    def once(self, digest: str, keep: Callable[[], None]) -> None:
        """Store what is the same for many runs, once."""
        if digest not in self._known:
            keep()
            self._known.add(digest)

    def keep_payload(self, digest: str, data: bytes) -> None:
        """Keep a function's payload in a file named by its content."""
        folder = self.folder / "payloads"
        target = folder / digest
        # The file is renewed where it is there already: until its plan is stored, its age is all that tells a
        # cleaning up that it is wanted.
        with contextlib.suppress(FileNotFoundError):
            os.utime(target)
            return
        temporary = folder / f".{digest}.{new_id()[:8]}"
        try:
            with open(temporary, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                file.write(data)
            temporary.replace(target)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise StorageError(
                f"The payload of {len(data)} bytes cannot be written to {folder} ({error.strerror}); free space there, "
                "or set MLFN_DATA elsewhere."
            ) from error

    def ticket(self, run: str) -> Ticket | None:
        """Return the ticket of a run that this process sees through."""
        for keeper in self._keepers():
            if (ticket := keeper.ticket(run)) is not None:
                return ticket
        return None

    def keeper_of(self, run: str) -> Keeper | None:
        """Return who sees a run through in this process."""
        return next((keeper for keeper in self._keepers() if keeper.ticket(run) is not None), None)

    def drives(self, sweep: str, driver: Keeper) -> None:
        """Take note that this process drives a sweep."""
        self._drivers[sweep] = driver

    def has_driven(self, sweep: str) -> None:
        """Take note that it does not any more."""
        self._drivers.pop(sweep, None)

    def _keepers(self) -> list[Keeper]:
        return [*self._drivers.values(), *self._dispatchers.values()]

    def cancel(self, record: RunRecord) -> None:
        """Ask for a run's end, whoever owns it; an orphan is adopted to be ended."""
        self.refuse_unreachable(record)
        keeper = self.keeper_of(record.id)
        if keeper is None and not self.owner_lives(record.owner):
            self.reconcile()
            self.carry_on(self.store.get_run(record.id))
            keeper = self.keeper_of(record.id)
        if keeper is not None:
            keeper.cancel(record.id)
        else:
            self.store.apply([CancelRequested(record.id, now())])

    def refuse_unreachable(self, record: RunRecord) -> None:
        """Refuse to cancel a run within the thread that called `submit`: nobody there listens."""
        here = place_class(record.place).runs_in_caller and not record.sweep  # a driver listens between two children
        if here and not record.state.is_terminal and self.owner_lives(record.owner):
            whose = "this process" if record.owner == self.id else "another process"
            raise ParameterError(
                f"{record.name} ({record.id[:8]}) runs in a thread of {whose} itself (on={record.place!r}), which cannot "
                "be asked to end it: press ctrl-C there."
            )

    def owner_lives(self, owner: str | None) -> bool:
        """Say whether the client that owns a run may still see it through."""
        if owner == self.id:
            return True
        row = next((row for row in self.store.clients() if row[0] == owner), None)
        return row is not None and _lives(row)

    def reconcile(self) -> None:
        """Take in what dead clients left: read their workers' journals, watch what still runs, mark what is lost.

        Starts nothing: runs that were still pending wait for somebody to ask for their result.
        """
        for row in self.store.clients():
            if row[0] != self.id and not _lives(row):
                self._take_over(row[0])

    def carry_on(self, record: RunRecord) -> Ticket | None:
        """See a run through whose owner is dead; None when it needs nobody, or somebody else was quicker."""
        if record.state.is_terminal:
            return None
        if (ticket := self.ticket(record.id)) is not None:
            ticket.ours = True  # somebody here asks for it: should it be tried again, then here
            return ticket
        self.register()
        if record.state is RunState.RUNNING:
            return self.ticket(record.id)  # `reconcile` took it over, or somebody else did
        if record.sweep and waiting.conductor is not None:
            return waiting.conductor(self, record)
        if record.owner != self.id and not self._adopt(record):
            return None
        for parent in parents_of(record.params):
            with suppress(NotFoundError):  # removed: dispatch fails the run, naming it
                self.carry_on(self.store.get_run(parent))
        plan = self.store.plan(record.plan)
        return self.dispatcher(plan["place"]["name"], plan["place"]["options"]).resume(record, plan)

    def _rescue(self, run: str) -> None:
        """Carry on a run that others wait for, if its owner is dead."""
        with suppress(NotFoundError):
            if not self.owner_lives(self.store.get_run(run).owner):
                self.reconcile()
                self.carry_on(self.store.get_run(run))

    def unfinished(self) -> list[Ticket]:
        """Return the runs that this process started and that are not terminal."""
        return [ticket for keeper in self._keepers() for ticket in keeper.unfinished() if ticket.ours]

    def close(self) -> None:
        """Wait for nothing, end what is idle, and be forgotten if nothing here is still this client's."""
        for keeper in self._keepers():
            keeper.close()
        if self._registered and not self.store.unfinished(self.id) and not self.store.workers(self.id):
            self.store.remove_client(self.id)
        self.store.session.close()

    def begin_anew(self) -> None:
        """Be another client, as in a forked child: it has no dispatcher's thread and owns none of its parent's runs."""
        for keeper in self._keepers():
            keeper.let_go()
        self._inherited += self._keepers()
        self._dispatchers, self._drivers = {}, {}
        self._lock = threading.RLock()
        self.id = new_id()
        self._registered = False

    def _take_over(self, dead: str) -> None:
        self.register()
        running = [record for record in self.store.unfinished(dead) if record.state is RunState.RUNNING]
        for row in self.store.workers(dead):
            held = [record for record in running if record.worker == row.id]
            if self._takes(row, held, former=dead):
                running = [record for record in running if record not in held]
                self._take_worker(row, held)
        for record in running:
            if record.sweep:  # it waits for somebody to drive it on; its children are runs like others
                again = Requeued(record.id, record.attempt, Reason.LOST, None, now(), now(), counts=False)
                self.store.apply([again])
            elif self._adopt(record):  # else another client has it, with its worker
                self._lose(record)
        if not self.store.unfinished(dead) and not self.store.workers(dead):
            self.store.remove_client(dead)

    def _takes(self, row: WorkerRow, held: list[RunRecord], *, former: str) -> bool:
        """Become the one who reads a worker's journal and sees its runs through, both or neither."""
        if not held:
            return self.store.take_worker(row.id, client=self.id, former=former)
        return any(self.store.apply([Adopted(record.id, self.id, former, now(), row.id) for record in held]))

    def _take_worker(self, row: WorkerRow, held: list[RunRecord]) -> None:
        plans = {record.id: self.store.plan(record.plan) for record in held}
        place: dict[str, Any] = plans[held[0].id]["place"] if held else {"name": "local", "options": {}}
        self.dispatcher(place["name"], place["options"]).adopt(row, [(record, plans[record.id]) for record in held])

    def _lose(self, record: RunRecord) -> None:
        """End a run whose dead client was itself where it ran (inline), or whose worker was already buried."""
        text = f"{record.name}: the process that ran it is gone without an outcome."
        outcome = failed(Reason.LOST, RunLostError(text))
        self.store.apply([Finished(record.id, record.attempt, outcome, now())])

    def _adopt(self, record: RunRecord) -> bool:
        return bool(self.store.apply([Adopted(record.id, self.id, record.owner or NOBODY, now())])[0])


def _lives(row: tuple[str, str, int, str, float]) -> bool:
    _, host, pid, started, beat = row
    state = ProcessIdentity(host, pid, started).state()
    return time.time() - beat < _DEAD_ELSEWHERE if state == "elsewhere" else state != "gone"


_all_clients: weakref.WeakSet[Client] = weakref.WeakSet()  # those too that are no longer current: a handle may have one
_clients: dict[tuple[Any, ...], Client] = {}
_clients_lock = threading.Lock()


def current_client() -> Client:
    """Return the client for the settings in force; one per store and data folder."""
    chosen = settings_module.current()
    folder = str(settings_module.data_folder(chosen))
    name = (chosen.store, folder, chosen.max_workers, chosen.grace, chosen.heartbeat)
    client = _clients.get(name)
    if client is None:
        with _clients_lock:
            if (client := _clients.get(name)) is None:
                client = _clients[name] = Client(replace(chosen, data=folder))
    return client


def _begin_anew() -> None:
    global _clients_lock
    _clients_lock = threading.Lock()
    for client in list(_all_clients):
        client.begin_anew()


os.register_at_fork(after_in_child=_begin_anew)


@atexit.register
def _leave() -> None:
    """At a normal end wait for what was submitted; after ctrl-C cancel it."""
    clients = list(_clients.values())
    _clients.clear()
    try:
        if not _was_interrupted():
            _wait_for_all(clients)
        else:
            _cancel_all(clients)
    except KeyboardInterrupt:
        _cancel_all(clients)
    discard_spares()
    for client in clients:
        try:
            client.close()
        except Exception:
            logger.exception("leaving the store behind")


def _wait_for_all(clients: list[Client]) -> None:
    told = False
    begun = time.monotonic()
    while tickets := [ticket for client in clients for ticket in client.unfinished()]:
        if not told and time.monotonic() - begun > _SAYS_SO_AFTER:
            told = True
            count = f"{len(tickets)} run{'s' * (len(tickets) > 1)}"
            print(f"mlfn: waiting for {count} to end (ctrl-C cancels)", file=sys.stderr)
        tickets[0].done.wait(0.2)


def _cancel_all(clients: list[Client]) -> None:
    for client in clients:
        for ticket in client.unfinished():
            dispatcher = client.keeper_of(ticket.run)
            if dispatcher is not None:
                dispatcher.cancel(ticket.run)
    for client in clients:
        limit = time.monotonic() + client.settings.grace + 5
        for ticket in client.unfinished():
            ticket.done.wait(max(0.0, limit - time.monotonic()))


def _was_interrupted() -> bool:
    # The interpreter leaves the exception that ended the main thread here.
    kind = getattr(sys, "last_type", None)
    return kind is not None and issubclass(kind, KeyboardInterrupt)
