"""stdout and stderr of one run: the file descriptors themselves point at its log, for C code and subprocesses too."""

from __future__ import annotations

import faulthandler
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from mlfn.worker.masking import start_pump

_TAIL_SECONDS = 5.0


@contextmanager
def captured_output(log: Path | None, secrets: Sequence[str]) -> Iterator[None]:
    """Send descriptors 1 and 2 to `log` within the block; with `secrets`, through a process that masks them."""
    if log is None:
        yield
        return
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    pump = start_pump(secrets, target) if secrets else None
    sink = pump.stdin.fileno() if pump is not None and pump.stdin is not None else target
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    faulthandler.enable(file=2)
    try:
        yield
    finally:
        _flush()
        faulthandler.disable()
        _to_null()
        if pump is not None and pump.stdin is not None:
            pump.stdin.close()
            # What the handler left running may hold the other end; the pump then goes on without us.
            with suppress(subprocess.TimeoutExpired):
                pump.wait(_TAIL_SECONDS)
        # An empty log is no file: a thousand silent runs leave nothing to clean up.
        if os.fstat(target).st_size == 0:
            log.unlink(missing_ok=True)
        os.close(target)


def prepare_streams() -> None:
    """Make every whole line appear at once, and what was inherited point nowhere."""
    _to_null()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # the disk is full, or the handler closed it
            stream.flush()


def _to_null() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    if null > 2:
        os.close(null)
