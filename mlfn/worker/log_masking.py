"""The masking program: copies its input to its output, secret values replaced by ``***``.

The worker puts it between a run that uses secrets and its log::

    pump = start_pump(values, log)       # log: the log file, opened with O_APPEND
    subprocess.Popen(..., stdout=pump.stdin, stderr=pump.stdin)
    pump.stdin.close()                   # else the pump never sees the end
    ...
    pump.wait()                          # the log is complete

It runs without site-packages, reads the values as a JSON list from a file descriptor and never from arguments or
environment, and ends with its input. Exit codes: 0; 64, the values could not be read and nothing was copied; 74, the log
could not be written (the rest of the input is dropped, so that the run itself is not blocked).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mlfn.settings.masking import Masker, StreamMasker

if TYPE_CHECKING:
    import subprocess

EXIT_USAGE = 64
EXIT_IO = 74

_ROOT = str(Path(__file__).parents[2])
# An isolated interpreter does not find mlfn by itself.
PROGRAM = f"import sys; sys.path.append({_ROOT!r}); from mlfn.worker.log_masking import main; sys.exit(main())"
_PIECE = 1 << 18
_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def start_pump(values: Iterable[str], log: int) -> subprocess.Popen[bytes]:
    """Start the program; what is written to its stdin goes to the descriptor `log`, masked."""
    import subprocess

    reader, writer = os.pipe()
    try:
        # A session of its own: a signal to the run's process group must not cut off the tail of its log.
        pump = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", PROGRAM, str(reader)],
            stdin=subprocess.PIPE,
            stdout=log,
            pass_fds=[reader],
            start_new_session=True,
        )
    except OSError:
        os.close(writer)
        raise
    finally:
        os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        pipe.write(json.dumps(list(values)).encode())
    return pump


def main() -> int:
    """Copy stdin to stdout, masked, until the input ends; return the exit code."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)  # ends when the run has closed its output, not before
    try:
        masker = StreamMasker(Masker(_read_values(int(sys.argv[1]))))
    except (OSError, ValueError) as error:
        # Fails closed: better no log than one with the values in it. The type alone: a message may quote them.
        print(f"mlfn: the values to mask could not be read ({type(error).__name__})", file=sys.stderr)
        return EXIT_USAGE
    return _copy(masker)


def _read_values(descriptor: int) -> list[str]:
    with os.fdopen(descriptor, "rb") as file:
        values = json.loads(file.read())
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError
    return values


def _copy(masker: StreamMasker) -> int:
    try:
        while piece := os.read(0, _PIECE):
            _write(masker.feed(piece))
        _write(masker.flush())
    except OSError as error:
        print(f"mlfn: the log could not be written: {error.strerror}", file=sys.stderr)
        while os.read(0, _PIECE):
            pass
        return EXIT_IO
    return 0


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]
