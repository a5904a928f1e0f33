"""Worker processes on this machine: started early, reused while a function version has work."""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import socket
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlfn.backends.kinds.base import Command, Launch, Pooled
from mlfn.backends.places.base import (
    Capabilities,
    LogRequest,
    PlaceConfig,
    Remains,
    Report,
    Slot,
    StoredExecution,
    Unavailable,
)
from mlfn.backends.places.binding import binding_of
from mlfn.backends.places.local import servers
from mlfn.backends.places.local.environments import Environments
from mlfn.backends.places.local.fork_server import ForkServer, no_forks
from mlfn.backends.places.local.orphans import Orphan, has_ended
from mlfn.backends.places.local.process import WorkerProcess, drain, remove_folder
from mlfn.backends.registry import check_machine, launch_of, ranks_of
from mlfn.errors import OptionError, StorageError, WorkerDiedError
from mlfn.host.cores import usable_cores
from mlfn.host.gpus import visible_gpus
from mlfn.host.identity import identify
from mlfn.host.memory import available_memory, resident_memory, total_memory
from mlfn.settings import current as settings
from mlfn.settings.secrets import environ_mark
from mlfn.spec.plan import Plan
from mlfn.spec.values import shown_bytes
from mlfn.worker.heartbeat import LAPSE_BEATS
from mlfn.worker.task import Task

PYTHON = sys.executable  # runs what has no requirements of its own
_KEPT = 4  # times max_workers: how many workers there may be, idle ones included
_SHARE = 0.25  # of the memory that is left: how much idle workers beyond max_workers may have
_SINGLE_SECONDS = 600.0  # for which a single process is kept: it took long to start
_POLL_SECONDS = 0.25
_ORPHAN_SECONDS = 0.05


