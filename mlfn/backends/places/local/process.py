"""One worker process of a local place: started, bound to a plan, given tasks, read from, stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlfn.backends.places.base import EventsReceived, Report, Terminated
from mlfn.backends.places.local.exits import Exit, explain
from mlfn.backends.places.local.fork_server import ForkServer, launch
from mlfn.backends.places.local.orphans import last_beat
from mlfn.errors import StorageError, WorkerDiedError
from mlfn.host.identity import new_id
from mlfn.host.memory import memory_kills
from mlfn.settings.masking import Masker
from mlfn.worker.control import answer_line
from mlfn.worker.journal_reader import JournalReader
from mlfn.worker.mailbox import TaskSender, pack_message
from mlfn.worker.task import Task
from mlfn.worker.time_limit import SUPERVISED_SECONDS

_EXIT_SECONDS = 5.0  # in which a worker ends that has closed its socket or was killed
_REPORT_SECONDS = 1.0  # in which a fork server has reported a worker's end
_MARKS = ("started", "finished")  # events between which a run is running
_MOST_STDERR = 2000  # bytes


class WorkerProcess:
    """A process that runs the tasks of one plan, one after the other."""

    def __init__(self, server: ForkServer, workers: Path) -> None:
        self.id = new_id()
        self.folder = workers / self.id
        _make_folder(self.folder)
        try:
            self._forked = server.fork()
        except OSError as error:
            remove_folder(self.folder)
            raise _no_worker(server.python, error) from error
        self.server = server
        self.plan = ""
        self.fresh = False
        self.supervises = False  # it has processes of its own to end at a stop, which it does in the grace time
        self.single = False
        self.registered = False
        self.retired = False
        self.slots = 1
        self.gpus: tuple[str, ...] = ()
        self.backlog = 0
        self.idle_since = time.monotonic()
        self._journal = JournalReader(self.folder / "journal")
        self._kill_at: float | None = None
        self._end_by: float | None = None  # set when it has closed its socket, and so is about to end
        self._frozen = False  # by SIGSTOP, until it was killed
        self._memory_kills = memory_kills()
        self._begun = 0  # runs that were sent and not recalled
        self._is_running = False  # one has started and not ended, as its journal says
        self._mem: int | None = None
        self._secrets: tuple[str, ...] = ()
        self.control = self._forked.control
        self._tasks = TaskSender(self._forked.sending, self._forked.receiving, self.folder)

    @property
    def pid(self) -> int:
        """The process's id, and that of its group and session."""
        return self._forked.process.pid

    @property
    def is_ending(self) -> bool:
        """Whether it takes no more runs."""
        return self.retired or self._end_by is not None

    def bind(self, plan: Mapping[str, Any]) -> None:
        """Send what its tasks have in common."""
        self._secrets, self._mem = tuple(plan["secrets"].values()), plan["mem"]
        line = pack_message({"folder": str(self.folder), **plan}, self.folder) + b"\n"
        with contextlib.suppress(ConnectionError):  # its end is noticed by its closed control socket
            self.control.sendall(line)

    def start(self, task: Task) -> None:
        """Queue a task."""
        self._begun += 1
        with contextlib.suppress(ConnectionError):
            self._tasks.send(vars(task))

    def answer(self, run: str, why: str | None) -> None:
        """Answer a point of its current run."""
        with contextlib.suppress(OSError):  # it has ended, or has not read many answers
            self.control.send(answer_line(run, why), socket.MSG_DONTWAIT)

    def recall(self) -> list[str]:
        """Take back the runs that it has not begun, and return them."""
        runs = [task["run"] for task in self._tasks.recall()]
        self.backlog -= len(runs)
        self._begun -= len(runs)
        return runs

    def is_connected(self) -> bool:
        """Read its wake-ups away; False when it has closed its socket, and so is about to end."""
        if drain(self.control):
            return True
        self._end_by = time.monotonic() + _EXIT_SECONDS
        return False

    def collect(self, *, has_ended: bool = False) -> list[Report]:
        """Return new events of its journal; all that are left where it `has_ended`."""
        batches = self._journal.read(has_ended=has_ended)
        reports = [EventsReceived(self.id, events, cursor) for events, cursor in batches]
        if reports:
            marks = [event["event"] for report in reports for event in report.events if event["event"] in _MARKS]
            self._is_running = marks[-1] == "started" if marks else self._is_running
        return [*reports]

    def stop(self, grace: float) -> None:
        """SIGTERM now; `kill_if_overdue` follows up after `grace` seconds."""
        if self._kill_at is None:
            self._kill_at = time.monotonic() + grace + (SUPERVISED_SECONDS if self.supervises else 0)
            self.retired = True
            self._signal(os.kill, signal.SIGTERM)

    def retire(self, grace: float) -> None:
        """End it after its current run."""
        if not self.retired:
            self.retired = True
            self._kill_at = None if self.backlog else time.monotonic() + grace
            with contextlib.suppress(OSError):
                self.control.shutdown(socket.SHUT_WR)

    def kill_if_overdue(self, lapse: float) -> None:
        """SIGKILL to its group when it did not end in time, or was stopped (SIGSTOP) `lapse` seconds ago."""
        if self._kill_at is None and self._is_frozen(lapse):
            self._frozen = True
        overdue = any(limit is not None and time.monotonic() >= limit for limit in (self._kill_at, self._end_by))
        if overdue and self._forked.process.state() == "gone":
            if not self._forked.wait(_REPORT_SECONDS):
                self.server.kill()
        elif overdue or self._frozen:
            self._signal(os.killpg, signal.SIGKILL)

    def kill(self) -> None:
        """SIGKILL to its group, and wait for its end."""
        self._signal(os.killpg, signal.SIGKILL)
        if not self._forked.wait(_EXIT_SECONDS):
            self.server.kill()

    def has_ended(self) -> bool:
        """Return whether the process is gone."""
        return self._forked.has_ended()

    def terminated(self) -> Terminated:
        """Return the report of its end."""
        is_ours = self._kill_at is not None or self._frozen
        code = self._forked.code
        number = -code if code is not None and code < 0 else None
        exit_ = Exit(
            code=code if number is None else None,
            signal=number,
            memory_killed=number == signal.SIGKILL and not is_ours and memory_kills() > self._memory_kills,
            stopped=self._frozen,
            mem=self._mem,
        )
        unstarted = tuple(self.recall())
        never_began = not self._begun and not self.retired
        reason, message = explain(exit_, began=not never_began, started=self._is_running, stderr=self._stderr())
        return Terminated(self.id, reason, message, exit_.code, exit_.signal, unstarted, never_began)

    def close(self) -> None:
        """Close this side; a busy process finishes its run, an idle one ends."""
        self.control.close()
        self._tasks.close()
        self._forked.stderr.close()

    def _signal(self, send: Callable[[int, int], None], number: int) -> None:
        if not self._forked.has_ended():  # its pid may be another's soon
            with contextlib.suppress(ProcessLookupError, PermissionError):
                send(self.pid, number)

    def _stderr(self) -> str:
        # The worker writes at the file's position, which it shares: reading must not move that.
        file = self._forked.stderr.fileno()
        data = os.pread(file, _MOST_STDERR, max(0, os.fstat(file).st_size - _MOST_STDERR))
        return Masker(self._secrets).text(data.decode(errors="backslashreplace").strip()) if data else ""

    def _is_frozen(self, lapse: float) -> bool:
        if not self.backlog or (beat := last_beat(self.folder)) is None or time.time() - beat < lapse:
            return False
        return self._forked.process.state() == "stopped"


def drain(sock: socket.socket) -> bool:
    """Read away what waits; False when the other side has closed."""
    try:
        return bool(sock.recv(65536, socket.MSG_DONTWAIT))  # more than ever waits; else the selector reports it again
    except BlockingIOError:
        return True
    except OSError:
        return False


def fork_server(python: str) -> ForkServer:
    """Return a process that forks workers of this interpreter."""
    try:
        return launch(python)
    except OSError as error:
        raise _no_worker(python, error) from error


def _no_worker(python: str, error: OSError) -> WorkerDiedError:
    return WorkerDiedError(
        f"No worker process can be started with {python} ({error.strerror}); `mlfn doctor` checks that one can."
    )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise StorageError(
            f"A worker's folder {folder} cannot be made ({error.strerror}); free space or rights there."
        ) from error


def remove_folder(folder: Path) -> None:
    """Remove the folder of a worker whose events are recorded."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            path.unlink(missing_ok=True)
        folder.rmdir()
