"""Worker processes on this machine: started early, reused while a function version has work."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlfn.errors import OptionError
from mlfn.execution import Task
from mlfn.identity import ProcessIdentity, identify, new_id
from mlfn.places.base import Gone, Report, Reported, Room, Surroundings, Unavailable, WorkerStarted
from mlfn.places.devices import visible_gpus
from mlfn.places.environments import Environments
from mlfn.places.orphans import Orphan, last_beat
from mlfn.secrets import Secret, values_for, withheld
from mlfn.worker.frames import send_frame
from mlfn.worker.journal import read_events

_IDLE_SECONDS = 60.0
_POLL_SECONDS = 0.25
_ORPHAN_SECONDS = 0.05
_ROOT = str(Path(__file__).parents[2])
# As `python -m mlfn.worker`, but it finds this very mlfn wherever it lies, and no module of the current folder instead.
_START = f"import sys; sys.path = [{_ROOT!r}, *filter(None, sys.path)]; from mlfn.worker.__main__ import main; main()"
logger = logging.getLogger(__name__)


@dataclass
class _Process:
    """One worker process as its place sees it."""

    id: str
    popen: subprocess.Popen[bytes]
    sock: socket.socket
    folder: Path
    python: str
    environ: int
    plan: str | None = None
    fresh: bool = False
    busy: bool = False
    slots: int = 1
    gpus: tuple[str, ...] = ()
    consumed: int = 0
    idle_since: float = field(default_factory=time.monotonic)
    kill_at: float | None = None
    retired: bool = False
    registered: bool = False
    memory_kills: int = 0


class LocalPlace:
    """Workers of one client; `max_workers` of them at most, counted in cores."""

    OPTIONS = ("max_workers",)
    runs_in_caller = False

    def __init__(self, surroundings: Surroundings, *, max_workers: int | None = None) -> None:
        if max_workers is not None and (
            not isinstance(max_workers, int) or isinstance(max_workers, bool) or max_workers < 1
        ):
            raise OptionError(f"on('local', max_workers={max_workers!r}): a whole number, 1 or more, is allowed.")
        self._around = surroundings
        self._slots = max_workers or surroundings.max_workers
        self._processes: dict[str, _Process] = {}
        self._orphans: dict[str, Orphan] = {}
        self._free_gpus = visible_gpus()
        self._all_gpus = len(self._free_gpus)
        self._environments = Environments(surroundings.folder / "environments", self.wake)
        self._selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = socket.socketpair()
        for end in (self._wake_in, self._wake_out):
            end.setblocking(False)
        self._selector.register(self._wake_in, selectors.EVENT_READ)
        self._next_poll = 0.0

    def warm(self) -> None:
        """Start one worker that is bound to nothing yet."""
        if not self._processes:
            self._spawn(sys.executable)

    def reserve(self, digest: str, plan: Mapping[str, Any]) -> Room | Unavailable:
        """Return an idle worker of this plan, or a new one where cores and GPUs are free."""
        try:
            python = self._environments.python_for(tuple(plan["requirements"]))
        except Exception as error:  # noqa: BLE001 - whatever broke, the run is told
            return Unavailable(error)
        if python is None:
            return Unavailable(note="building its environment")
        needed = plan["gpus"] or 0
        if needed > self._all_gpus:
            return Unavailable(
                OptionError(
                    f"gpus={needed}: this machine shows {self._all_gpus} (CUDA_VISIBLE_DEVICES or /dev/nvidia*); "
                    "ask for fewer, or run it elsewhere with .on('kubernetes')."
                )
            )
        environ = _environ_mark()
        process = self._idle(digest, environ)
        if process is None:
            slots = min(self._slots, math.ceil(plan["cpu"] or 1))
            process = self._unbound(python, environ, slots) or self._make_room(python, slots, needed)
            if process is None:
                return Unavailable()
            self._bind(process, digest, plan, slots)
        process.busy = True
        report = None
        if not process.registered:
            process.registered, process.memory_kills = True, _memory_kills()
            report = WorkerStarted(process.id, process.popen.pid, str(process.folder))
        return Room(process.id, report)

    def start(self, worker: str, task: Task) -> None:
        """Send the task; a worker that died meanwhile is noticed by `collect`."""
        with contextlib.suppress(OSError):
            send_frame(self._processes[worker].sock, {"op": "run", "task": task.to_json()})

    def adopt(self, worker: str, process: ProcessIdentity, folder: str, consumed: int) -> None:
        """Read on in the journal of a worker that a dead client left."""
        self._orphans[worker] = Orphan(worker, process, Path(folder), consumed, lapse=3 * self._around.heartbeat)

    def collect(self, timeout: float) -> list[Report]:
        """Return what workers reported and which of them ended."""
        now = time.monotonic()
        reports: list[Report] = []
        for key, _ in self._selector.select(self._patience(timeout, now)):
            if key.fileobj is self._wake_in:
                _drain(self._wake_in)
            else:
                reports += self._hear(self._processes[key.data])
        if time.monotonic() >= self._next_poll:
            reports += self._poll()
        for orphan in list(self._orphans.values()):
            reports += orphan.news()
            if orphan.is_gone:
                del self._orphans[orphan.id]
        return reports

    def wake(self) -> None:
        """Interrupt `collect`."""
        with contextlib.suppress(OSError):
            self._wake_out.send(b"!")

    def stop(self, worker: str) -> None:
        """Ask a worker to end; `collect` follows up when it does not."""
        if worker in self._orphans:
            self._orphans[worker].stop(self._around.grace)
        process = self._processes.get(worker)
        if process is None or process.kill_at is not None:
            return
        process.kill_at = time.monotonic() + self._around.grace
        process.retired = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.popen.pid, signal.SIGTERM)

    def finished(self, worker: str) -> None:
        """Note that the worker's run is over: it is idle, or done for."""
        process = self._processes.get(worker)
        if process is not None:
            self._rest(process)

    def forget(self, worker: str) -> None:
        """Remove the folder of a worker that is gone."""
        _remove_folder(self._around.folder / "workers" / worker)

    def close(self) -> None:
        """End idle workers; busy ones end by themselves after their run."""
        for process in list(self._processes.values()):
            self._selector.unregister(process.sock)
            process.sock.close()
            if not process.busy:
                _kill_group(process)
                process.popen.wait()
                _remove_folder(process.folder)
        self._processes.clear()

    def _idle(self, digest: str, environ: int) -> _Process | None:
        for process in self._processes.values():
            if process.plan == digest and not process.busy and not process.retired:
                if process.environ == environ:
                    return process
                self._retire(process)
                return None
        return None

    def _unbound(self, python: str, environ: int, slots: int) -> _Process | None:
        for process in self._processes.values():
            if process.plan is None and not process.retired:
                if (
                    process.python == python
                    and process.environ == environ
                    and self._used() + slots - process.slots <= self._slots
                ):
                    return process
                self._retire(process)
        return None

    def _make_room(self, python: str, slots: int, gpus: int) -> _Process | None:
        idle = sorted((p for p in self._processes.values() if not p.busy and not p.retired), key=lambda p: p.idle_since)
        while self._used() + slots > self._slots or len(self._free_gpus) < gpus:
            if not idle:
                return None
            self._retire(idle.pop(0))
        return self._spawn(python)

    def _used(self) -> int:
        return sum(process.slots for process in self._processes.values() if not process.retired or process.busy)

    def _spawn(self, python: str) -> _Process:
        worker = new_id()
        folder = self._around.folder / "workers" / worker
        folder.mkdir(mode=0o700, parents=True)
        ours, theirs = socket.socketpair()
        hidden = withheld()
        with theirs:
            popen = subprocess.Popen(
                [python, "-c", _START, str(theirs.fileno()), str(folder)],
                env={name: value for name, value in os.environ.items() if name not in hidden},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        process = _Process(worker, popen, ours, folder, python, _environ_mark())
        self._processes[worker] = process
        self._selector.register(ours, selectors.EVENT_READ, worker)
        return process

    def _bind(self, process: _Process, digest: str, plan: Mapping[str, Any], slots: int) -> None:
        count = plan["gpus"] or 0
        process.gpus, self._free_gpus = tuple(self._free_gpus[:count]), self._free_gpus[count:]
        process.plan, process.slots, process.fresh = digest, slots, plan["kind"]["options"].get("fresh", False)
        env = dict(plan["env"])
        if count or self._all_gpus:
            env.setdefault("CUDA_VISIBLE_DEVICES", ",".join(process.gpus))
        message = {
            "op": "bind",
            "payload": str(self._around.folder / "payloads" / plan["payload"]),
            "key": self._around.key.hex(),
            "env": env,
            "cwd": plan["cwd"],
            "sys_path": plan["sys_path"],
            "root": _ROOT,
            "threads": max(1, int(plan["cpu"])) if plan["cpu"] else None,
            "mem": plan["mem"],
            "artifacts": self._around.artifacts,
            "secrets_file": str(self._around.secrets_file),
            "secrets": values_for([Secret(**item) for item in plan["secrets"]], os.environ),
            "by_reference": plan["by_reference"],
            "sources": plan["sources"],
            "heartbeat": self._around.heartbeat,
        }
        with contextlib.suppress(OSError):
            send_frame(process.sock, message)

    def _patience(self, timeout: float, now: float) -> float:
        if self._orphans:
            timeout = min(timeout, _ORPHAN_SECONDS)
        return max(0.0, min(timeout, self._next_poll - now)) if self._processes else timeout

    def _hear(self, process: _Process) -> list[Report]:
        open_still = _drain(process.sock)
        reports = self._news(process)
        return reports if open_still else reports + self._ended(process)

    def _news(self, process: _Process) -> list[Report]:
        events: list[Mapping[str, Any]] = []
        for event, offset in read_events(process.folder / "journal", process.consumed):
            events.append(event)
            process.consumed = offset
        return [Reported(process.id, tuple(events), process.consumed)] if events else []

    def _ended(self, process: _Process) -> list[Report]:
        """The socket is closed: the process has ended, or is about to."""
        try:
            code = process.popen.wait(timeout=5)
        except subprocess.TimeoutExpired:
            _kill_group(process)
            code = process.popen.wait()
        return self._bury(process, code)

    def _bury(self, process: _Process, code: int) -> list[Report]:
        reports = self._news(process)
        _kill_group(process)  # what the handler started and left behind
        self._selector.unregister(process.sock)
        process.sock.close()
        self._free_gpus += process.gpus
        del self._processes[process.id]
        killed = code == -signal.SIGKILL and process.kill_at is None and _memory_kills() > process.memory_kills
        gone = Gone(
            process.id, exit_code=code if code >= 0 else None, signal=-code if code < 0 else None, memory_killed=killed
        )
        return [*reports, gone]

    def _poll(self) -> list[Report]:
        """Look at what no message tells: overdue stops, processes that died with their socket held open by a child."""
        now = time.monotonic()
        self._next_poll = now + _POLL_SECONDS
        reports: list[Report] = []
        for process in list(self._processes.values()):
            if (process.kill_at is not None and now >= process.kill_at) or (
                process.busy and process.kill_at is None and self._is_frozen(process)
            ):
                _kill_group(process)
            if (code := process.popen.poll()) is not None:
                reports += self._bury(process, code)
            elif not process.busy and not process.retired and now - process.idle_since > _IDLE_SECONDS:
                self._retire(process)
        return reports

    def _is_frozen(self, process: _Process) -> bool:
        """Say whether somebody stopped the process (SIGSTOP) longer than three heartbeats ago."""
        if (since := last_beat(process.folder)) is None or time.time() - since < 3 * self._around.heartbeat:
            return False
        return identify(process.popen.pid).state() == "stopped"

    def _rest(self, process: _Process) -> None:
        process.busy = False
        process.idle_since = time.monotonic()
        if process.fresh:
            self._retire(process)

    def _retire(self, process: _Process) -> None:
        """Hang up: an idle worker ends at once."""
        if not process.retired:
            process.retired = True
            process.kill_at = time.monotonic() + self._around.grace
            with contextlib.suppress(OSError):
                process.sock.shutdown(socket.SHUT_WR)


def _drain(sock: socket.socket) -> bool:
    """Read what waits; False when the other side has closed."""
    while True:
        try:
            data = sock.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False


def _kill_group(process: _Process) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.popen.pid, signal.SIGKILL)


def _remove_folder(folder: Path) -> None:
    for name in ("journal", "beat"):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _environ_mark() -> int:
    return hash((tuple(os.environ.items()), withheld()))


def _memory_kills() -> int:
    """Return how many processes the kernel has killed for want of memory since it booted."""
    try:
        with open("/proc/vmstat", encoding="ascii") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("oom_kill ")), 0)
    except OSError:
        return 0
