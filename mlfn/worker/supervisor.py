"""The process around a command: it starts the command whose ranks run one task, relays what they report, and says how it ended.

A rank is ``python -m mlfn.worker FOLDER``: it reads its assignment there, and writes its events to a journal of its own there.
Rank 0's events and outcome are the run's; of another rank only its failure counts, which ends the others.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlfn.errors import WorkerDiedError
from mlfn.spec.record import Outcome, RunState
from mlfn.worker.assignment import Assignment
from mlfn.worker.binding import Binding
from mlfn.worker.context import Cancelled
from mlfn.worker.failures import failed_outcome
from mlfn.worker.rank import write_supervisor
from mlfn.worker.ranks import Ranks
from mlfn.worker.reporter import Channel, Judge, finished_event
from mlfn.worker.task import Task

_POLL_SECONDS = 0.02
_OTHERS_SECONDS = 3.0  # which the other ranks have once one has failed: in a collective call they wait for it in vain
_LAUNCHER_SECONDS = 2.0  # in which a launcher ends that has no rank any more


def folder_of(plan: Mapping[str, Any], task: Task) -> Path:
    """Return the folder in which one attempt is assigned to its ranks, and where they report."""
    return Path(plan["folder"]) / f"{task.run}-{task.attempt}"


def supervise(task: Task, binding: Binding, channel: Channel, judge: Judge) -> RunState:
    """Run one attempt by the plan's command, report its outcome, and return its state. Never raises for what the command does.

    `judge` answers each point of the task's judged metric; the answer goes on to rank 0.
    """
    folder = folder_of(binding.plan, task)
    ranks = Ranks(folder, task, binding, channel, judge)
    try:
        outcome = _ended(task, binding, folder, ranks)
    except Cancelled:
        outcome = ranks.stopped()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the run's outcome
        outcome = failed_outcome(error, binding.codec(), ())
    channel.send(finished_event(task, outcome))
    shutil.rmtree(folder, ignore_errors=True)
    return outcome.state


def _ended(task: Task, binding: Binding, folder: Path, ranks: Ranks) -> Outcome:
    command, name = binding.plan["command"], binding.calling.name
    argv = [part.format(python=sys.executable, folder=folder) for part in command["argv"]]
    for missing in (needed for needed in command["needs"] if not _is_there(needed)):
        raise WorkerDiedError(
            f"{name}: kind={binding.plan['kind']['name']!r} needs {missing}, which is not there: "
            f"type `{command['needs'][missing]}`."
        )
    folder.mkdir(mode=0o700)
    secrets = binding.secrets()
    Assignment(binding.plan, task).write(folder)
    write_supervisor(folder)
    environ = {**os.environ, **command["env"], **Assignment.environ(binding.plan, secrets)}
    try:
        process = subprocess.Popen(argv, cwd=folder, env=environ, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise WorkerDiedError(
            f"{name}: its command {argv[0]!r} cannot be started ({error.strerror}); is it installed here, and on PATH?"
        ) from error
    try:
        while process.poll() is None and not ranks.must_end():
            ranks.relay(_POLL_SECONDS)
        _stop(process, ranks, min(binding.plan["grace"], _OTHERS_SECONDS))
    except Cancelled:
        handler = signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if not ranks.are_known():
            os.killpg(0, signal.SIGTERM)
        _stop(process, ranks, binding.plan["grace"])
        signal.signal(signal.SIGTERM, handler)
        raise
    finally:
        ranks.close()
    return ranks.outcome(argv[0], process.returncode)


def _is_there(needed: str) -> bool:
    if shutil.which(needed) is not None:
        return True
    with suppress(ImportError, ValueError):
        return importlib.util.find_spec(needed) is not None
    return False


def _stop(process: subprocess.Popen[bytes], ranks: Ranks, grace: float) -> None:
    """Stop the ranks, and wait for the launcher's end: SIGTERM, then SIGKILL after `grace` seconds."""
    begun = time.monotonic()
    while process.poll() is None:
        now = time.monotonic()
        ranks.signal(signal.SIGTERM if now < begun + grace else signal.SIGKILL)
        if now > begun + grace + _LAUNCHER_SECONDS:
            process.kill()
        ranks.relay(_POLL_SECONDS)
    ranks.signal(signal.SIGKILL)  # what its launcher has left