class LocalPlace:
    """Workers of one client; `max_workers` of them at work at most, counted in cores."""

    OPTIONS = ("max_workers",)
    CAPABILITIES = Capabilities(
        secrets_of_caller=True,
        commands=True,
        pooled=True,
        ignored=dict.fromkeys(("image", "node"), "it runs on this machine, as it is"),
    )

    @staticmethod
    def check(*, max_workers: int | None = None) -> None:
        """Raise OptionError for an option's value that does not fit."""
        if max_workers is not None and (type(max_workers) is not int or max_workers < 1):
            raise OptionError(f"on('local', max_workers={max_workers!r}): a whole number, 1 or more, is allowed.")

    @staticmethod
    def target(*, max_workers: int | None = None) -> Mapping[str, Any]:
        """Return what a dispatcher of its own is needed for: workers that are counted by themselves."""
        return {} if max_workers is None else {"max_workers": max_workers}

    @staticmethod
    def has_ended(handle: Mapping[str, Any], *, heartbeat: float, awaited: bool) -> bool:
        """Return whether the worker of a dead client is gone; for one that is `awaited`, the system's word is enough."""
        return has_ended(handle, heartbeat=heartbeat, awaited=awaited)

    @staticmethod
    def check_plan(plan: Plan) -> None:
        """Raise OptionError for more GPUs, cores or memory than this machine has; MlfnError for what its kind lacks here."""
        if plan.gpus:
            _check_gpus(plan.gpus, len(visible_gpus()))
        if plan.cpu:
            _check_cores(plan.cpu, plan.place.options.get("max_workers") or settings.current().max_workers or 0)
        if plan.mem:
            _check_memory(plan.mem, total_memory())
        if not plan.requirements:  # else the environment with them is checked, where the run runs
            check_machine(plan, {**os.environ, **plan.env})

    def __init__(self, config: PlaceConfig, *, max_workers: int | None = None) -> None:
        self.check(max_workers=max_workers)
        self._config = config
        self._slots = max_workers or config.max_workers
        self._is_bounded = max_workers is not None or config.max_workers_is_set
        self._processes: dict[str, WorkerProcess] = {}
        self._orphans: dict[str, Orphan] = {}
        self._free_gpus = visible_gpus()
        self._all_gpus = len(self._free_gpus)
        self._environments = Environments(config.folder / "environments", self.wake)
        self._selector = selectors.DefaultSelector()
        self._servers = servers.ForkServers(self._selector)
        self._wake_in, self._wake_out = socket.socketpair()
        for end in (self._wake_in, self._wake_out):
            end.setblocking(False)
        self._selector.register(self._wake_in, selectors.EVENT_READ)
        self._next_poll = 0.0

    def warm(self) -> None:
        """Start the fork server of the first workers."""
        with contextlib.suppress(WorkerDiedError):  # raised again for the first run
            self._servers.get(sys.executable, environ_mark())

    def reserve(
        self, plan: Plan, *, waiting: int, backlog: int, parallel: int | None, failures: int | None
    ) -> Slot | Unavailable:
        """Return an idle worker of this plan or a new one, where cores and GPUs are free, or one to queue at."""
        try:
            _check_gpus(plan.gpus or 0, self._all_gpus)  # a stored plan may come from a machine with more
            python = self._environments.python_for(plan.requirements) if plan.requirements else PYTHON
        except Exception as error:  # noqa: BLE001 - whatever it is, it fails the run
            return Unavailable(error)
        if python is None:
            return Unavailable()
        environ = environ_mark()
        try:
            process = self._idle(plan.hash, environ) or self._new(plan, python, environ)
        except StorageError:
            raise  # tried again: there may be room later
        except Exception as error:  # noqa: BLE001 - whatever it is, it would happen again
            return Unavailable(error)
        process = process or self._shortest_queue(plan.hash, environ, backlog)
        if process is None:
            return Unavailable()
        units = 1 if process.fresh else max(1, min(waiting // self._slots, backlog - process.backlog))
        process.backlog += units
        if process.registered:
            return Slot(process.id, units=units)
        process.registered = True
        return Slot(process.id, units=units, handle={**vars(identify(process.pid)), "folder": str(process.folder)})

    def start(self, execution: str, tasks: Sequence[Task]) -> None:
        """Queue tasks at their worker."""
        if (process := self._processes.get(execution)) is not None:
            for task in tasks:
                process.start(task)

    def scale_to(self, parallel: int | None) -> int:
        """Return how many workers there may be; `parallel` raises that, unless a setting limits it."""
        if parallel is not None and not self._is_bounded:
            self._slots = max(self._slots, parallel)
        return self._slots

    def answer(self, execution: str, run: str, why: str | None) -> None:
        """Answer a point; an orphan waits for no answer."""
        if execution in self._processes:
            self._processes[execution].answer(run, why)

    def recall(self, execution: str) -> list[str]:
        """Take back the runs that the worker has not begun, and return them."""
        return self._processes[execution].recall() if execution in self._processes else []

    def finished(self, execution: str) -> None:
        """Note that one of the worker's runs has ended, or that its reservation was not used."""
        process = self._processes.get(execution)
        if process is not None:
            process.backlog -= 1
            process.idle_since = time.monotonic()
            if process.fresh:
                process.retire(self._config.grace)

    def attach(self, stored: StoredExecution) -> None:
        """Own the worker of a dead client, and read its journal from the cursor on."""
        lapse = LAPSE_BEATS * self._config.heartbeat
        self._orphans[stored.execution] = Orphan(stored.execution, stored.handle, stored.cursor, lapse=lapse)

    def collect(self, timeout: float) -> list[Report]:
        """Return events of workers, and which of them ended."""
        reports: list[Report] = []
        for key, _ in self._selector.select(self._select_timeout(timeout)):
            if key.fileobj is self._wake_in:
                drain(self._wake_in)
            elif isinstance(key.data, ForkServer):
                reports += self._collect_ends(key.data)
            elif (process := self._processes.get(key.data)) is not None:
                if not process.is_connected():
                    self._unregister(process)
                reports += process.collect()
        if time.monotonic() >= self._next_poll:
            reports += self._poll()
        for orphan in list(self._orphans.values()):
            reports += orphan.collect()
            if orphan.is_gone:
                del self._orphans[orphan.id]
        return reports

    def wake(self) -> None:
        """Interrupt `collect`."""
        with contextlib.suppress(OSError):
            self._wake_out.send(b"!")

    def stop(self, execution: str, run: str) -> None:
        """Send SIGTERM to a worker; `collect` follows up when it does not end."""
        target = self._orphans.get(execution) or self._processes.get(execution)
        if target is not None:
            target.stop(self._config.grace)

    def retire(self, execution: str) -> None:
        """End a worker after its current run; an orphan ends then by itself."""
        if execution in self._processes:
            self._processes[execution].retire(self._config.grace)

    def cleanup(self, execution: str) -> None:
        """Remove the folder of a worker that has ended."""
        remove_folder(self._config.folder / "workers" / execution)

    @staticmethod
    def remains(**target: Any) -> Sequence[Remains]:
        """Return nothing: the folders of workers are among the files that are looked at anyway."""
        return ()

    @staticmethod
    def remove(found: Remains, **target: Any) -> None:
        """Remove nothing."""

    @staticmethod
    def read_log(wanted: LogRequest, offset: int) -> bytes:
        """Return nothing: a log without a file is one to which nothing was written."""
        return b""

    def close(self) -> list[str]:
        """End idle workers, and return them; busy ones end by themselves after their run."""
        ended: list[str] = []
        for process in self._processes.values():
            process.close()
            if not process.backlog:
                process.kill()
                remove_folder(process.folder)
                ended.append(process.id)
        self._processes.clear()
        self._servers.close()
        self._close_selector()
        return ended

    def after_fork(self) -> None:
        """Close a forked child's ends of what leads to workers: with them open, the end of its parent would not show."""
        for process in self._processes.values():
            process.close()
        self._servers.after_fork()
        self._close_selector()

    def _close_selector(self) -> None:
        self._selector.close()
        for end in (self._wake_in, self._wake_out):
            end.close()

    def _idle(self, digest: str, environ: int) -> WorkerProcess | None:
        for process in self._bound(digest):
            if not process.backlog:
                if process.server.environ != environ:
                    process.retire(self._config.grace)  # the caller's environment has changed since it started
                elif self._fits(process.slots):
                    return process
        return None

    def _shortest_queue(self, digest: str, environ: int, backlog: int) -> WorkerProcess | None:
        queues = [
            p for p in self._bound(digest) if 0 < p.backlog < backlog and not p.fresh and p.server.environ == environ
        ]
        return min(queues, key=lambda p: p.backlog, default=None)

    def _bound(self, digest: str) -> list[WorkerProcess]:
        return [p for p in self._processes.values() if p.plan == digest and not p.is_ending]

    def _new(self, plan: Plan, python: str, environ: int) -> WorkerProcess | None:
        """Return a new process bound to the plan; None while there is no room, or its fork server still loads."""
        if any(process.single for process in self._bound(plan.hash)):
            return None
        launch = launch_of(plan)
        slots = min(self._slots, math.ceil((plan.cpu or 1) * ranks_of(plan)))
        if not self._fits(slots) or not self._has_gpus(plan.gpus or 0):
            return None
        server = self._servers.get(python, environ, busy=self._busy_servers())
        if not (server.is_ready or server.is_gone):
            return None
        self._retire_idle(coming=1)
        with no_forks:
            process = WorkerProcess(server, self._config.folder / "workers")
            self._processes[process.id] = process
        if server.is_gone:
            self._servers.drop(server)  # this worker reports how it ended; the next comes from another
        self._selector.register(process.control, selectors.EVENT_READ, process.id)
        self._bind(process, plan, slots, launch)
        return process

    def _busy_servers(self) -> Iterable[ForkServer]:
        return (process.server for process in self._processes.values())

    def _fits(self, slots: int) -> bool:
        return slots + sum(p.slots for p in self._processes.values() if p.backlog) <= self._slots

    def _has_gpus(self, wanted: int) -> bool:
        """Return whether there are enough devices, those of idle workers included, which are then retired."""
        for process in self._longest_idle():
            if len(self._free_gpus) >= wanted:
                break
            if process.gpus:
                self._retire(process)
        return len(self._free_gpus) >= wanted

    def _longest_idle(self) -> list[WorkerProcess]:
        idle = [p for p in self._processes.values() if not p.backlog and not p.retired]
        return sorted(idle, key=lambda p: p.idle_since)

    def _retire_idle(self, *, coming: int = 0) -> None:
        """Retire the longest idle of those beyond `max_workers`, once they are too many or their memory is wanted.

        Functions that take turns would otherwise start, and import all they need, at every turn.
        """
        count = coming + sum(not p.retired for p in self._processes.values())
        idle = self._longest_idle()
        while idle and count > self._slots and (count > _KEPT * self._slots or _is_too_much(idle)):
            self._retire(idle.pop(0))
            count -= 1

    def _retire(self, process: WorkerProcess) -> None:
        process.retire(self._config.grace)
        self._free_gpus += process.gpus
        process.gpus = ()

    def _bind(self, process: WorkerProcess, plan: Plan, slots: int, launch: Launch) -> None:
        count = plan.gpus or 0
        gpus = tuple(self._free_gpus[:count])
        binding = binding_of(plan, self._config, process.id)
        if self._all_gpus:
            binding["env"].setdefault("CUDA_VISIBLE_DEVICES", ",".join(gpus))
        process.bind(binding)
        # Only now: where the message could not be written, the process belongs to no plan.
        process.gpus, self._free_gpus = gpus, self._free_gpus[count:]
        process.plan, process.slots = plan.hash, slots
        process.supervises = isinstance(launch, Command)
        if isinstance(launch, Pooled):
            process.fresh, process.single = launch.fresh, launch.single

    def _select_timeout(self, timeout: float) -> float:
        if self._orphans:
            timeout = min(timeout, _ORPHAN_SECONDS)
        if self._processes or self._servers:
            timeout = max(0.0, min(timeout, self._next_poll - time.monotonic()))
        return timeout

    def _collect_ends(self, server: ForkServer) -> list[Report]:
        """Read what a server reports, and remove those of its workers that have ended."""
        server.receive()
        if server.is_gone:
            self._servers.unregister(server)
        return [
            report
            for process in list(self._processes.values())
            if process.server is server and process.has_ended()
            for report in self._remove(process)
        ]

    def _remove(self, process: WorkerProcess) -> list[Report]:
        reports = [*process.collect(has_ended=True), process.terminated()]
        self._unregister(process)
        process.close()
        self._free_gpus += process.gpus
        del self._processes[process.id]
        return reports

    def _poll(self) -> list[Report]:
        """Check what wakes no `collect`: starts of runs, overdue ends."""
        now = time.monotonic()
        self._next_poll = now + _POLL_SECONDS
        self._retire_idle()
        reports: list[Report] = []
        for process in list(self._processes.values()):
            if process.has_ended():
                reports += self._remove(process)
                continue
            process.kill_if_overdue(LAPSE_BEATS * self._config.heartbeat)
            if process.backlog:
                reports += process.collect()
            elif not process.retired and now - process.idle_since > (
                _SINGLE_SECONDS if process.single else servers.IDLE_SECONDS
            ):
                process.retire(self._config.grace)
        self._servers.check(busy=self._busy_servers())
        return reports

    def _unregister(self, process: WorkerProcess) -> None:
        if process.control in self._selector.get_map():
            self._selector.unregister(process.control)


def _check_gpus(wanted: int, shown: int) -> None:
    if wanted > shown:
        raise OptionError(
            f"gpus={wanted}: on='local' shows {shown} (CUDA_VISIBLE_DEVICES or /dev/nvidia*); ask for fewer."
        )


def _check_cores(wanted: float, given_out: int) -> None:
    cores = usable_cores()
    if wanted > max(cores, given_out):
        raise OptionError(f"cpu={wanted:g}: on='local' has {cores}, of this machine or container; ask for fewer.")


def _check_memory(wanted: int, there_is: int) -> None:
    if wanted > there_is > 0:
        raise OptionError(
            f"mem={shown_bytes(wanted)}: on='local' has {there_is / 2**30:.1f}Gi, of this machine or container; ask for less."
        )


def _is_too_much(idle: list[WorkerProcess]) -> bool:
    return sum(resident_memory(process.pid) for process in idle) > _SHARE * available_memory()
