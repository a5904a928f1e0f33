"""This process as a client of one store: its store, folders, key and dispatchers; what a dead client left is adopted."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
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
from mlfn.dispatch import Dispatcher
from mlfn.errors import NotFoundError, ParameterError, StorageError, StoreCorruptError
from mlfn.identity import identify, new_id, now
from mlfn.leaving import leave
from mlfn.parents import parents_of
from mlfn.places.base import Surroundings
from mlfn.registry import place_class
from mlfn.remains import adopt, lives, settle, take_over
from mlfn.settings import Settings
from mlfn.spec.record import Outcome, RunRecord, RunState
from mlfn.store import open_store
from mlfn.store.changes import CancelRequested, Withdrawn
from mlfn.store.reading import RunFilter
from mlfn.store.rows import pass_over
from mlfn.store.sql import SqlStore
from mlfn.ticket import Ticket
from mlfn.worker.launch import discard_early

logger = logging.getLogger(__name__)
_MOST_UNHEARD = 10_000
_FOLDERS = ("artifacts", "logs", "payloads", "workers")


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
        self.adopted: set[str] = set()  # runs that others submitted
        self._heard: set[str] = set()  # failed runs that somebody here has asked about
        _all_clients.add(self)

    def codec(self) -> Codec:
        """Return how values are packed on this side."""
        return Codec(self.key, self.artifacts, modules_of=own_modules_of)

    def dispatcher(self, place: str, options: Mapping[str, Any]) -> Dispatcher:
        """Return the dispatcher of a place, started at first use."""
        name = (place, repr(sorted(options.items())))
        with self._lock:
            if name not in self._dispatchers:
                self._dispatchers[name] = self.another_dispatcher(place, options)
            return self._dispatchers[name]

    def another_dispatcher(self, place: str, options: Mapping[str, Any]) -> Dispatcher:
        """Return a dispatcher that nobody else uses."""
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
        return Dispatcher(self.store, member, client=self.id, logs=self.folder / "logs", rescue=self._rescue)

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
        if self.keeper_of(record.id) is None and not self.owner_lives(record.owner):
            self._inherit(record)
        keeper = self.keeper_of(record.id)
        if keeper is not None:
            keeper.cancel(record.id)
        else:
            self.store.apply([CancelRequested(record.id, now())])

    def _inherit(self, record: RunRecord) -> None:
        """Take over a dead client's run in order to end it; one that had ended before keeps its own end."""
        self.reconcile(record.owner, awaited=record.worker)
        record = self.store.get_run(record.id)
        if record.state is RunState.PENDING:
            self.store.apply([CancelRequested(record.id, now())])  # at once: nobody may start it any more
            if not record.sweep:
                self.store.apply([Withdrawn(record.id, Outcome(RunState.CANCELLED), now())])
                return
        self.carry_on(record)

    def refuse_unreachable(self, record: RunRecord) -> None:
        """Refuse to cancel a run within the thread that called `submit`: nobody there listens; or a part of a run."""
        if record.part_of is not None and not record.state.is_terminal:
            raise ParameterError(
                f"{record.name} ({record.id[:8]}) is child {record.iteration} of {(record.parent or '')[:8]}, opened by a "
                f"handler, and ends with it: cancel the whole run, {record.part_of[:8]}."
            )
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
        return row is not None and lives(row)

    def is_abandoned(self, record: RunRecord) -> bool:
        """Say whether a run that is not over has no client any more that would see it through."""
        return not record.state.is_terminal and not self.owner_lives(record.owner)

    def reconcile(self, of: str | None = None, *, awaited: str | None = None) -> None:
        """Take in what dead clients left, or one of them: read the journals of workers that are gone, mark what is lost.

        Starts nothing, and leaves alone what still runs: pending runs, and workers at work, wait for somebody to ask for
        their result. Of the worker `awaited` it is enough that its process is gone.
        """
        for row in self.store.clients():
            if row[0] != self.id and of in (None, row[0]) and not lives(row):
                try:
                    settle(self, row[0], awaited=awaited)
                except StorageError as error:  # a full disk: what is known can be looked at all the same
                    logger.warning("what a client that died left cannot be recorded now: %s", error)
                except StoreCorruptError as error:  # it hurts whoever asks for what it is about, and nobody else
                    pass_over(error)

    def carry_on(self, record: RunRecord) -> Ticket | None:
        """See a run through whose owner is dead; None when it needs nobody, or somebody else was quicker."""
        if record.state.is_terminal:
            return None
        if (ticket := self.ticket(record.id)) is not None:
            ticket.ours = True  # somebody here asks for it: should it be tried again, then here
            return ticket
        self.register()
        if record.state is RunState.RUNNING:
            if not self.owner_lives(record.owner):
                take_over(self, record)
            return self.ticket(record.id)  # None if somebody else was quicker
        if record.sweep and waiting.conductor is not None:
            return waiting.conductor(self, record)
        plan = self.store.plan(record.plan)
        if record.owner != self.id and not adopt(self, record):
            return None
        for parent in parents_of(record.params):
            with suppress(NotFoundError, StoreCorruptError):  # dispatch fails the run, naming it
                self.carry_on(self.store.get_run(parent))
        return self.dispatcher(plan["place"]["name"], plan["place"]["options"]).resume(record, plan)

    def _rescue(self, run: str) -> None:
        """Carry on a run that others wait for, if its owner is dead."""
        with suppress(NotFoundError, StoreCorruptError):
            if not self.owner_lives(self.store.get_run(run).owner):
                self.reconcile()
                self.carry_on(self.store.get_run(run))

    def unfinished(self) -> list[Ticket]:
        """Return the runs that this process started and that are not terminal."""
        return [ticket for keeper in self._keepers() for ticket in keeper.unfinished() if ticket.ours]

    def hears(self, run: str, state: RunState) -> None:
        """Take note that somebody here has asked how a run is."""
        if state is RunState.FAILED:
            self._heard.add(run)

    def unheard_failures(self) -> list[RunRecord]:
        """Return the runs that were submitted here and failed, and that nobody here has asked about, oldest first."""
        if not self._registered:
            return []
        wanted = RunFilter(owner=self.id, states=(RunState.FAILED.value,), on_top=True)
        failed = self.store.list_runs(wanted, limit=_MOST_UNHEARD, newest=False)
        return [record for record in failed if record.id not in self.adopted | self._heard]

    def close(self) -> None:
        """Wait for nothing, end what is idle, and be forgotten if nothing here is still this client's."""
        for keeper in self._keepers():
            keeper.close()
        if self._registered and not self.store.is_needed(self.id):
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
    clients = list(_clients.values())
    _clients.clear()
    try:
        leave(clients)
    finally:
        discard_early()
