"""The masking program: copies its input to its output, secret values replaced by ``***``.

The worker puts it between a run that uses secrets and its log::

    pump = start_pump(values, log)       # log: the log file, opened with O_APPEND
    subprocess.Popen(..., stdout=pump.stdin, stderr=pump.stdin)
    pump.stdin.close()                   # else the pump never sees the end
    ...
    pump.wait()                          # the log is complete

It runs as ``python -I -S masking.py [FD]``, without mlfn and without site-packages, reads the values as a
JSON list from file descriptor FD (3) and never from arguments or environment, and ends with its input. Exit
codes: 0; 64, the values could not be read and nothing was copied; 74, the log could not be written (the rest
of the input is dropped, so that the run itself is not blocked).
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

    from mlfn.masker import StreamMasker

EXIT_USAGE = 64
EXIT_IO = 74

PIECE = 1 << 18
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def start_pump(values: Iterable[str], log: int) -> subprocess.Popen[bytes]:
    """Start the program; what is written to its stdin goes to the descriptor `log`, masked."""
    import subprocess

    reader, writer = os.pipe()
    try:
        # A session of its own: a signal to the run's process group must not cut off the tail of its log.
        pump = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(reader)],
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


def pump_main(argv: Sequence[str]) -> int:
    """Copy stdin to stdout, masked, until the input ends; return the exit code."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # ends when the run has closed its output, not before
    try:
        masker = _stream_masker(_read_values(int(argv[0]) if argv else 3))
    except (OSError, ValueError) as error:
        # Fails closed: better no log than one with the values in it. The type alone: a message may quote
        # them.
        print(f"mlfn: the values to mask could not be read ({type(error).__name__})", file=sys.stderr)
        return EXIT_USAGE
    return _copy(masker, 0, 1)


def _read_values(descriptor: int) -> list[str]:
    with os.fdopen(descriptor, "rb") as file:
        values = json.loads(file.read())
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError
    return values


def _stream_masker(values: list[str]) -> StreamMasker:
    # By its path: `import mlfn` would need mlfn on the path of an isolated interpreter, and all that it
    # imports.
    path = Path(__file__).resolve().parent.parent / "masker.py"
    spec = importlib.util.spec_from_file_location("mlfn_masker", path)
    if spec is None or spec.loader is None:
        raise OSError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    masker: StreamMasker = module.StreamMasker(module.Masker(values))
    return masker


def _copy(masker: StreamMasker, source: int, target: int) -> int:
    try:
        while piece := os.read(source, PIECE):
            _write(target, masker.feed(piece))
        _write(target, masker.flush())
    except OSError as error:
        print(f"mlfn: the log could not be written: {error.strerror}", file=sys.stderr)
        _drain(source)
        return EXIT_IO
    return 0


def _write(target: int, data: bytes) -> None:
    while data:
        data = data[os.write(target, data) :]


def _drain(source: int) -> None:
    while os.read(source, PIECE):
        pass


if __name__ == "__main__":
    sys.exit(pump_main(sys.argv[1:]))
