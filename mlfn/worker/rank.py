"""The processes of one rank of a command: ``python -m mlfn.worker FOLDER``.

The first one forks the one that runs the handler, and notes how that ended: no launcher says it alike. Where the supervisor is
gone, it ends the rank: launchers start ranks in process groups of their own, so that no signal to the worker's reaches them.
"""

from __future__ import annotations

import errno
import faulthandler
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from mlfn.host.frozen import frozen
from mlfn.host.identity import ProcessIdentity, identify
from mlfn.settings import members
from mlfn.spec.record import RunState
from mlfn.worker import context as user_context
from mlfn.worker.assignment import ENDS_WELL, Assignment, run_rank
from mlfn.worker.heartbeat import start_beating
from mlfn.worker.log_capture import prepare_logging
from mlfn.worker.task import Extras

_SUPERVISOR = "supervisor.json"
_WATCH_SECONDS = 0.5
_CONNECT_SECONDS = 10.0


@frozen
class Rank:
    """A rank as the supervisor knows it: its number, and the process that runs the handler."""

    number: int
    process: ProcessIdentity

    def write(self, folder: Path) -> Path:
        """Tell the supervisor of it, and return the file, which its heartbeat touches."""
        path = folder / f"{self.number}.rank"
        write_file(path, {"number": self.number, "process": vars(self.process)})
        return path

    @classmethod
    def read(cls, path: Path) -> Rank:
        """Return the rank of a file."""
        data = json.loads(path.read_bytes())
        return cls(data["number"], ProcessIdentity(**data["process"]))


def output_of(folder: Path, rank: int) -> Path:
    """Return the pipe through which a rank's stdout and stderr go to the supervisor."""
    return folder / f"{rank}.output"


def stack_of(folder: Path, rank: int) -> Path:
    """Return the file in which a rank notes where it stood when it was told to stop."""
    return folder / f"{rank}.stack"


def end_of(folder: Path, pid: int) -> Path:
    """Return the file that says how the process of a rank ended: its exit code, or less than 0 the signal."""
    return folder / f"{pid}.end"


def write_supervisor(folder: Path) -> None:
    """Name this process as the one without which no rank goes on."""
    write_file(folder / _SUPERVISOR, vars(identify(os.getpid())))


def main() -> None:
    """Run the assignment of the folder that the command line names, as the rank that the kind finds out."""
    user_context.in_worker = True
    folder = Path(sys.argv[1])
    assignment = Assignment.read(folder)
    supervisor = ProcessIdentity(**json.loads((folder / _SUPERVISOR).read_bytes()))
    watch, woken = os.pipe()
    for end in (watch, woken):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    child = os.fork()
    if child:
        _guard(child, folder, supervisor, watch)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.close(watch)
    os.close(woken)
    sys.exit(_run(assignment, folder))


def _run(assignment: Assignment, folder: Path) -> int:
    prepare_logging()
    state = run_rank(assignment, folder, partial(_activated, assignment, folder))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # what is left, as the end of MPI, may wait for the other ranks
    # At another exit code a launcher ends the other ranks, which are being stopped as well and may take their time.
    return 0 if state in (*ENDS_WELL, RunState.CANCELLED) else 1


@contextmanager
def _activated(assignment: Assignment, folder: Path) -> Iterator[Extras]:
    """Have the kind prepare this process, and give it to the supervisor to watch."""
    plan = assignment.plan
    kind: Any = members.load("kind", plan["kind"]["name"])(**plan["kind"]["options"])
    activated: AbstractContextManager[Extras] = kind.activate(assignment.task)
    with activated as extras:
        path = Rank(extras.rank, identify(os.getpid())).write(folder)
        start_beating(path, plan["heartbeat"])
        if extras.size > 1:
            _redirect(output_of(folder, extras.rank))
            with _stack_noted(stack_of(folder, extras.rank)):
                yield extras
        else:
            yield extras


@contextmanager
def _stack_noted(path: Path) -> Iterator[None]:
    """Note where this process stands when SIGTERM comes: in native code the handler that raises does not get to run."""
    with path.open("w") as file:
        faulthandler.register(signal.SIGTERM, file=file, all_threads=False, chain=True)
        try:
            yield
        finally:
            faulthandler.unregister(signal.SIGTERM)


def _redirect(path: Path) -> None:
    """Have stdout and stderr go through a pipe that the supervisor reads; without a reader they stay what they are."""
    os.mkfifo(path, 0o600)
    until = time.monotonic() + _CONNECT_SECONDS
    while time.monotonic() < until:
        try:
            sink = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            time.sleep(0.005)
            continue
        path.unlink()
        os.set_blocking(sink, True)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        os.close(sink)
        return


def _guard(child: int, folder: Path, supervisor: ProcessIdentity, watch: int) -> NoReturn:
    """Wait for the process that runs the handler, and end as it ended."""
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if select.select([watch], [], [], _WATCH_SECONDS)[0]:
            with suppress(BlockingIOError):
                os.read(watch, 4096)
        elif supervisor.state() == "gone":
            os.kill(child, signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    code = os.waitstatus_to_exitcode(ended[1])
    with suppress(OSError):  # the folder is gone with the supervisor
        write_file(end_of(folder, child), {"code": code})
    os._exit(code if code >= 0 else 128 - code)


def write_file(path: Path, data: Mapping[str, Any]) -> None:
    """Write a file that nobody reads in part."""
    draft = path.with_suffix(f".{os.getpid()}.draft")
    draft.write_text(json.dumps(data))
    draft.rename(path)
