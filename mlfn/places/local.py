"""Worker processes on this machine: started early, reused while a function version has work."""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlfn.errors import OptionError, StorageError, WorkerDiedError
from mlfn.execution import Task
from mlfn.identity import ProcessIdentity
from mlfn.places.base import Report, Room, Surroundings, Unavailable, WorkerStarted
from mlfn.places.devices import visible_gpus
from mlfn.places.environments import Environments
from mlfn.places.memory import available_memory, resident_memory
from mlfn.places.orphans import LAPSE_BEATS, Orphan
from mlfn.places.process import WorkerProcess, drain, fork_server, remove_folder
from mlfn.secrets import Secret, values_for
from mlfn.worker.launch import ROOT, ForkServer, environ_mark

_IDLE_SECONDS = 60.0
_KEPT = 4  # times max_workers: how many workers there may be, idle ones included
_SHARE = 0.25  # of the memory that is left: how much idle workers beyond max_workers may have
_SPARE_SERVERS = 3  # of earlier environments: a caller may go back to one, or have another for each run
_POLL_SECONDS = 0.25
_ORPHAN_SECONDS = 0.05


class LocalPlace:
    """Workers of one client; `max_workers` of them at work at most, counted in cores."""

    OPTIONS = ("max_workers",)
    LACKS = ("image", "node")
    secrets_from_caller = True  # looked up on the same machine by the same user
    runs_in_caller = False

    @staticmethod
    def check(*, max_workers: int | None = None) -> None:
        """Raise OptionError for an option's value that does not fit."""
        if max_workers is not None and (type(max_workers) is not int or max_workers < 1):
            raise OptionError(f"on('local', max_workers={max_workers!r}): a whole number, 1 or more, is allowed.")

    def __init__(self, surroundings: Surroundings, *, max_workers: int | None = None) -> None:
        self.check(max_workers=max_workers)
        self._around = surroundings
        self._slots = max_workers or surroundings.max_workers
        self._is_bounded = max_workers is not None or surroundings.max_workers_is_set
        self._servers: list[ForkServer] = []
        self._processes: dict[str, WorkerProcess] = {}
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
        """Start what will fork the first workers."""
        with contextlib.suppress(WorkerDiedError):  # the first run is told
            self._server(sys.executable, environ_mark())

    def reserve(self, digest: str, plan: Mapping[str, Any], *, backlog: int) -> Room | Unavailable:
        """Return an idle worker of this plan or a new one, where cores and GPUs are free, or one to queue at."""
        try:
            python = self._environments.python_for(tuple(plan["requirements"]))
        except Exception as error:  # noqa: BLE001 - whatever broke, the run is told
            return Unavailable(error)
        if python is None:
            return Unavailable()
        if (gpus := plan["gpus"] or 0) > self._all_gpus:
            return Unavailable(self._too_few_gpus(gpus))
        environ = environ_mark()
        try:
            process = self._idle(digest, environ) or self._room_for(digest, plan, python, environ)
        except StorageError:
            raise  # tried again: there may be room later
        except Exception as error:  # noqa: BLE001 - whatever broke would break again
            return Unavailable(error)
        if process is None:
            process = self._shortest_queue(digest, environ, backlog)
        if process is None:
            return Unavailable()
        process.backlog += 1
        if process.registered:
            return Room(process.id)
        process.registered = True
        return Room(process.id, WorkerStarted(process.id, process.pid, str(process.folder)))

    def start(self, worker: str, task: Task) -> None:
        """Queue the task at its worker."""
        if worker in self._processes:
            self._processes[worker].give(task)

    def widen(self, parallel: int | None) -> int:
        """Have as many workers as somebody asks for in so many words, unless somebody has set how many at most."""
        if parallel is not None and not self._is_bounded:
            self._slots = max(self._slots, parallel)
        return self._slots

    def answer(self, worker: str, run: str, why: str | None) -> None:
        """Pass a verdict on; a worker of a client that died has nobody to listen to."""
        if worker in self._processes:
            self._processes[worker].answer(run, why)

    def take_back(self, worker: str) -> list[str]:
        """Return the runs that the worker has not begun, and now never will."""
        return self._processes[worker].take_back() if worker in self._processes else []

    def finished(self, worker: str) -> None:
        """Note that one of the worker's runs is over, or that its reservation was not used."""
        process = self._processes.get(worker)
        if process is not None:
            process.backlog -= 1
            process.idle_since = time.monotonic()
            if process.fresh:
                process.hang_up(self._around.grace)

    def adopt(self, worker: str, process: ProcessIdentity, folder: str, consumed: int) -> None:
        """Read on in the journal of a worker that a dead client left."""
        lapse = LAPSE_BEATS * self._around.heartbeat
        self._orphans[worker] = Orphan(worker, process, Path(folder), consumed, lapse=lapse)

    def collect(self, timeout: float) -> list[Report]:
        """Return what workers reported and which of them ended."""
        reports: list[Report] = []
        for key, _ in self._selector.select(self._patience(timeout)):
            if key.fileobj is self._wake_in:
                drain(self._wake_in)
            elif isinstance(key.data, ForkServer):
                reports += self._hear_of(key.data)
            elif (process := self._processes.get(key.data)) is not None:
                news, listens = process.hear()
                reports += news
                if not listens:
                    self._ignore(process.control)
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
        elif worker in self._processes:
            self._processes[worker].terminate(self._around.grace)

    def retire(self, worker: str) -> None:
        """Let a worker end after the run that it is at; one whose client is dead does so by itself."""
        if worker in self._processes:
            self._processes[worker].hang_up(self._around.grace)

    def forget(self, worker: str) -> None:
        """Remove the folder of a worker that is gone."""
        remove_folder(self._around.folder / "workers" / worker)

    def close(self) -> list[str]:
        """End idle workers, and return them; busy ones end by themselves after their run."""
        ended: list[str] = []
        for process in self._processes.values():
            process.close()
            if not process.backlog:
                process.kill_group()
                process.see_end()
                remove_folder(process.folder)
                ended.append(process.id)
        self._processes.clear()
        for server in self._servers:
            server.close()
        self._servers.clear()
        self._selector.close()
        for end in (self._wake_in, self._wake_out):
            end.close()
        return ended

    def let_go(self) -> None:
        """Close a forked child's ends of what leads to the workers: they would not notice the end of its parent."""
        for process in self._processes.values():
            process.close()
        for server in self._servers:
            server.let_go()
        self._selector.close()
        for end in (self._wake_in, self._wake_out):
            end.close()

    def _idle(self, digest: str, environ: int) -> WorkerProcess | None:
        for process in self._bound(digest):
            if not process.backlog:
                if process.server.environ != environ:
                    process.hang_up(self._around.grace)  # the caller's environment has changed since it started
                elif self._fits(process.slots):
                    return process
        return None

    def _shortest_queue(self, digest: str, environ: int, backlog: int) -> WorkerProcess | None:
        open_ones = [
            p for p in self._bound(digest) if 0 < p.backlog < backlog and not p.fresh and p.server.environ == environ
        ]
        return min(open_ones, key=lambda p: p.backlog, default=None)

    def _bound(self, digest: str) -> list[WorkerProcess]:
        return [p for p in self._processes.values() if p.plan == digest and not p.is_leaving]

    def _room_for(self, digest: str, plan: Mapping[str, Any], python: str, environ: int) -> WorkerProcess | None:
        """Return a new process bound to the plan; None while there is no room, or what forks it still loads."""
        slots = min(self._slots, math.ceil(plan["cpu"] or 1))
        if not self._fits(slots) or not self._has_gpus(plan["gpus"] or 0):
            return None
        server = self._server(python, environ)
        if not (server.is_ready or server.is_gone):
            return None
        self._let_go_of_idle(coming=1)
        process = self._start(server)
        self._bind(process, digest, plan, slots)
        return process

    def _server(self, python: str, environ: int) -> ForkServer:
        """Return what forks workers of this interpreter in the environment as it is now."""
        for server in [s for s in self._servers if s.fits(python, environ)]:
            if not (server.is_ready and server.is_gone):
                return server
            self._drop(server)  # it was killed; one that was never ready says why to the run that waits for it
        for server in [s for s in self._unused_servers() if s.environ != environ][:-_SPARE_SERVERS]:
            self._drop(server)
        server = fork_server(python)
        self._servers.append(server)
        self._selector.register(server.channel, selectors.EVENT_READ, server)
        return server

    def _fits(self, slots: int) -> bool:
        return slots + sum(p.slots for p in self._processes.values() if p.backlog) <= self._slots

    def _has_gpus(self, wanted: int) -> bool:
        """Say whether there are devices enough, those of idle workers included, which then end."""
        for process in self._longest_idle():
            if len(self._free_gpus) >= wanted:
                break
            if process.gpus:
                self._let_go(process)
        return len(self._free_gpus) >= wanted

    def _longest_idle(self) -> list[WorkerProcess]:
        idle = [p for p in self._processes.values() if not p.backlog and not p.retired]
        return sorted(idle, key=lambda p: p.idle_since)

    def _let_go_of_idle(self, *, coming: int = 0) -> None:
        """End the longest idle of those beyond `max_workers`, once they are too many or their memory is wanted.

        Functions that take turns would otherwise start, and import all they need, at every turn.
        """
        count = coming + sum(not p.retired for p in self._processes.values())
        idle = self._longest_idle()
        while idle and count > self._slots and (count > _KEPT * self._slots or _weigh_too_much(idle)):
            self._let_go(idle.pop(0))
            count -= 1

    def _let_go(self, process: WorkerProcess) -> None:
        process.hang_up(self._around.grace)
        self._free_gpus += process.gpus
        process.gpus = ()

    def _start(self, server: ForkServer) -> WorkerProcess:
        process = WorkerProcess(server, self._around.folder / "workers")
        if server.is_gone:
            self._drop(server)  # this one tells how it ended; the next is of another
        self._processes[process.id] = process
        self._selector.register(process.control, selectors.EVENT_READ, process.id)
        return process

    def _bind(self, process: WorkerProcess, digest: str, plan: Mapping[str, Any], slots: int) -> None:
        count = plan["gpus"] or 0
        gpus = tuple(self._free_gpus[:count])
        env = dict(plan["env"])
        if self._all_gpus:
            env.setdefault("CUDA_VISIBLE_DEVICES", ",".join(gpus))
        process.bind(
            {
                "payload": str(self._around.folder / "payloads" / plan["payload"]),
                "key": self._around.key.hex(),
                "env": env,
                "cwd": plan["cwd"],
                "sys_path": plan["sys_path"],
                "root": ROOT,
                "threads": max(1, int(plan["cpu"])) if plan["cpu"] else None,
                "mem": plan["mem"],
                "artifacts": self._around.artifacts,
                "secrets_file": str(self._around.secrets_file),
                "secrets": values_for([Secret(**item) for item in plan["secrets"]], os.environ),
                "by_reference": plan["by_reference"],
                "sources": plan["sources"],
                "heartbeat": self._around.heartbeat,
                "calling": {name: plan[name] for name in ("name", "project", "outputs", "shape", "secrets")},
            }
        )
        # Only now: where the message could not be written, the process is still nobody's.
        process.gpus, self._free_gpus = gpus, self._free_gpus[count:]
        process.plan, process.slots, process.fresh = digest, slots, plan["kind"]["options"].get("fresh", False)

    def _too_few_gpus(self, wanted: int) -> OptionError:
        return OptionError(
            f"gpus={wanted}: this machine shows {self._all_gpus} (CUDA_VISIBLE_DEVICES or /dev/nvidia*); ask for fewer."
        )

    def _patience(self, timeout: float) -> float:
        if self._orphans:
            timeout = min(timeout, _ORPHAN_SECONDS)
        if self._processes or self._servers:
            timeout = max(0.0, min(timeout, self._next_poll - time.monotonic()))
        return timeout

    def _hear_of(self, server: ForkServer) -> list[Report]:
        """Take in what a server says, and see off those of its workers that have ended."""
        server.listen()
        if server.is_gone:
            self._ignore(server.channel)
        return [
            report
            for process in list(self._processes.values())
            if process.server is server and process.has_ended()
            for report in self._bury(process)
        ]

    def _bury(self, process: WorkerProcess) -> list[Report]:
        reports = [*process.news(), process.obituary()]
        self._ignore(process.control)
        process.close()
        self._free_gpus += process.gpus
        del self._processes[process.id]
        return reports

    def _poll(self) -> list[Report]:
        """Look at what no bell tells: starts of runs, overdue ends."""
        now = time.monotonic()
        self._next_poll = now + _POLL_SECONDS
        self._let_go_of_idle()
        reports: list[Report] = []
        for process in list(self._processes.values()):
            if process.has_ended():
                reports += self._bury(process)
                continue
            process.kill_if_overdue(LAPSE_BEATS * self._around.heartbeat)
            if process.backlog:
                reports += process.news()
            elif not process.retired and now - process.idle_since > _IDLE_SECONDS:
                process.hang_up(self._around.grace)
        for server in self._servers:
            server.end_if_late()
        for server in self._unused_servers():
            if now - server.used > _IDLE_SECONDS:
                self._drop(server)
        return reports

    def _unused_servers(self) -> list[ForkServer]:
        """Return those that have no worker, the one that forked longest ago first."""
        busy = {process.server for process in self._processes.values()}
        return sorted((s for s in self._servers if s not in busy), key=lambda s: s.used)

    def _drop(self, server: ForkServer) -> None:
        self._ignore(server.channel)
        self._servers.remove(server)
        server.close()

    def _ignore(self, said: socket.socket) -> None:
        """Listen to it no more, if anybody still does."""
        if said in self._selector.get_map():
            self._selector.unregister(said)


def _weigh_too_much(idle: list[WorkerProcess]) -> bool:
    return sum(resident_memory(process.pid) for process in idle) > _SHARE * available_memory()
