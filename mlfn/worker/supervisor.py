"""The process around a command: it starts the command whose ranks run one task, relays what they report, and says how it ended.

A rank is ``python -m mlfn.worker FOLDER``: it reads its assignment there, and writes its events to a journal of its own there.
Rank 0's events and outcome are the run's; of another rank only its failure counts.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlfn.errors import WorkerDiedError
from mlfn.spec.record import Outcome, RunState
from mlfn.worker.assignment import Assignment, journal_of, write_answer
from mlfn.worker.binding import Binding
from mlfn.worker.context import Cancelled
from mlfn.worker.failures import failed_outcome
from mlfn.worker.journal_reader import JournalReader
from mlfn.worker.reporter import Channel, Judge
from mlfn.worker.task import Task

_POLL_SECONDS = 0.02


def supervise(task: Task, binding: Binding, channel: Channel, judge: Judge) -> None:
    """Run one attempt by the plan's command, and report it. Never raises for what the command does.

    `judge` answers each point of the task's judged metric; the answer goes on to rank 0.
    """
    folder = Path(binding.plan["folder"]) / f"{task.run}-{task.attempt}"
    ranks = _Ranks(folder, task, channel, judge)
    try:
        outcome = _ended(task, binding, folder, ranks)
    except Cancelled:
        outcome = Outcome(RunState.CANCELLED)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the run's outcome
        outcome = failed_outcome(error, binding.codec(), ())
    channel.send(
        {"event": "finished", "run": task.run, "attempt": task.attempt, "time": time.time(), **outcome.to_json()}
    )
    shutil.rmtree(folder, ignore_errors=True)


def _ended(task: Task, binding: Binding, folder: Path, ranks: _Ranks) -> Outcome:
    folder.mkdir(mode=0o700)
    secrets = binding.secrets()
    Assignment(binding.plan, task).write(folder)
    command = binding.plan["command"]
    argv = [part.format(python=sys.executable, folder=folder) for part in command["argv"]]
    environ = {**os.environ, **command["env"], **Assignment.environ(binding.plan, secrets)}
    try:
        process = subprocess.Popen(argv, cwd=folder, env=environ, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise WorkerDiedError(
            f"{binding.calling.name}: its command {argv[0]!r} cannot be started ({error.strerror}); is it installed here, and on PATH?"
        ) from error
    try:
        while process.poll() is None:
            ranks.relay()
            time.sleep(_POLL_SECONDS)
    except Cancelled:
        _terminate(process)
        ranks.relay(have_ended=True)
        raise
    ranks.relay(have_ended=True)
    return ranks.outcome(binding.calling.name, argv[0], process.returncode)


def _terminate(process: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM to the command and to all that it has started, and wait: the place kills what does not end in time."""
    handler = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    process.wait()
    signal.signal(signal.SIGTERM, handler)


class _Ranks:
    """What the ranks of one attempt have reported."""

    def __init__(self, folder: Path, task: Task, channel: Channel, judge: Judge) -> None:
        self._folder = folder
        self._task = task
        self._channel = channel
        self._judge = judge
        self._journals: dict[int, JournalReader] = {}
        self._ends: dict[int, Mapping[str, Any]] = {}

    def relay(self, *, have_ended: bool = False) -> None:
        """Pass on what rank 0 has reported since, and note how ranks ended; all of it once they `have_ended`."""
        for path in self._folder.glob(journal_of("*")):
            rank = int(path.stem.partition("-")[2])
            journal = self._journals.setdefault(rank, JournalReader(path))
            for event in itertools.chain.from_iterable(events for events, _ in journal.read(has_ended=have_ended)):
                if event["event"] == "finished":
                    self._ends[rank] = event
                elif rank == 0:
                    self._channel.send(event)
                    if event["event"] == "metric" and event["name"] == self._task.judged:
                        write_answer(self._folder, self._judge(self._task.run, event["step"], event["value"]))

    def outcome(self, name: str, command: str, exit_code: int) -> Outcome:
        """Return how the run ended: by the first rank that failed, else as rank 0 says, if the command agrees."""
        failures = [end for end in self._ends.values() if end["state"] == RunState.FAILED.value]
        if failures:
            return Outcome.from_json(min(failures, key=lambda end: float(end["time"])))
        if 0 in self._ends and (exit_code == 0 or self._ends[0]["state"] != RunState.SUCCEEDED.value):
            return Outcome.from_json(self._ends[0])
        how = f"exit code {exit_code}" if exit_code >= 0 else f"signal {-exit_code}, {signal.Signals(-exit_code).name}"
        when = "after rank 0 had succeeded" if 0 in self._ends else "before rank 0 reported an outcome"
        raise WorkerDiedError(f"{name}: its command {command!r} ended ({how}) {when}; run.logs() has what it wrote.")
