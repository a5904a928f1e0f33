"""One unit in its pod: the first process forks the function, passes its output and its events on, and outlives it.

Everything goes to the pod's log, at once; the summary of the end to its termination message.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from mlfn.errors import MlfnError, StorageError
from mlfn.settings.masking import Masker, StreamMasker
from mlfn.spec.record import Outcome, Reason, RemoteFailure, RunState
from mlfn.worker import context as user_context
from mlfn.worker import failures
from mlfn.worker.assignment import ENDS_WELL, Assignment, journal_of, run_rank
from mlfn.worker.binding import Binding
from mlfn.worker.journal_reader import JournalReader
from mlfn.worker.log_capture import prepare_logging
from mlfn.worker.pod.folders import FOLDER, TERMINATION
from mlfn.worker.pod.memory import memory_kills
from mlfn.worker.pod.preparation import asked_of_pod, prepare
from mlfn.worker.pod.stream import MOST, StreamWriter
from mlfn.worker.reporter import finished_event
from mlfn.worker.task import Extras, Task

_MISSING_PACKAGE = (
    "the image of its pod lacks it: name it in requirements=[...] of the function, or an image= that has it"
)
_FLUSH_SECONDS = 0.1  # in which a line without an end is passed on
_LONGEST_WAIT = 1.0
_REST_SECONDS = 2.0  # in which what the function left running may still write
_KILLED = 128  # and the signal: the exit code of a shell for such an end


class Unit:
    """The first process's side of one attempt."""

    def __init__(self, asked: Mapping[str, Any], task: Task, stream: StreamWriter, mask: StreamMasker) -> None:
        self._asked = asked
        self._task = task
        self._stream = stream
        self._mask = mask
        self._journal = JournalReader(Path(FOLDER) / journal_of(0))
        self._artifacts = Path(FOLDER) / "artifacts"
        self._shipped: set[Path] = set()
        self._last: dict[str, Any] | None = None  # its outcome, held back until its log is complete
        self._why: str | None = None  # it was sent SIGTERM
        self._deadline = self._kill_at = self._flush_at = float("inf")
        self._too_large = 0
        self.lines = 0

    def run(self, assignment: Assignment) -> int:
        """Run the function in a process of its own to its end; return the exit code for this one."""
        # What the task brought is not shipped back.
        self._shipped = {path for path in self._artifacts.rglob("*") if path.is_file()}
        ours, theirs = socket.socketpair()
        output, sink = os.pipe()
        kills = memory_kills()
        pid = os.fork()
        if not pid:
            ours.close()
            os.close(output)
            _become_function(assignment, self._asked["mark"], theirs, sink)
        theirs.close()
        os.close(sink)
        status = self._attend(pid, ours, output)
        code = os.waitstatus_to_exitcode(status)
        for event in self._events(has_ended=True):
            self._take(event)
        self._say_left()
        return self._conclude(code, was_short=memory_kills() > kills)

    def refuse(self, error: MlfnError) -> int:
        """Report that the unit cannot run; return the exit code."""
        reason = Reason.STORAGE if isinstance(error, StorageError) else Reason.ERROR
        outcome = Outcome(RunState.FAILED, reason, RemoteFailure.of_error(error))
        self._last = finished_event(self._task, outcome)
        self._say_left()
        return self._conclude(1, was_short=False)

    # -- while it runs

    def _attend(self, pid: int, control: socket.socket, output: int) -> int:
        """Pass on what arrives until the function has ended and its output too; return its status."""
        wakeup, wake = os.pipe()
        for end in (wakeup, wake, output, control.fileno()):
            os.set_blocking(end, False)
        selector = selectors.DefaultSelector()
        for found in (control.fileno(), output, wakeup):
            selector.register(found, selectors.EVENT_READ)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler no byte is written to the pipe
        signal.signal(signal.SIGTERM, lambda *_: self._terminate(pid, "stopped"))
        signal.set_wakeup_fd(wake)
        status: int | None = None
        rest_until = float("inf")
        while status is None or (output in selector.get_map() and time.monotonic() < rest_until):
            until = min(self._deadline, self._kill_at, self._flush_at, rest_until)
            for key, _ in selector.select(max(0.0, min(until - time.monotonic(), _LONGEST_WAIT))):
                if key.fd != output:
                    _drain(key.fd)
                elif not self._pass_on(output):
                    selector.unregister(output)
            for event in self._events(has_ended=False):
                self._take(event)
            self._do_what_is_due(pid)
            if status is None and (status := _reaped(pid)) is not None:
                _signal_group(pid, signal.SIGKILL)  # what it left running
                rest_until = time.monotonic() + _REST_SECONDS
        signal.set_wakeup_fd(-1)
        self._stream.text(self._mask.flush())
        self._stream.flush()
        return status

    def _do_what_is_due(self, pid: int) -> None:
        now = time.monotonic()
        if now >= self._flush_at:
            self._flush_at = float("inf")
            self._stream.flush()
        if now >= self._deadline:
            self._deadline = float("inf")
            self._terminate(pid, "timeout")
        if now >= self._kill_at:
            self._kill_at = float("inf")
            _signal_group(pid, signal.SIGKILL)

    def _pass_on(self, output: int) -> bool:
        """Pass some of the function's output on; False at its end."""
        try:
            data = os.read(output, 1 << 16)
        except BlockingIOError:
            return True
        self._stream.text(self._mask.feed(data))
        self._flush_at = time.monotonic() + _FLUSH_SECONDS
        return bool(data)

    def _terminate(self, pid: int, why: str) -> None:
        """SIGTERM now, SIGKILL to its group after the grace time."""
        if self._why is None:
            self._why = why
            self._kill_at = time.monotonic() + float(self._asked["grace"])
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _events(self, *, has_ended: bool) -> list[dict[str, Any]]:
        return [event for events, _ in self._journal.read(has_ended=has_ended) for event in events]

    def _take(self, event: dict[str, Any]) -> None:
        if event["event"] == "started" and self._asked["timeout"] is not None:
            self._deadline = time.monotonic() + float(self._asked["timeout"])
        if event["event"] == "finished":
            self._last = event
            self._deadline = float("inf")
            return
        if event["event"] in ("output", "child", "child_end"):
            self._ship()
        self._write(event)

    def _write(self, event: Mapping[str, Any]) -> None:
        self._stream.event(event)
        self.lines += 1

    def _ship(self) -> None:
        """Write the artifacts that are there by now, whole, before the event that names them."""
        for path in sorted(self._artifacts.rglob("*")):
            relative = path.relative_to(self._artifacts)
            if path in self._shipped or not path.is_file() or any(part.startswith(".") for part in relative.parts):
                continue
            self._shipped.add(path)
            size = path.stat().st_size
            if (
                self._too_large or self._stream.used + size > MOST
            ):  # compressed it might fit, which nobody could foresee
                self._too_large = max(self._too_large, size)
                continue
            self._stream.file(str(relative), path.read_bytes())

    # -- when it has ended

    def _say_left(self) -> None:
        self._ship()
        self._stream.close()

    def _conclude(self, code: int, *, was_short: bool) -> int:
        """Write the outcome and the summary, the last of all."""
        summary: dict[str, Any] = {"why": self._why}
        if was_short and self._last is not None and self._last["state"] == RunState.FAILED.value:
            self._last, code = None, 1  # a rank was killed, which the others report as they see it
        if self._last is not None:
            if self._too_large:
                self._last = {**self._last, **too_large(self._too_large).to_json()}
            self._write(self._last)
            code = 0 if self._last["state"] in (RunState.SUCCEEDED.value, RunState.PRUNED.value) else 1
            summary["state"] = self._last["state"]
        elif code < 0:
            summary["signal"], code = -code, _KILLED - code
        summary |= {"lines": self.lines, "code": code, "oom": was_short}
        with suppress(OSError), open(TERMINATION, "w") as file:
            json.dump(summary, file)
        return code


