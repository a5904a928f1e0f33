"""The session: this process's use of one store, with its folders, key, dispatchers, and the adoption of orphaned runs."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mlfn.artifacts.codec import Codec
from mlfn.artifacts.nested import parents_of
from mlfn.artifacts.store import ArtifactStore
from mlfn.backends.places.base import AT_SHUTDOWN, PlaceConfig
from mlfn.backends.places.local.fork_server import discard_early
from mlfn.backends.registry import capabilities, engine_class, engine_of
from mlfn.code.own_modules import own_modules_of
from mlfn.dispatch import hooks
from mlfn.dispatch.dispatcher import Dispatcher
from mlfn.dispatch.inflight import InflightRun, RunController
from mlfn.dispatch.recovery import adopt, adopt_idle, settle, take_over
from mlfn.dispatch.shutdown import shut_down
from mlfn.dispatch.signers import signers_of
from mlfn.errors import NotFoundError, ParameterError, StorageError, StoreCorruptError
from mlfn.host.cores import usable_cores
from mlfn.host.identity import identify, is_alive, new_id, now
from mlfn.host.private_files import ensure_folder
from mlfn.settings import current as settings_module
from mlfn.settings.declarations import Settings
from mlfn.spec.plan import Plan, Selected
from mlfn.spec.record import Outcome, RunRecord, RunState
from mlfn.store import open_store
from mlfn.store.changes import CancelRequested, FinishedUnstarted
from mlfn.store.commands import Store
from mlfn.store.queries import RunFilter
from mlfn.store.rows import warn_skipped

logger = logging.getLogger(__name__)
_MOST_FAILURES = 10_000  # named at exit at most
_LOOK = 0.05  # seconds between looks at a run of another process
_FOLDERS = ("artifacts", "logs", "payloads", "workers")


class Session:
    """This process's use of one store: its folders, key, dispatchers and sweep drivers.

    In the store it is a client: the owner of the runs that it submits.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.id = new_id()
        self.folder = settings_module.data_folder(settings)
        for folder in (self.folder, *(self.folder / name for name in _FOLDERS)):
            ensure_folder(folder)
        self.key = settings_module.signing_key()
        self.artifacts = _artifact_store(settings, self.folder)
        self.store: Store = open_store(settings.store, self.folder)
        self._dispatchers: dict[tuple[str, str], Dispatcher] = {}
        self._by_plan: dict[str, Dispatcher] = {}
        self._drivers: dict[str, RunController] = {}  # of sweeps that are not terminal
        self._inherited: list[object] = []  # of the parent process: collecting them would end its workers
        self._known: set[str] = set()
        self._lock = threading.RLock()
        self._registered = False
        self.adopted: set[str] = set()  # runs that other clients submitted
        self._observed: set[str] = set()  # failed runs whose state was read here
        _all_sessions.add(self)

    def codec(self, of: str | None = None) -> Codec:
        """Return how values are packed on this side; with `of`, it reads what executions of that run have signed, too."""
        signers = tuple if of is None else partial(signers_of, self.store, of)
        return Codec(self.key, self.artifacts, modules_of=own_modules_of, signers=signers)

    def dispatcher(self, plan: Plan) -> Dispatcher:
        """Return the dispatcher of what holds a plan's executions, started at first use."""
        if (found := self._by_plan.get(plan.hash)) is None:
            found = self._by_plan[plan.hash] = self.dispatcher_of(engine_of(plan))
        return found

    def dispatcher_of(self, engine: Selected) -> Dispatcher:
        """Return the dispatcher of a place or an engine, for what its options connect to, started at first use."""
        target = engine_class(engine.name).target(**engine.options) if engine.options else {}
        return self.dispatcher_at(engine.name, json.dumps(target, sort_keys=True) if target else "")

    def dispatcher_at(self, engine: str, target: str) -> Dispatcher:
        """Return the dispatcher of a place or an engine at a target, which is JSON."""
        with self._lock:
            if (found := self._dispatchers.get((engine, target))) is None:
                found = self._dispatchers[engine, target] = self.another_dispatcher(engine, target)
                if not capabilities(engine).pooled:
                    adopt_idle(self, engine, target)
            return found

    def another_dispatcher(self, engine: str, target: str) -> Dispatcher:
        """Return a dispatcher of its own, not shared."""
        member = engine_class(engine)(self.place_config(), **json.loads(target or "{}"))
        return Dispatcher(
            self.store,
            member,
            name=engine,
            target=target,
            client=self.id,
            folder=self.folder,
            resume_orphan=self._resume_orphan,
            codec=self.codec,
        )

    def place_config(self) -> PlaceConfig:
        """Return what places and hosts take from this client."""
        return PlaceConfig(
            client=self.id,
            folder=self.folder,
            artifacts=self.artifacts.location,
            key=self.key,
            secrets_file=settings_module.secrets_file(),
            max_workers=self.settings.max_workers or usable_cores(),
            max_workers_is_set=bool(self.settings.max_workers),
            grace=self.settings.grace,
            heartbeat=self.settings.heartbeat,
            package_index=self.settings.package_index,
            trusted_host=self.settings.trusted_host,
            processor=self.settings.nuclio_processor,
            wrapper=self.settings.nuclio_wrapper,
            dashboard=self.settings.nuclio_dashboard,
        )

    def warm(self, engine: Selected) -> None:
        """Start in advance what a first run needs."""
        if not capabilities(engine.name).in_caller:
            self.dispatcher_of(engine).warm()

    def register(self) -> None:
        """Register this client before any row names it."""
        if not self._registered:
            self.store.register_client(self.id, identify(os.getpid()), time=now())
            self._registered = True

    def once(self, digest: str, keep: Callable[[], None]) -> None:
        """Store what many runs share, once."""
        if digest not in self._known:
            keep()
            self._known.add(digest)

    def keep_payload(self, digest: str, data: bytes) -> None:
        """Keep a function's payload in a file named by its content."""
        folder = self.folder / "payloads"
        target = folder / digest
        # Renew the time of a file that exists: until its plan is stored, only its age keeps it from garbage collection.
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

    def inflight(self, run: str) -> InflightRun | None:
        """Return a run that this process owns, until it is terminal."""
        controller = self.controller_of(run)
        return None if controller is None else controller.inflight(run)

    def controller_of(self, run: str) -> RunController | None:
        """Return the dispatcher or driver that owns a run in this process."""
        return next((controller for controller in self._controllers() if controller.inflight(run) is not None), None)

    def add_driver(self, sweep: str, driver: RunController) -> None:
        """Register the driver of a sweep."""
        self._drivers[sweep] = driver

    def remove_driver(self, sweep: str) -> None:
        """Remove the driver of a sweep that has ended."""
        self._drivers.pop(sweep, None)

    def _controllers(self) -> list[RunController]:
        return [*self._drivers.values(), *self._dispatchers.values()]

    def cancel(self, record: RunRecord) -> None:
        """Request a run's cancellation from its owner; adopt and end a run whose owner is dead."""
        self.refuse_unreachable(record)
        if self.controller_of(record.id) is None and not self.owner_lives(record.owner):
            self._adopt_to_cancel(record)
        controller = self.controller_of(record.id)
        if controller is not None:
            controller.cancel(record.id)
        else:
            self.store.apply([CancelRequested(record.id, now())])

    def _adopt_to_cancel(self, record: RunRecord) -> None:
        """Adopt a dead client's run in order to cancel it; one that had ended before keeps its outcome."""
        self.reconcile(record.owner, awaited=record.execution)
        record = self.store.get_run(record.id)
        if record.state is RunState.PENDING and not record.queued:
            self.store.apply([CancelRequested(record.id, now())])  # at once: it must not start any more
            if not record.sweep:
                self.store.apply([FinishedUnstarted(record.id, Outcome(RunState.CANCELLED), now())])
                return
        self.resume(record)

    def refuse_unreachable(self, record: RunRecord) -> None:
        """Refuse to cancel a run in the thread that called `submit`, which checks no requests, or a part of a run."""
        if record.part_of is not None and not record.state.is_terminal:
            raise ParameterError(
                f"{record.name} ({record.id[:8]}) is child {record.iteration} of {(record.parent or '')[:8]}, opened within a "
                f"run, and ends with it: cancel the whole run, {record.part_of[:8]}."
            )
        in_caller = capabilities(engine_of(self.store.get_plan(record.plan)).name).in_caller
        here = in_caller and not record.sweep  # a driver checks between two children
        if here and not record.state.is_terminal and self.owner_lives(record.owner):
            whose = "this process" if record.owner == self.id else "another process"
            raise ParameterError(
                f"{record.name} ({record.id[:8]}) runs in a thread of {whose} (on={record.place!r}), which checks no cancel "
                "requests: press ctrl-C there."
            )

    def owner_lives(self, owner: str | None) -> bool:
        """Return whether the client that owns a run may still be alive."""
        if owner == self.id:
            return True
        row = next((row for row in self.store.clients() if row[0] == owner), None)
        return row is not None and is_alive(row)

    def is_abandoned(self, record: RunRecord) -> bool:
        """Return whether a run is neither terminal nor owned by a client that lives."""
        return not record.state.is_terminal and not self.owner_lives(record.owner)

    def reconcile(self, of: str | None = None, *, awaited: str | None = None) -> None:
        """Record what the workers of dead clients, or of one of them, reported before they ended; mark lost runs.

        It starts nothing: pending runs and busy workers wait until a result is asked for. For the worker `awaited`, a
        process that is gone is proof enough.
        """
        for row in self.store.clients():
            if row[0] != self.id and of in (None, row[0]) and not is_alive(row):
                try:
                    settle(self, row[0], awaited=awaited)
                except StorageError as error:  # a full disk: the store can be read all the same
                    logger.warning("the runs of a dead client cannot be recorded now: %s", error)
                except StoreCorruptError as error:  # it concerns this run alone
                    warn_skipped(error)

    def resume(self, record: RunRecord) -> InflightRun | None:
        """Own a run whose owner is dead; None when it is terminal, or another client adopted it first."""
        if record.state.is_terminal:
            return None
        if (inflight := self.inflight(record.id)) is not None:
            inflight.ours = True  # its result is wanted here: a retry runs here too
            return inflight
        self.register()
        if record.is_claimed:
            if not self.owner_lives(record.owner):
                take_over(self, record)
            return self.inflight(record.id)  # None if another client was first
        if record.sweep and hooks.sweep_controller is not None:
            driven: InflightRun | None = hooks.sweep_controller(self, record)
            return driven
        plan = self.store.get_plan(record.plan)
        if record.owner != self.id and not adopt(self, record):
            return None
        for parent in parents_of(record.params):
            with suppress(NotFoundError, StoreCorruptError):  # the dispatcher fails the run, naming it
                self.resume(self.store.get_run(parent))
        return self.dispatcher(plan).resume(record, plan)

    def wait_for(self, run: str) -> None:
        """Wait until a run has ended; one whose owner is dead is resumed here."""
        while not (record := self.store.get_run(run)).state.is_terminal:
            inflight = self.inflight(run)
            if inflight is None and not self.owner_lives(record.owner):
                inflight = self.resume(record)
            if inflight is not None:
                inflight.done.wait(1.0)
            else:
                time.sleep(_LOOK)

    def _resume_orphan(self, run: str) -> None:
        """Resume an upstream run if its owner is dead."""
        with suppress(NotFoundError, StoreCorruptError):
            if not self.owner_lives(self.store.get_run(run).owner):
                self.reconcile()
                self.resume(self.store.get_run(run))

    def unfinished(self) -> list[InflightRun]:
        """Return the runs that this process started and that are not terminal."""
        return [inflight for controller in self._controllers() for inflight in controller.unfinished() if inflight.ours]

    def mark_observed(self, run: str, state: RunState) -> None:
        """Remember that the state of a run was read here, so that its failure is not named again at exit."""
        if state is RunState.FAILED:
            self._observed.add(run)

    def unobserved_failures(self) -> list[RunRecord]:
        """Return the failed runs that were submitted here and whose state was never read here, oldest first."""
        if not self._registered:
            return []
        wanted = RunFilter(owner=self.id, states=(RunState.FAILED.value,), top_level=True)
        failed = self.store.list_runs(wanted, limit=_MOST_FAILURES, newest=False)
        return [record for record in failed if record.id not in self.adopted | self._observed]

    def close(self) -> None:
        """End what is idle without waiting, and remove this client from the store unless a run still needs it."""
        for controller in self._controllers():
            controller.close()
        if self._registered and not self.store.is_needed(self.id):
            self.store.remove_client(self.id)
        self.store.close()

    def after_fork(self) -> None:
        """Become another client in a forked child: dispatchers and runs belong to the parent process."""
        for controller in self._controllers():
            controller.after_fork()
        self._inherited += self._controllers()
        self._dispatchers, self._by_plan, self._drivers = {}, {}, {}
        self._lock = threading.RLock()
        self.id = new_id()
        self._registered = False


