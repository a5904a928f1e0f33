"""stdout and stderr of one run: the file descriptors themselves point at its log, for C code and subprocesses too."""

from __future__ import annotations

import faulthandler
import functools
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from mlfn.worker.log_masking import start_pump
from mlfn.worker.reporter import Channel

_TAIL_SECONDS = 5.0


class CapturedOutput:
    """Descriptors 1 and 2 point at `log` until it is closed; with `secrets`, through a process that masks them."""

    def __init__(self, log: str, secrets: Sequence[str]) -> None:
        self._log = log
        self._pid = os.getpid()
        self._target: int | None = _open(log)
        self._pump = start_pump(secrets, self._target) if secrets else None
        pipe = self._pump.stdin if self._pump is not None else None
        sink = pipe.fileno() if pipe is not None else self._target
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        faulthandler.enable(file=2)  # once it is enabled, this is no system call

    def close(self) -> None:
        """Complete the log; a second call, or one in a process that the handler forked, does nothing."""
        if self._target is None or os.getpid() != self._pid:
            return
        _flush()
        silence()
        if self._pump is not None and self._pump.stdin is not None:
            self._pump.stdin.close()
            # A process that the handler left running may hold the other end; the pump then outlives the run.
            with suppress(subprocess.TimeoutExpired):
                self._pump.wait(_TAIL_SECONDS)
        # An empty log is no file: a thousand silent runs leave nothing to clean up.
        if os.fstat(self._target).st_size == 0:
            with suppress(FileNotFoundError):
                os.unlink(self._log)
        os.close(self._target)
        self._target = None


def _open(log: str) -> int:
    flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY
    try:
        return os.open(log, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(log), 0o700, exist_ok=True)
        return os.open(log, flags, 0o600)


class WholeLogChannel:
    """Passes events on, the end of the run only once its log is complete."""

    def __init__(self, channel: Channel, output: CapturedOutput) -> None:
        self.points = channel.points
        self._channel = channel
        self._output = output

    def send(self, event: dict[str, Any]) -> None:
        """Send one event."""
        if event["event"] == "finished":
            self._output.close()
        self._channel.send(event)


def prepare_streams() -> None:
    """Write every whole line at once, and stdout to nowhere; until the first run, stderr is what its place reads."""
    os.dup2(_null(), 1)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]


class RunLogHandler(logging.Handler):
    """Writes what user code logs to the run's log, unless the user's code has set up logging."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line to what stderr is now: the user's code may have replaced it."""
        if logging.root.handlers:
            return
        try:
            sys.stderr.write(f"{self.format(record)}\n")
        except Exception:  # noqa: BLE001 - as every handler of logging does
            self.handleError(record)


def prepare_logging() -> None:
    """Write ``ctx.logger`` to the log from INFO on."""
    target = RunLogHandler()
    target.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    runs = logging.getLogger("mlfn.run")
    runs.setLevel(logging.INFO)
    runs.addHandler(target)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        # The disk is full, or the handler closed it, or put anything in its place.
        with suppress(Exception):
            stream.flush()  # type: ignore[union-attr]


@functools.cache
def _null() -> int:
    return os.open(os.devnull, os.O_RDWR)


def silence() -> None:
    """Make stdout and stderr point nowhere."""
    os.dup2(_null(), 1)
    os.dup2(_null(), 2)
