"""Starting a worker process: light enough to come before everything else that a first run needs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mlfn.secrets import withheld
from mlfn.worker.mailbox import PACKETS, SEND_BUFFER

ROOT = str(Path(__file__).parents[2])
# As `python -m mlfn.worker`, but it finds this very mlfn wherever it lies, and no module of the current folder instead.
_START = f"import sys; sys.path = [{ROOT!r}, *filter(None, sys.path)]; from mlfn.worker.__main__ import main; main()"

_spares: list[Launched] = []


@dataclass(frozen=True)
class Launched:
    """A worker process that knows nothing yet, and the place's ends of what leads to it.

    `taking` is the worker's own end of its queue, by which the place takes back what it has not begun; `said` is a file
    without a name that has what the worker wrote to stderr before its first run.
    """

    python: str
    environ: int
    popen: subprocess.Popen[bytes]
    control: socket.socket
    giving: socket.socket
    taking: socket.socket
    said: BinaryIO


def launch(python: str) -> Launched:
    """Start a worker process, or return a spare one that fits."""
    while _spares:
        spare = _spares.pop()
        if (spare.python, spare.environ) == (python, environ_mark()) and spare.popen.poll() is None:
            return spare
        discard(spare)
    return _launched(python)


def _launched(python: str) -> Launched:
    control, theirs = socket.socketpair()
    giving, taking = socket.socketpair(socket.AF_UNIX, PACKETS)
    for end in (giving, taking):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    fds = (theirs.fileno(), taking.fileno())
    hidden = withheld()
    said = _file_without_name()
    try:
        popen = subprocess.Popen(
            [python, "-c", _START, *map(str, fds)],
            env={name: value for name, value in os.environ.items() if name not in hidden},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            pass_fds=fds,
            start_new_session=True,
        )
    except BaseException:
        for end in (control, giving, taking):
            end.close()
        said.close()
        raise
    finally:
        theirs.close()
    return Launched(python, environ_mark(), popen, control, giving, taking, said)


def _file_without_name() -> BinaryIO:
    if (create := getattr(os, "memfd_create", None)) is not None:
        return open(create("mlfn-worker"), "r+b", buffering=0)
    from tempfile import TemporaryFile

    return TemporaryFile(buffering=0)


def launch_spares(count: int) -> None:
    """Start the workers of first runs while the caller still loads the rest; `launch` finds them."""
    while len(_spares) < count:
        _spares.append(_launched(sys.executable))


def discard_spares() -> None:
    """End what was started and not used."""
    while _spares:
        discard(_spares.pop())


def discard(launched: Launched) -> None:
    """End a worker process that was never used."""
    launched.control.close()
    launched.giving.close()
    launched.taking.close()
    launched.said.close()
    launched.popen.kill()
    launched.popen.wait()


def environ_mark() -> int:
    """Return a number that changes with this process's environment."""
    # Its items are decoded one by one in Python: 50 us for what takes 2 us on the bytes below.
    return hash((tuple(getattr(os.environ, "_data", os.environ).items()), withheld()))


os.register_at_fork(after_in_child=_spares.clear)
