"""Starting worker processes: light enough to come before everything else that a first run needs.

An interpreter takes a while until it has loaded what a worker needs. One does so, the fork server, and becomes a worker
as often as it is asked to: the second one and all after it are there within a millisecond or two.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mlfn.identity import ProcessIdentity, identify
from mlfn.secrets import withheld
from mlfn.worker.mailbox import PACKETS, SEND_BUFFER

ROOT = str(Path(__file__).parents[2])
# As `python -m mlfn.worker`, but it finds this very mlfn wherever it lies, and no module of the current folder instead.
_START = f"import sys; sys.path = [{ROOT!r}, *filter(None, sys.path)]; from mlfn.worker.__main__ import main; main()"
_LOADING_SECONDS = 60.0
_FORKING_SECONDS = 10.0
_CLOSING_SECONDS = 1.0
_LOOK_SECONDS = 0.02  # between looks at a worker whose end nobody will tell

_early: list[ForkServer] = []
# Held while one starts, and by whoever forks: a child born in between would hold its pipes, and `Popen` wait for their end.
_starting = threading.RLock()
_inherited: list[ForkServer] = []  # by a forked child, which must not be told that they still run


@dataclass
class Forked:
    """A worker process that knows nothing yet, and the place's ends of what leads to it.

    `taking` is the worker's own end of its queue, by which the place takes back what it has not begun; `said` is a file
    without a name that has what the worker wrote to stderr before its first run. `code` is how it ended, negative for a
    signal; it stays None where nobody saw that.
    """

    server: ForkServer
    process: ProcessIdentity
    control: socket.socket
    giving: socket.socket
    taking: socket.socket
    said: BinaryIO
    code: int | None = None

    def has_ended(self) -> bool:
        """Say whether the process is no more."""
        if self.code is None:
            self.server.listen()
        return self.code is not None or (self.server.is_gone and self.process.state() == "gone")

    def wait(self, timeout: float) -> bool:
        """Wait for its end; False when that did not come in time."""
        until = time.monotonic() + timeout
        while not self.has_ended():
            if (left := until - time.monotonic()) <= 0:
                return False
            self.server.wait(left)
        return True


class ForkServer:
    """The place's side of the process that forks workers; `is_ready` once that has loaded what they need."""

    def __init__(self, python: str) -> None:
        self.python = python
        self.environ = environ_mark()
        self.is_ready = False
        self.is_gone = False
        self.used = time.monotonic()
        self._workers: dict[int, Forked] = {}
        self._codes: dict[int, int] = {}  # of workers that ended before this side knew them
        self._answer: tuple[int, str | None] | None = None
        self._rest = b""
        self._said = _file_without_name()
        self.channel, theirs = _socketpair(socket.SOCK_STREAM)
        hidden = withheld()
        try:
            self._popen = subprocess.Popen(
                [python, "-c", _START, str(theirs.fileno())],
                env={name: value for name, value in os.environ.items() if name not in hidden},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except BaseException:
            self.channel.close()
            self._said.close()
            raise
        finally:
            theirs.close()

    def fits(self, python: str, environ: int) -> bool:
        """Say whether its workers are of this interpreter, and of the environment with this mark."""
        return (self.python, self.environ) == (python, environ)

    def fork(self) -> Forked:
        """Return a new worker; where the server is gone, one that has ended as the server did.

        Raises OSError where the system grants no other process.
        """
        self.used = time.monotonic()
        control, theirs = _socketpair(socket.SOCK_STREAM)
        giving, taking = _socketpair(PACKETS)
        for end in (giving, taking):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        said = _file_without_name()
        with theirs:
            pid, refusal = self._ask_for_worker(theirs, taking, said)
        if pid:
            code = self._codes.pop(pid, None)
            forked = Forked(self, identify(pid), control, giving, taking, said, code)
            if code is None:
                self._workers[pid] = forked
            return forked
        # Where the server is gone, it may have forked with its last breath: such a worker must find no place.
        for opened in (control, giving, taking, said):
            opened.close()
        if refusal is not None:
            raise OSError(0, refusal)
        return self._ended()

    def listen(self) -> None:
        """Take in what it says: that it is ready, which workers there are, how they ended."""
        while not self.is_gone:
            try:
                data = self.channel.recv(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            self.is_gone = not data
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._hear(*json.loads(line))

    def wait(self, timeout: float) -> None:
        """Wait until it says something; a gone one says nothing any more."""
        if self.is_gone:
            time.sleep(min(timeout, _LOOK_SECONDS))
        else:
            poll = select.poll()  # `select.select` takes no descriptor from 1024 on
            poll.register(self.channel, select.POLLIN)
            poll.poll(1000 * timeout)

    def end_if_late(self) -> None:
        """End one that takes for ever to load."""
        if not self.is_ready and time.monotonic() - self.used > _LOADING_SECONDS:
            self.give_up()

    def give_up(self) -> None:
        """End one that does not answer; its workers stay."""
        self.listen()
        self._popen.kill()
        self.is_gone = True  # not left to the channel to tell: what the server has started may hold the other end

    def close(self) -> None:
        """End it; its workers stay, and nobody sees any more how they end."""
        self.let_go()
        if not self.is_ready:
            self._popen.kill()  # it would load everything first
        try:
            self._popen.wait(_CLOSING_SECONDS)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    def let_go(self) -> None:
        """Close what leads to it."""
        self.is_gone = True
        self.channel.close()
        self._said.close()

    def _ended(self) -> Forked:
        """Return a worker that is none: the server's own end is its end, and what that wrote its words."""
        control, theirs = _socketpair(socket.SOCK_STREAM)
        theirs.close()
        giving, taking = _socketpair(PACKETS)
        said = os.fdopen(os.dup(self._said.fileno()), "rb", buffering=0)
        code = self._popen.wait()
        return Forked(self, identify(self._popen.pid), control, giving, taking, said, code)

    def _ask_for_worker(self, *ends: socket.socket | BinaryIO) -> tuple[int, str | None]:
        """Return the new worker's pid, or 0 and why the system refused one; neither where the server is gone."""
        self._answer = None
        try:
            socket.send_fds(self.channel, [b"f"], [end.fileno() for end in ends])
        except OSError:
            self.is_gone = True
        until = time.monotonic() + _FORKING_SECONDS
        while not self.is_gone and self._answer is None:
            if (left := until - time.monotonic()) > 0:
                self.wait(left)
            else:
                self.give_up()
            self.listen()
        return self._answer or (0, None)

    def _hear(self, what: str, pid: int, detail: Any) -> None:
        if what == "ready":
            self.is_ready = True
        elif what == "ended":
            if (worker := self._workers.pop(pid, None)) is not None:
                worker.code = detail
            else:
                self._codes[pid] = detail
        else:
            self._answer = (pid, detail)


def launch(python: str) -> ForkServer:
    """Start a fork server, or return the one that was started early."""
    while (early := _take_early()) is not None:
        if early.fits(python, environ_mark()) and not early.is_gone:
            return early
        early.close()
    with _starting:
        return ForkServer(python)


def launch_early() -> None:
    """Start the fork server of first runs while the caller still loads the rest; `launch` finds it."""
    if not _early:
        with _starting:
            _early.append(ForkServer(sys.executable))


def discard_early() -> None:
    """End what was started and not used."""
    while (early := _take_early()) is not None:
        early.close()


def _socketpair(kind: int) -> tuple[socket.socket, socket.socket]:
    ends = socket.socketpair(socket.AF_UNIX, kind)
    for end in ends:
        end.settimeout(None)  # the caller may have set a default, meant for its own network
    return ends


def _take_early() -> ForkServer | None:
    try:
        return _early.pop()  # not looked at before: each place has a thread of its own that may take it
    except IndexError:
        return None


def _file_without_name() -> BinaryIO:
    if (create := getattr(os, "memfd_create", None)) is not None:
        return open(create("mlfn-worker"), "r+b", buffering=0)
    from tempfile import TemporaryFile

    return TemporaryFile(buffering=0)


def environ_mark() -> int:
    """Return a number that changes with this process's environment."""
    # Its items are decoded one by one in Python: 50 us for what takes 2 us on the bytes below.
    return hash((tuple(getattr(os.environ, "_data", os.environ).items()), withheld()))


def _begin_anew() -> None:
    _starting.release()
    for early in _early:
        early.let_go()
    _inherited.extend(_early)
    _early.clear()


os.register_at_fork(before=_starting.acquire, after_in_parent=_starting.release, after_in_child=_begin_anew)
