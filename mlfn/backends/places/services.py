"""Runs that a deployed service of this machine executes; one that is not deployed is, for the first of them."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlfn.backends.hosts.base import ServiceRecord
from mlfn.backends.hosts.checks import refuse_other_triggers, refuse_other_version
from mlfn.backends.hosts.local import LocalHost
from mlfn.backends.hosts.run_files import ASKED_TO_STOP, EXITS, RUNS_PATH, TOKEN_HEADER, WORKER, internal_token
from mlfn.backends.places.base import (
    Capabilities,
    EventsReceived,
    OneShot,
    PlaceConfig,
    Report,
    Slot,
    StatusChanged,
    StoredExecution,
    Terminated,
    Unavailable,
)
from mlfn.backends.places.binding import binding_of
from mlfn.backends.places.inbox import Inbox
from mlfn.backends.places.local.exits import Exit, explain
from mlfn.backends.places.local.place import LocalPlace
from mlfn.host.identity import ProcessIdentity, new_id
from mlfn.host.private_files import ensure_folder
from mlfn.settings import current as settings
from mlfn.spec.plan import Plan
from mlfn.spec.record import Reason
from mlfn.worker.assignment import write_answer
from mlfn.worker.journal_reader import JournalReader, ends_in_order
from mlfn.worker.task import Task

logger = logging.getLogger("mlfn")
_POLL = 0.05  # seconds between two readings of the journals of runs at work
_AGAIN = 0.02  # seconds before another process of the service is asked
_MOST_BATCHES = 8
_MOST_QUEUED = 1000
_LATEST_WORD = 2.0  # seconds after which a server has said how one of its processes ended
_DELETED = ": the service that executed it has ended or was deleted, and not by mlfn; deploy() begins it again."


@dataclass
class Watched:
    """An execution as its place knows it. `call` is at work while this process has the service execute it."""

    id: str
    plan: Plan | None
    task: Task | None
    folder: Path
    handle: Mapping[str, Any]
    journal: JournalReader
    call: threading.Thread | None = None
    answered: bool = False  # the service says that the run has ended
    lost: bool = False  # the connection broke: its process says how it goes on
    waits: bool = False
    kill_at: float | None = None
    stopping: bool = False
    over: bool = False  # its end is recorded
    ended_at: float | None = None  # when its process was found to be gone


class ServicesPlace(OneShot):
    """Each run is a call of its function's service, which goes on without the client."""

    OPTIONS = ()
    CAPABILITIES = Capabilities(
        secrets_of_caller=True,
        outlives_client=True,
        ignored=dict.fromkeys(("image", "node"), "its service runs on this machine, as it is"),
    )

    @staticmethod
    def check() -> None:
        """Take no option."""

    @staticmethod
    def target(**_: Any) -> Mapping[str, Any]:
        """Return nothing: one dispatcher has all services of a data folder."""
        return {}

    @staticmethod
    def check_plan(plan: Plan) -> None:
        """Raise OptionError for a function that this machine cannot serve."""
        if not settings.current().nuclio_processor:
            refuse_other_triggers(plan)
        LocalPlace.check_plan(plan)

    @staticmethod
    def has_ended(handle: Mapping[str, Any], *, heartbeat: float, awaited: bool) -> bool:
        """Return whether the process that executed the run is gone, or has ended it."""
        folder = Path(handle["folder"])
        if ends_in_order(folder / "journal"):
            return True
        process = _process(folder)
        return process is not None and process.state() == "gone"

    def __init__(self, config: PlaceConfig) -> None:
        self._config = config
        self._host = LocalHost(config)
        self._watched: dict[str, Watched] = {}
        self._plans: dict[str, Plan] = {}
        self._ready: dict[str, ServiceRecord] = {}  # by function version
        self._deploying: dict[str, threading.Thread] = {}
        self._failed: dict[str, Exception] = {}
        self._inbox: Inbox[Report] = Inbox(self._take, self._attend_to_all)

    # -- what the dispatcher asks for
    def reserve(
        self, plan: Plan, *, waiting: int, backlog: int, parallel: int | None, failures: int | None
    ) -> Slot | Unavailable:
        """Return a new execution, once the function is deployed in this version."""
        if len(self._watched) >= _MOST_QUEUED:
            return Unavailable()
        try:
            record = self._service(plan)
        except Exception as error:  # noqa: BLE001 - whatever it is, it fails the run
            return Unavailable(error)
        if record is None:
            return Unavailable()
        execution = new_id()
        self._plans[execution] = plan
        handle = {
            "folder": str(self._config.folder / "workers" / execution),
            "project": plan.project,
            "name": plan.name,
            "server": dict(record.handle),
        }
        return Slot(execution, handle, queued=True)

    def scale_to(self, parallel: int | None) -> int:
        """Return as many runs as are wanted: those without a worker wait at the service."""
        return parallel or self._config.max_workers

    def start(self, execution: str, tasks: Sequence[Task]) -> None:
        """Have the service execute the run."""
        plan = self._plans.pop(execution)
        record = self._ready[plan.function]
        folder = ensure_folder(self._config.folder / "workers" / execution)
        handle = {"folder": str(folder), "project": plan.project, "name": plan.name, "server": dict(record.handle)}
        self._watched[execution] = watched = Watched(
            execution, plan, tasks[0], folder, handle, JournalReader(folder / "journal")
        )
        self._call(watched)

    def attach(self, stored: StoredExecution) -> None:
        """Own an execution of a dead client: read on, or have the service execute what it has not begun."""
        folder = Path(stored.handle["folder"])
        task = stored.tasks[0] if stored.tasks else None
        watched = Watched(
            stored.execution,
            stored.plan,
            task,
            folder,
            stored.handle,
            JournalReader(folder / "journal", stored.cursor),
            over=task is None,
        )
        self._watched[stored.execution] = watched
        begun = (folder / WORKER).exists() or (folder / "journal").exists()
        if task is not None and not begun and not (folder / ASKED_TO_STOP).exists():
            ensure_folder(folder)
            self._call(watched)
        else:
            watched.lost = True

    def collect(self, timeout: float) -> Sequence[Report]:
        """Return events of runs, and which of them ended."""
        return self._inbox.collect(timeout, _POLL if self._watched else None)

    def wake(self) -> None:
        """Interrupt `collect`."""
        self._inbox.look_soon()
        self._inbox.wake()

    def stop(self, execution: str, run: str) -> None:
        """Cancel the run in its process; that is killed when the run has not ended after the grace time."""
        watched = self._watched.get(execution)
        if watched is None or watched.stopping:
            return
        watched.stopping = True
        with contextlib.suppress(OSError):
            (watched.folder / ASKED_TO_STOP).touch()
        watched.kill_at = time.monotonic() + self._config.grace
        _signal(_process(watched.folder), signal.SIGTERM)

    def answer(self, execution: str, run: str, why: str | None) -> None:
        """Answer a point; a text says why the run should stop."""
        if (watched := self._watched.get(execution)) is not None:
            with contextlib.suppress(OSError):
                write_answer(watched.folder, why)

    def cleanup(self, execution: str) -> None:
        """Remove its folder when it has ended; that is reported then."""
        if self._plans.pop(execution, None) is not None:
            self._inbox.put(Terminated(execution, Reason.NEVER_STARTED, " was not started"))
        elif (watched := self._watched.get(execution)) is not None:
            watched.over = True
        else:
            remove_folder(self._config.folder / "workers" / execution)

    def close(self) -> list[str]:
        """Stop reading; what the services execute goes on."""
        gone = [watched.id for watched in self._watched.values() if watched.over]
        for execution in gone:
            remove_folder(self._watched[execution].folder)
        self._watched.clear()
        return gone

    def after_fork(self) -> None:
        """Leave the threads, which are the parent's, alone."""

    # -- the service
    def _service(self, plan: Plan) -> ServiceRecord | None:
        """Return the service that has this version; None while it is deployed. Another version is left as it is."""
        if error := self._failed.pop(plan.function, None):
            raise error
        if plan.function in self._deploying:
            return None
        record = self._host.find(plan.project, plan.name)
        if record is None or record.state != "ready":
            self._deploy(plan)
            return None
        refuse_other_version(plan, record)
        self._ready[plan.function] = record
        return record

    def _deploy(self, plan: Plan) -> None:
        def run() -> None:
            try:
                record, is_new = self._host.deploy(plan)
                if is_new:
                    logger.warning(
                        "%s is deployed for its runs, at %s: it goes on after them, until `mlfn undeploy %s`",
                        plan.name,
                        record.url,
                        plan.name,
                    )
            except Exception as error:  # noqa: BLE001 - raised again for the run that needs it
                self._failed[plan.function] = error
            finally:
                del self._deploying[plan.function]
                self.wake()

        self._deploying[plan.function] = thread = threading.Thread(target=run, name="mlfn-deploy", daemon=True)
        thread.start()

    # -- one execution
    def _call(self, watched: Watched) -> None:
        watched.call = threading.Thread(target=self._ask, args=(watched,), name="mlfn-call", daemon=True)
        watched.call.start()

    def _ask(self, watched: Watched) -> None:
        """Ask the service until one of its processes executes the run, and wait for its end."""
        assert watched.plan is not None and watched.task is not None
        plan = watched.plan
        binding = binding_of(plan, self._config, watched.id)
        body = {
            "folder": str(watched.folder),
            "plan": binding,
            "task": watched.task.to_json(),
            "version": plan.function,
        }
        data = json.dumps(body, default=list).encode()
        headers = {TOKEN_HEADER: internal_token(self._config.key, plan.project, plan.name)}
        try:
            while not watched.stopping:
                record = self._host.find(plan.project, plan.name)
                if record is None or record.state != "ready":
                    break
                status, answer = _posted(record.url, data, headers)
                if status == 200:
                    watched.answered = True
                    return
                if status != 503 and _process(watched.folder) is not None:
                    return  # Nuclio's processor answers for a worker that has died: how, is seen
                if status != 503:
                    words = f": its service answered {status}: {answer[:200].decode('utf-8', 'replace')}"
                    self._inbox.put(Terminated(watched.id, Reason.NEVER_STARTED, words))
                    return
                self._note_waiting(watched, record)
                time.sleep(_AGAIN)
        except (OSError, http.client.HTTPException):
            pass  # its process says how the run goes on, or that it has not begun
        finally:
            watched.lost = not watched.answered
            self.wake()

    def _note_waiting(self, watched: Watched, record: ServiceRecord) -> None:
        if not watched.waits and watched.task is not None:
            watched.waits = True
            words = f"waits for a free worker of the service {record.name}: scale() gives it more"
            self._inbox.put(StatusChanged(watched.id, watched.task.run, words))

    def _take(self, report: Report) -> Iterator[Report]:
        if isinstance(report, Terminated) and (watched := self._watched.get(report.execution)) is not None:
            self._forget(watched)
        yield report

    def _attend_to_all(self) -> Iterator[Report]:
        for watched in list(self._watched.values()):
            yield from self._attend(watched)

    def _attend(self, watched: Watched) -> list[Report]:
        """Return what is new of an execution."""
        reports: list[Report] = []
        # Before the journal is read: all that was written before the end is then in it.
        has_ended = self._has_ended(watched)
        if not watched.over:
            for events, cursor in itertools.islice(watched.journal.read(has_ended=has_ended), _MOST_BATCHES):
                reports.append(EventsReceived(watched.id, events, cursor))
        if has_ended and not reports and self._knows_how(watched):
            self._forget(watched)
            reports.append(self._terminated(watched))
        elif watched.kill_at is not None and time.monotonic() >= watched.kill_at:
            watched.kill_at = time.monotonic() + 1.0
            _signal(_process(watched.folder), signal.SIGKILL)
        if reports:
            self._inbox.look_soon()  # there may be more
        return reports

    def _has_ended(self, watched: Watched) -> bool:
        if watched.answered or ends_in_order(watched.folder / "journal"):
            return True
        if not watched.lost:
            return False
        process = _process(watched.folder)
        return process is None or process.state() == "gone"

    def _knows_how(self, watched: Watched) -> bool:
        """Say whether it is known how the run's process has ended; its server says so a moment later."""
        process = _process(watched.folder)
        if process is None or watched.answered or ends_in_order(watched.folder / "journal"):
            return True
        watched.ended_at = watched.ended_at or time.monotonic()
        is_known = _exit_of(Path(watched.handle["server"]["folder"]), process.pid) is not None
        return is_known or not _lives(watched) or time.monotonic() - watched.ended_at > _LATEST_WORD

    def _terminated(self, watched: Watched) -> Terminated:
        process = _process(watched.folder)
        if process is None:
            return Terminated(watched.id, Reason.NEVER_STARTED, _DELETED, never_began=True)
        server = Path(watched.handle["server"]["folder"])
        exit_ = _exit_of(server, process.pid)
        if exit_ is None or not _lives(watched):
            return Terminated(watched.id, Reason.LOST, _DELETED, deleted=True)
        mem = watched.plan.mem if watched.plan is not None else None
        reason, message = explain(replace(exit_, mem=mem))
        return Terminated(watched.id, reason, message, exit_.code, exit_.signal)

    def _forget(self, watched: Watched) -> None:
        self._watched.pop(watched.id, None)


def remove_folder(folder: Path) -> None:
    """Remove the folder of a run whose events are recorded."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            path.unlink(missing_ok=True)
        folder.rmdir()


def _lives(watched: Watched) -> bool:
    """Say whether the service runs still that executed a run."""
    return ProcessIdentity(**watched.handle["server"]["process"]).state() == "alive"


def _posted(url: str, data: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port)
    try:
        connection.request("POST", RUNS_PATH, body=data, headers={"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _process(folder: Path) -> ProcessIdentity | None:
    """Return the process that executes the run of a folder; None before one does."""
    try:
        return ProcessIdentity(**json.loads((folder / WORKER).read_bytes()))
    except (OSError, ValueError):
        return None


def _exit_of(server: Path, pid: int) -> Exit | None:
    """Return how a process of a server has ended, as its first process says."""
    try:
        lines = (server / EXITS).read_bytes().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            if found["pid"] == pid:
                return Exit(found["code"], found["signal"])
    return None


def _signal(process: ProcessIdentity | None, number: int) -> None:
    if process is not None and process.state() == "alive":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, number)
