"""A worker: take tasks, run them one after the other, journal what happens."""

from __future__ import annotations

import contextlib
import linecache
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlfn import payload, user_context
from mlfn.artifacts import ArtifactStore
from mlfn.codec import Codec
from mlfn.errors import EnvironmentBuildError, StorageError
from mlfn.execution import Calling, Task, execute, keep_reserve, resolve_secrets
from mlfn.worker.journal import MEMORY_EXIT, Journal
from mlfn.worker.mailbox import Inbox
from mlfn.worker.output import CapturedOutput, WholeLogChannel, prepare_streams, silence
from mlfn.worker.verdicts import Verdicts

# What numeric libraries read, when they are imported, to choose their number of threads.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
)


class Worker:
    """One process, bound to one plan, running one task at a time."""

    def __init__(self, control: socket.socket, packets: socket.socket) -> None:
        self._verdicts = Verdicts(control)
        self._inbox = Inbox(packets, control, self._verdicts)
        self._control = control
        self._folder = Path()
        self._settled = False
        self._in_handler = False
        self._terminated = False
        self._refusal: EnvironmentBuildError | MemoryError | None = None
        self._function: Callable[..., Any] | None = None
        self._plan: dict[str, Any] = {}
        self._calling = Calling("", "")

    def serve(self) -> None:
        """Take messages until the place hangs up."""
        try:
            self._serve()
        except MemoryError:
            if self._plan.get("mem"):
                os._exit(MEMORY_EXIT)
            raise

    def _serve(self) -> None:
        signal.signal(signal.SIGTERM, self._on_terminate)
        payload.prepare()
        while (message := self._inbox.receive()) is not None:
            if message["op"] == "settle":
                self._settled, self._folder = True, Path(message["folder"])
                self._journal = Journal(self._folder / "journal", self._control)
            elif message["op"] == "bind":
                self._bind(message)
            else:
                self._run(Task(**message["task"]))
        if self._settled:
            self._journal.send({"event": "left", "run": "", "attempt": 0, "time": time.time()})

    def _on_terminate(self, *_: object) -> None:
        self._terminated = True
        if not self._in_handler:
            os._exit(0)
        self._in_handler = False  # once: a handler's ``finally`` is not interrupted by a second signal
        raise user_context.Cancelled("cancelled")

    def _bind(self, plan: dict[str, Any]) -> None:
        self._plan = plan
        self._calling = replace(Calling.of(plan["calling"]), mem=plan["mem"])
        threading.Thread(target=self._beat, args=(plan["heartbeat"],), daemon=True).start()
        try:
            self._take_on(plan)
        except (OSError, ValueError) as error:
            # Told by each run of the plan: one that ended here would leave nobody the reason.
            self._refusal = EnvironmentBuildError(
                f"{self._calling.name}: its worker cannot be as it was asked to (cwd={plan['cwd']!r}, mem={plan['mem']!r}): "
                f"{error}."
            )
        except MemoryError:
            # What needs this much before it begins needs no limit any more: it will only say so, and has to have room for it.
            _lift_memory_limit()
            self._refusal = MemoryError(*_needed_memory())

    def _take_on(self, plan: Mapping[str, Any]) -> None:
        """Become what the plan asks for: environment, folder, path, limits."""
        os.environ.update(plan["env"])
        if plan["threads"]:
            # A variable that the function's own env sets is its author's decision.
            os.environ.update({name: str(plan["threads"]) for name in _THREAD_VARIABLES if name not in plan["env"]})
        os.chdir(plan["cwd"])
        # The caller's own folders first, as for the caller; the one that mlfn was found in must not hide a requirement.
        others = [path for path in sys.path if path not in (*plan["sys_path"], plan["root"])]
        sys.path[:] = [*plan["sys_path"], *others, plan["root"]]
        if plan["mem"]:
            _limit_memory(plan["mem"])
            keep_reserve()
        for name, source in plan["sources"].items():
            linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)

    def _beat(self, every: float) -> None:
        path = self._folder / "beat"
        path.touch(mode=0o600)
        while True:
            time.sleep(every)
            with contextlib.suppress(OSError):
                os.utime(path)

    def _load(self) -> Callable[..., Any]:
        if self._refusal is not None:
            raise self._refusal.with_traceback(None)
        function = self._function
        if function is None:
            data = _read_payload(Path(self._plan["payload"]), self._calling.name)
            function = self._function = payload.unpack(data, key=bytes.fromhex(self._plan["key"]), role="function")
        return function

    def _run(self, task: Task) -> None:
        values: dict[str, str] = {}

        def load() -> Callable[..., Any]:
            values.update(_secret_values(self._calling, self._plan))
            _export(self._calling, values)
            return self._load()

        codec = Codec(
            key=bytes.fromhex(self._plan["key"]),
            artifacts=ArtifactStore(self._plan["artifacts"]),
            by_reference=tuple(self._plan["by_reference"]),
        )
        self._in_handler = True
        secrets = _known_secrets(self._calling, self._plan)
        if not task.log:
            silence()
        output = CapturedOutput(Path(task.log), secrets) if task.log else None
        try:
            channel = WholeLogChannel(self._journal, output) if output is not None else self._journal
            self._verdicts.begin()
            execute(task, self._calling, load, codec, channel, values, judge=self._judge)
        finally:
            self._in_handler = False
            if output is not None:
                output.close()
        if self._terminated:
            os._exit(0)

    def _judge(self, run: str, step: int | None, value: float) -> str | None:
        return self._verdicts.wait(run)


def _read_payload(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(
            f"The code of {name} cannot be read from {path} ({error.strerror}): submit {name} again, from where it is declared."
        ) from error


def _known_secrets(calling: Calling, plan: Mapping[str, Any]) -> list[str]:
    """Return the values to mask; a missing secret fails inside the run, where its error is reported."""
    try:
        return list(_secret_values(calling, plan).values())
    except Exception:  # noqa: BLE001 - raised again, and reported, when the run loads
        return []


def _secret_values(calling: Calling, plan: Mapping[str, Any]) -> dict[str, str]:
    if not calling.secrets:
        return {}
    return resolve_secrets(calling.secrets, {**os.environ, **plan["secrets"]}, Path(plan["secrets_file"]))


def _export(calling: Calling, values: Mapping[str, str]) -> None:
    for secret in calling.secrets:
        if secret.env:
            os.environ[secret.env] = values[secret.key or secret.name]


def _limit_memory(size: int) -> None:
    # RLIMIT_DATA counts private writable memory; RLIMIT_AS would also count what is only reserved or mapped.
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    ceiling = size if hard == resource.RLIM_INFINITY else min(size, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (ceiling, hard))


def _lift_memory_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def _needed_memory() -> list[str]:
    """Say how much of what the limit counts this process has; nothing where the system does not tell."""
    with contextlib.suppress(OSError, StopIteration), open("/proc/self/status", encoding="ascii") as file:
        kib = next(int(line.split()[1]) for line in file if line.startswith("VmData:"))
        return [f"a worker alone takes {kib / 1024:.0f}Mi"]
    return []


def serve(control: socket.socket, packets: socket.socket) -> None:
    """Be the worker at the other end of these sockets, until its place hangs up."""
    prepare_streams()
    with control, packets:
        Worker(control, packets).serve()
    _end_group()


def _end_group() -> None:
    """Tell what handlers left behind to end too: where the client is dead, nobody else will."""
    if os.getpgrp() == os.getpid():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)
