"""One worker process as its place holds it: started, bound to a plan, given tasks, listened to, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlfn.errors import StorageError, WorkerDiedError
from mlfn.execution import Task
from mlfn.identity import new_id
from mlfn.masker import Masker
from mlfn.places.base import Gone, Report
from mlfn.places.orphans import last_beat
from mlfn.places.reports import read_reports
from mlfn.worker.launch import Forked, ForkServer, launch
from mlfn.worker.mailbox import Outbox
from mlfn.worker.verdicts import verdict_to_bytes

_LEAVING_SECONDS = 5.0
_TELLING_SECONDS = 1.0  # in which a fork server has told that a worker is gone, if it does at all
_MOST_SAID = 2000  # bytes


class WorkerProcess:
    """A process that runs the tasks of one plan, one after the other."""

    def __init__(self, server: ForkServer, workers: Path) -> None:
        self.id = new_id()
        self.folder = workers / self.id
        _make_folder(self.folder)
        self._forked = _forked(server, self.folder)
        self.server = server
        self.plan = ""
        self.fresh = False
        self.registered = False
        self.retired = False
        self.slots = 1
        self.gpus: tuple[str, ...] = ()
        self.backlog = 0
        self.idle_since = time.monotonic()
        self._consumed = 0
        self._kill_at: float | None = None
        self._end_by: float | None = None  # when it has closed its socket, and so is about to end
        self._stopped = False  # by somebody else (SIGSTOP), for so long that it was ended
        self._memory_kills = memory_kills()
        self._begun = 0  # runs that it was given and that were not taken back
        self._secrets: tuple[str, ...] = ()
        self.control = self._forked.control
        self._outbox = Outbox(self._forked.giving, self._forked.taking, self.folder)
        self._send({"op": "settle", "folder": str(self.folder)})

    @property
    def pid(self) -> int:
        """The process's id, which is its group's and session's too."""
        return self._forked.process.pid

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to end."""
        return self._kill_at is not None

    @property
    def is_leaving(self) -> bool:
        """Whether it is about to end, and takes nothing more."""
        return self.retired or self._end_by is not None

    def bind(self, message: Mapping[str, Any]) -> None:
        """Say what its tasks will have in common."""
        self._secrets = tuple(message["secrets"].values())
        self._send({"op": "bind", **message})

    def give(self, task: Task) -> None:
        """Queue a task."""
        self._begun += 1
        self._send({"op": "run", "task": task.to_json()})

    def answer(self, run: str, why: str | None) -> None:
        """Answer a report of the run it is at."""
        with contextlib.suppress(OSError):  # it ended meanwhile, or has not read many answers
            self.control.send(verdict_to_bytes(run, why), socket.MSG_DONTWAIT)

    def take_back(self) -> list[str]:
        """Return the runs that it was given and has not begun, and now never will."""
        runs = [message["task"]["run"] for message in self._outbox.take_back()]
        self.backlog -= len(runs)
        self._begun -= len(runs)
        return runs

    def hear(self) -> tuple[list[Report], bool]:
        """Return what it reported, and whether it listens still; one that does not is about to end."""
        listens = drain(self.control)
        if not listens:
            self._end_by = time.monotonic() + _LEAVING_SECONDS
        return self.news(), listens

    def news(self) -> list[Report]:
        """Return what its journal has new."""
        reports = read_reports(self.id, self.folder / "journal", self._consumed)
        if reports:
            self._consumed = reports[-1].consumed
        return [*reports]

    def terminate(self, grace: float) -> None:
        """SIGTERM now; `kill_if_overdue` follows up after `grace` seconds."""
        if self._kill_at is None:
            self._kill_at = time.monotonic() + grace
            self.retired = True
            self._signal(os.kill, signal.SIGTERM)

    def hang_up(self, grace: float) -> None:
        """Let it end after what it is doing; it begins nothing more."""
        if not self.retired:
            self.retired = True
            self._kill_at = None if self.backlog else time.monotonic() + grace
            with contextlib.suppress(OSError):
                self.control.shutdown(socket.SHUT_WR)

    def kill_if_overdue(self, lapse: float) -> None:
        """SIGKILL to its group when it did not end in time, or was stopped (SIGSTOP) `lapse` seconds ago."""
        if not self.is_stopping and self._is_frozen(lapse):
            self._stopped = True
        overdue = any(limit is not None and time.monotonic() >= limit for limit in (self._kill_at, self._end_by))
        if overdue and self._forked.process.state() == "gone":
            if not self._forked.wait(_TELLING_SECONDS):
                self.server.give_up()
        elif overdue or self._stopped:
            self.kill_group()

    def kill_group(self) -> None:
        """SIGKILL to all that is left of its process group."""
        self._signal(os.killpg, signal.SIGKILL)

    def has_ended(self) -> bool:
        """Say whether the process is no more."""
        return self._forked.has_ended()

    def see_end(self) -> None:
        """Wait for the end of a process that was killed."""
        if not self._forked.wait(_LEAVING_SECONDS):
            self.server.give_up()

    def obituary(self) -> Gone:
        """Return the report of its end."""
        ours = self.is_stopping or self._stopped
        code = self._forked.code
        killed = code == -signal.SIGKILL and not ours and memory_kills() > self._memory_kills
        unread = tuple(self.take_back())
        return Gone(
            self.id,
            exit_code=code if code is not None and code >= 0 else None,
            signal=-code if code is not None and code < 0 else None,
            memory_killed=killed,
            unread=unread,
            lost=code is None,
            stopped=self._stopped,
            never_began=not self._begun and not self.retired,
            said=self._last_words(),
        )

    def close(self) -> None:
        """Close this side; a process that is busy goes on by itself, one that is idle ends."""
        self.control.close()
        self._outbox.close()
        self._forked.said.close()

    def _signal(self, send: Callable[[int, int], None], number: int) -> None:
        if not self._forked.has_ended():  # its pid may be another's soon
            with contextlib.suppress(ProcessLookupError, PermissionError):
                send(self.pid, number)

    def _send(self, message: Mapping[str, Any]) -> None:
        # A worker that died meanwhile is noticed by its closed control socket.
        with contextlib.suppress(ConnectionError):
            self._outbox.send(message)

    def _last_words(self) -> str:
        # The worker writes where the file stands, which it shares: reading must not move that.
        said = self._forked.said.fileno()
        data = os.pread(said, _MOST_SAID, max(0, os.fstat(said).st_size - _MOST_SAID))
        return Masker(self._secrets).text(data.decode(errors="backslashreplace").strip()) if data else ""

    def _is_frozen(self, lapse: float) -> bool:
        if not self.backlog or (beat := last_beat(self.folder)) is None or time.time() - beat < lapse:
            return False
        return self._forked.process.state() == "stopped"


def drain(sock: socket.socket) -> bool:
    """Read away what waits; False when the other side has closed."""
    while True:
        try:
            if not sock.recv(65536, socket.MSG_DONTWAIT):
                return False
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


def _forked(server: ForkServer, folder: Path) -> Forked:
    try:
        return server.fork()
    except OSError as error:
        remove_folder(folder)
        raise _no_worker(server.python, error) from error


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
    """Remove the folder of a worker whose journal is in the store."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            path.unlink(missing_ok=True)
        folder.rmdir()


def memory_kills() -> int:
    """Return how many processes the kernel has killed for want of memory since it booted."""
    try:
        with open("/proc/vmstat", encoding="ascii") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("oom_kill ")), 0)
    except OSError:
        return 0
