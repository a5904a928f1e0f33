"""The ranks of one attempt as their supervisor sees them: what they report and write, how they end, and how to stop them."""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlfn.errors import OutOfMemoryError, StorageError, WorkerDiedError
from mlfn.spec.record import Outcome, Reason, RemoteFailure, RunState
from mlfn.spec.values import shown_bytes
from mlfn.worker.assignment import journal_of, write_answer
from mlfn.worker.binding import Binding
from mlfn.worker.failures import describe_failure, failed_outcome
from mlfn.worker.heartbeat import LAPSE_BEATS
from mlfn.worker.journal import MEMORY_EXIT
from mlfn.worker.journal_reader import JournalReader
from mlfn.worker.points import STORAGE_EXIT
from mlfn.worker.rank import Rank, end_of, stack_of
from mlfn.worker.reporter import Channel, Judge
from mlfn.worker.task import Task

_CHUNK = 1 << 16
_END_SECONDS = 1.0  # in which the end of a process is noted
_STOPPED = "was stopped here (most recent call first):"
_PACKAGE = str(Path(__file__).parents[1])


class Ranks:
    """What the ranks of one attempt do."""

    def __init__(self, folder: Path, task: Task, binding: Binding, channel: Channel, judge: Judge) -> None:
        self._folder = folder
        self._task = task
        self._binding = binding
        self._channel = channel
        self._judge = judge
        self._ranks: dict[int, Rank] = {}
        self._journals: dict[int, JournalReader] = {}
        self._outputs: dict[int, _Output] = {}
        self._ends: dict[int, Mapping[str, Any]] = {}
        self._deaths: dict[
            int, tuple[float, int | None]
        ] = {}  # time and exit code of those that ended without an outcome
        self._signalled: dict[int, tuple[float, int]] = {}
        self._frozen: set[int] = set()
        self._vanished: dict[int, float] = {}  # when one was first missing

    def are_known(self) -> bool:
        """Return whether any has begun."""
        return bool(self._ranks)

    def must_end(self) -> bool:
        """Return whether one has ended other than well, so that the others would wait for it in vain."""
        return bool(self._misses())

    def relay(self, timeout: float) -> None:
        """Pass on what ranks report and write, for so many seconds."""
        until = time.monotonic() + timeout
        self._find()
        self._pass_events(have_ended=False)
        self._note_deaths()
        while (left := until - time.monotonic()) > 0:
            opened = {output.fd: output for output in self._outputs.values() if output.fd is not None}
            if not opened:
                time.sleep(left)
                return
            poll = select.poll()
            for fd in opened:
                poll.register(fd, select.POLLIN)
            for fd, _ in poll.poll(1000 * left):
                opened[fd].pass_on()

    def signal(self, number: int) -> None:
        """Send a signal, once, to each that has not ended; SIGKILL to all that it has started, too."""
        for rank in self._ranks.values():
            if self._signalled.get(rank.number, (0, 0))[1] == number or rank.process.state() == "gone":
                continue
            self._signalled.setdefault(rank.number, (time.time(), number))
            self._signalled[rank.number] = (self._signalled[rank.number][0], number)
            with suppress(ProcessLookupError, PermissionError):
                _send(rank.process.pid, number)

    def close(self) -> None:
        """Pass on all that is left."""
        self._find()
        self._pass_events(have_ended=True)
        self._note_deaths()
        for output in self._outputs.values():
            output.close()
        for rank, frames in self._stacks().items():
            _write("".join(f"[{rank}] {line}\n" for line in (_STOPPED, *frames)).encode())

    def outcome(self, command: str, exit_code: int) -> Outcome:
        """Return how the run ended: by the first rank that did not succeed, else as rank 0 says, if the command agrees.

        One that was stopped is no cause: its launcher stops the others when one is gone, and may be first to notice.
        """
        if misses := self._misses():
            _, _, rank = min((self._was_stopped(rank), when, rank) for when, rank in misses)
            return self._death(rank) if rank in self._deaths else Outcome.from_json(self._ends[rank])
        if 0 in self._ends and exit_code == 0:
            return Outcome.from_json(self._ends[0])
        when = "after rank 0 had succeeded" if 0 in self._ends else "before rank 0 reported an outcome"
        raise WorkerDiedError(
            f"{self._binding.calling.name}: its command {command!r} ended ({_how(exit_code)}) {when}; "
            "run.logs() has what it wrote."
        )

    def stopped(self) -> Outcome:
        """Return the outcome of a run that was stopped: it says where its ranks stood, which a time limit may ask."""
        stacks = [
            "\n".join((f"rank {rank} {_STOPPED}", *frames, "")) for rank, frames in sorted(self._stacks().items())
        ]
        failure = RemoteFailure("", "", "".join(stacks)) if stacks else None
        return Outcome(RunState.CANCELLED, failure=failure)

    def _stacks(self) -> dict[int, list[str]]:
        """Return where the user's code of each rank stood when it was first told to stop."""
        found = {rank: _stack(self._folder, rank) for rank in self._signalled}
        return {rank: frames for rank, frames in found.items() if frames}

    def _misses(self) -> list[tuple[float, int]]:
        """Return when which ranks ended other than well."""
        ends = [
            (float(end["time"]), rank) for rank, end in self._ends.items() if end["state"] != RunState.SUCCEEDED.value
        ]
        return ends + [(when, rank) for rank, (when, _) in self._deaths.items()]

    def _was_stopped(self, rank: int) -> bool:
        return rank in self._ends and self._ends[rank]["state"] == RunState.CANCELLED.value

    def _death(self, rank: int) -> Outcome:
        """Return the outcome of a run of which a rank ended without one."""
        name, mem = self._binding.calling.name, self._binding.plan["mem"]
        code, codec = self._deaths[rank][1], self._binding.codec()
        is_alone = self._binding.plan["command"]["ranks"] == 1
        who, logs = ("its process", "run.logs()") if is_alone else (f"rank {rank}", f"run.logs(rank={rank})")
        if rank in self._frozen:
            error = WorkerDiedError(
                f"{name}: {who} was stopped (SIGSTOP) and sent no heartbeat, so it was killed; find what stopped it."
            )
            return Outcome(RunState.FAILED, Reason.LOST, describe_failure(error, codec))
        if code == STORAGE_EXIT:
            text = f"{name}: {who} could not write its journal; is the disk of the data folder full?"
            return failed_outcome(StorageError(text), codec, ())
        if mem and code in (MEMORY_EXIT, -signal.SIGABRT):
            text = f"{name}: {who} ran into its limit of mem={shown_bytes(mem)}; raise mem=, or use less."
            return failed_outcome(OutOfMemoryError(text), codec, ())
        text = f"{name}: {who} ended ({_how(code)}) before it reported an outcome; {logs} has what it wrote."
        return failed_outcome(WorkerDiedError(text), codec, ())

    def _find(self) -> None:
        for path in self._folder.glob("*.rank"):
            number = int(path.stem)
            if number not in self._ranks:
                self._ranks[number] = Rank.read(path)
        for path in self._folder.glob("*.output"):
            number = int(path.stem)
            if number not in self._outputs:
                self._outputs[number] = _Output(path, number)

    def _pass_events(self, *, have_ended: bool) -> None:
        for rank in self._ranks:
            journal = self._journals.setdefault(rank, JournalReader(self._folder / journal_of(rank)))
            for event in itertools.chain.from_iterable(events for events, _ in journal.read(has_ended=have_ended)):
                if event["event"] == "finished":
                    self._ends[rank] = event
                elif rank == 0:
                    self._pass(event)

    def _pass(self, event: dict[str, Any]) -> None:
        self._channel.send(event)
        if event["event"] == "metric" and event["name"] == self._task.judged:
            write_answer(self._folder, self._judge(self._task.run, event["step"], event["value"]))

    def _note_deaths(self) -> None:
        """Note which have ended without an outcome and by themselves, and kill those that were stopped for too long."""
        for number, rank in self._ranks.items():
            if number in self._ends or number in self._deaths:
                continue
            path = end_of(self._folder, rank.process.pid)
            with suppress(FileNotFoundError):
                code, when = json.loads(path.read_bytes())["code"], path.stat().st_mtime
                # Its outcome may be in the journal by now, which was read before.
                self._pass_events(have_ended=False)
                if number not in self._ends and (number in self._frozen or when < self._told_at(number)):
                    self._deaths[number] = (when, code)
                continue
            if rank.process.state() == "gone":  # with its guard
                since = self._vanished.setdefault(number, time.time())
                if time.time() - since > _END_SECONDS and since < self._told_at(number):
                    self._deaths[number] = (since, None)
            elif number not in self._frozen and self._is_frozen(rank):
                self._frozen.add(number)
                with suppress(ProcessLookupError):
                    os.kill(rank.process.pid, signal.SIGKILL)

    def _told_at(self, number: int) -> float:
        return self._signalled.get(number, (float("inf"), 0))[0]

    def _is_frozen(self, rank: Rank) -> bool:
        beat = (self._folder / f"{rank.number}.rank").stat().st_mtime
        lapsed = time.time() - beat > LAPSE_BEATS * float(self._binding.plan["heartbeat"])
        return lapsed and rank.process.state() == "stopped"