def run() -> None:
    """Run the unit of this pod."""
    asked, task = asked_of_pod()
    stream = StreamWriter(_write, asked["mark"])
    user_context.in_worker = True
    plan = asked["plan"]
    binding = Binding(plan)
    unit = Unit(asked, task, stream, StreamMasker(Masker(_values(binding))))
    try:
        prepare(asked, stream.text)
    except MlfnError as error:
        sys.exit(unit.refuse(error))
    sys.exit(unit.run(Assignment(plan, task)))


def _become_function(assignment: Assignment, mark: str, control: socket.socket, sink: int) -> None:
    code = 1
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
        prepare_logging()
        failures.missing_package = _MISSING_PACKAGE
        if assignment.plan["command"]:
            from mlfn.worker.pod.ranks import start_ranks

            state = start_ranks(assignment, mark=mark, control=control)
        else:
            activated = partial(Binding(assignment.plan).activated, assignment.task)
            prepared = activated if assignment.plan["activated"] else Extras
            state = run_rank(assignment, Path(FOLDER), prepared, control=control)
        code = int(state not in ENDS_WELL)
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
    except BaseException:  # noqa: BLE001 - there is no outer handler in a forked process
        import traceback

        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
        with suppress(Exception):
            sys.stderr.flush()
        os._exit(code)


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def _values(binding: Binding) -> tuple[str, ...]:
    with suppress(Exception):  # a missing secret is raised again, and reported, when the run loads
        return tuple(binding.secrets().values())
    return ()


def _drain(fd: int) -> None:
    with suppress(OSError):
        os.read(fd, 1 << 16)


def _reaped(pid: int) -> int | None:
    """Return the status of the function's process if it has ended; as the first process, reap all others too."""
    found = None
    with suppress(ChildProcessError):
        while True:
            ended, status = os.waitpid(-1, os.WNOHANG)
            if not ended:
                break
            if ended == pid:
                found = status
    return found


def _signal_group(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def too_large(size: int) -> Outcome:
    """Return the outcome of a run with an output of so many bytes, which do not come back."""
    text = (
        f"An output has {size} bytes: without an artifact root at most {MOST} come back from a pod. Set one that both sides "
        "reach, as MLFN_ARTIFACTS=s3://bucket/path (artifacts= of mlfn.init), or return less."
    )
    return Outcome(RunState.FAILED, Reason.STORAGE, RemoteFailure.of_error(StorageError(text)))