def _artifact_store(settings: Settings, folder: Path) -> ArtifactStore:
    own = folder / "artifacts"
    if not settings.artifacts:
        return ArtifactStore(own)
    from mlfn.artifacts.home import home_of

    return ArtifactStore(settings.artifacts, home=home_of(folder), former=own)


# Sessions that are no longer current are among them: a handle may hold one.
_all_sessions: weakref.WeakSet[Session] = weakref.WeakSet()
_sessions: dict[tuple[Any, ...], Session] = {}
_sessions_lock = threading.Lock()
_latest: tuple[Settings, tuple[Any, ...]] | None = None  # and the name of their session


def current_session(chosen: Settings | None = None) -> Session:
    """Return the session for the settings in force, or for those `chosen`; one per store and data folder."""
    global _latest
    chosen = chosen or settings_module.current()
    # The same object until the settings are read again: the folder is searched for no more often.
    if _latest is not None and _latest[0] is chosen and (session := _sessions.get(_latest[1])) is not None:
        return session
    folder = str(settings_module.data_folder(chosen))
    of_places = (chosen.max_workers, chosen.grace, chosen.heartbeat, chosen.package_index, chosen.trusted_host)
    name = (chosen.store, folder, chosen.artifacts, *of_places)
    _latest = (chosen, name)
    session = _sessions.get(name)
    if session is None:
        with _sessions_lock:
            if (session := _sessions.get(name)) is None:
                session = _sessions[name] = Session(replace(chosen, data=folder))
    return session


def _after_fork() -> None:
    global _sessions_lock
    _sessions_lock = threading.Lock()
    for session in list(_all_sessions):
        session.after_fork()


os.register_at_fork(after_in_child=_after_fork)


# Exit handlers run in reverse order: this one after which weakref's own is registered waits for runs before temporary folders,
# those of a sweep's end and those of the script, are removed.
weakref.finalize(Session, id, None).detach()


@atexit.register
def shutdown() -> None:
    """Wait for the runs of this process, and end all that it keeps for more of them: workers, connections, clusters.

    It happens by itself when the process ends. What is submitted later starts anew.
    """
    sessions = list(_sessions.values())
    _sessions.clear()
    try:
        shut_down(sessions)
    finally:
        discard_early()
        for action in AT_SHUTDOWN:
            action()