class _Output:
    """A rank's stdout and stderr: whole lines go to the run's log, each after the rank's number."""

    def __init__(self, path: Path, rank: int) -> None:
        self.fd: int | None = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._prefix = b"[%d] " % rank
        self._rest = b""

    def pass_on(self) -> None:
        """Pass on what is there; at its end, also a line that is not complete."""
        if self.fd is None:
            return
        try:
            data = os.read(self.fd, _CHUNK)
        except BlockingIOError:
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        if not data:
            os.close(self.fd)
            self.fd = None
            lines, self._rest = ([self._rest] if self._rest else []), b""
        if lines:
            _write(b"".join(self._prefix + line + b"\n" for line in lines))

    def close(self) -> None:
        """Pass on all that is left; a process that the rank has started may still hold the other end."""
        while self.fd is not None:
            before = self._rest
            self.pass_on()
            if self.fd is not None and self._rest == before and not select.select([self.fd], [], [], 0)[0]:
                if self._rest:
                    _write(self._prefix + self._rest + b"\n")
                os.close(self.fd)
                self.fd = None


def _write(data: bytes) -> None:
    """Write to the run's log, which is this process's stdout."""
    while data:
        data = data[os.write(1, data) :]


def _send(pid: int, number: int) -> None:
    """Send a signal to a process; SIGKILL to its group, where that is not this process's own."""
    group = os.getpgid(pid)
    if number == signal.SIGKILL and group != os.getpgrp():
        os.killpg(group, number)
    else:
        os.kill(pid, number)


def _how(code: int | None) -> str:
    if code is None:
        return "how is unknown"
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return f"signal {-code}, {signal.Signals(-code).name}"
    return f"signal {-code}"


def _stack(folder: Path, rank: int) -> list[str]:
    with suppress(OSError):
        text = stack_of(folder, rank).read_text(errors="backslashreplace")
        first = text.split("Stack (")[1:2]  # the launcher may have told it again
        frames = [line for line in "".join(first).splitlines() if line.startswith("  File ")]
        return [line for line in frames if _PACKAGE not in line and '"<frozen ' not in line]
    return []
