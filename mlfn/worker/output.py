"""stdout and stderr of one run: the file descriptors themselves point at its log, for C code and subprocesses too."""

from __future__ import annotations

import faulthandler
import functools
import logging
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlfn.execution import Channel
from mlfn.worker.masking import start_pump

_TAIL_SECONDS = 5.0


class CapturedOutput:
    """Descriptors 1 and 2 point at `log` until it is closed; with `secrets`, through a process that masks them."""

    def __init__(self, log: Path, secrets: Sequence[str]) -> None:
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._log = log
        self._pid = os.getpid()
        self._target: int | None = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        self._pump = start_pump(secrets, self._target) if secrets else None
        pipe = self._pump.stdin if self._pump is not None else None
        sink = pipe.fileno() if pipe is not None else self._target
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        faulthandler.enable(file=2)

    def close(self) -> None:
        """Bring the log to its end; a second call, or one in a fork of the handler, does nothing."""
        if self._target is None or os.getpid() != self._pid:
            return
        _flush()
        faulthandler.disable()
        silence()
        if self._pump is not None and self._pump.stdin is not None:
            self._pump.stdin.close()
            # What the handler left running may hold the other end; the pump then goes on without us.
            with suppress(subprocess.TimeoutExpired):
                self._pump.wait(_TAIL_SECONDS)
        # An empty log is no file: a thousand silent runs leave nothing to clean up.
        if os.fstat(self._target).st_size == 0:
            self._log.unlink(missing_ok=True)
        os.close(self._target)
        self._target = None


class WholeLogChannel:
    """Sends on what a run reports, its end only once its log is complete: who is told can read it whole."""

    def __init__(self, channel: Channel, output: CapturedOutput) -> None:
        self._channel = channel
        self._output = output

    def send(self, event: Mapping[str, Any]) -> None:
        """Send one event."""
        if event["event"] == "finished":
            self._output.close()
        self._channel.send(event)


def prepare_streams() -> None:
    """Make every whole line appear at once, and stdout point nowhere; until the first run, stderr is its place's to read."""
    os.dup2(_null(), 1)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]


class RunLogHandler(logging.Handler):
    """Writes what a handler logs to the run's own log, unless its author has set up logging."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line to what stderr is now: a handler may have replaced it."""
        if logging.root.handlers:
            return
        try:
            sys.stderr.write(f"{self.format(record)}\n")
        except Exception:  # noqa: BLE001 - as every handler of logging does
            self.handleError(record)


def prepare_logging() -> None:
    """Let ``ctx.logger`` reach the log from INFO on."""
    target = RunLogHandler()
    target.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    runs = logging.getLogger("mlfn.run")
    runs.setLevel(logging.INFO)
    runs.addHandler(target)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # the disk is full, or the handler closed it
            stream.flush()


@functools.cache
def _null() -> int:
    return os.open(os.devnull, os.O_RDWR)


def silence() -> None:
    """Make stdout and stderr point nowhere."""
    os.dup2(_null(), 1)
    os.dup2(_null(), 2)
