"""The place's side of a fork server: light enough to start before everything else that a first run needs.

An interpreter takes a while until it has loaded what a worker needs. The fork server does so once, and forks a worker at
each request: from the second on they are there within a millisecond or two.
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
from typing import Any, BinaryIO

from mlfn.host.identity import ProcessIdentity, identify
from mlfn.host.installation import ROOT
from mlfn.settings.secrets import environ_mark, withheld
from mlfn.worker.mailbox import PACKETS, SEND_BUFFER

# As `python -m mlfn.worker.fork_server`, but it finds this very mlfn wherever it lies, and no module of the current folder instead.
_START = f"import sys; sys.path = [{ROOT!r}, *filter(None, sys.path)]; from mlfn.worker.fork_server import main; main()"
_LOADING_SECONDS = 60.0
_FORKING_SECONDS = 10.0
_CLOSING_SECONDS = 1.0
_POLL_SECONDS = 0.02  # between checks of a worker whose server is gone

_early: list[ForkServer] = []
no_forks = threading.RLock()
"""Held during forks, and while what leads to a new process is not yet where `after_fork` finds and closes it.

A child forked in between would hold it for as long as it lives: `Popen` would wait, and a worker not see its client's end.
"""
_inherited: list[ForkServer] = []  # in a forked child: kept, or their `Popen` would warn that they still run


@dataclass
class Forked:
    """A worker process that is not bound yet, and the place's ends of what leads to it.

    `receiving` is the worker's own end of its queue, from which the place recalls runs; `stderr` is a file without a name
    that holds what the worker wrote before its first run. `code` is its exit code, negative for a signal; it stays None
    where that is unknown.
    """

    server: ForkServer
    process: ProcessIdentity
    control: socket.socket
    sending: socket.socket
    receiving: socket.socket
    stderr: BinaryIO
    code: int | None = None

    def has_ended(self) -> bool:
        """Return whether the process is gone."""
        if self.code is None:
            self.server.receive()
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
    """A process that forks workers; `is_ready` once it has loaded what they need."""

    def __init__(self, python: str) -> None:
        self.python = python
        self.environ = environ_mark()
        self.is_ready = False
        self.is_gone = False
        self.used = time.monotonic()
        self._workers: dict[int, Forked] = {}
        self._codes: dict[int, int] = {}  # of workers that ended before `fork` returned them
        self._answer: tuple[int, str | None] | None = None
        self._rest = b""
        self._stderr = _file_without_name()
        self.channel, theirs = _socketpair(socket.SOCK_STREAM)
        hidden = withheld()
        try:
            self._popen = subprocess.Popen(
                [python, "-c", _START, str(theirs.fileno())],
                env={name: value for name, value in os.environ.items() if name not in hidden},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except BaseException:
            self.channel.close()
            self._stderr.close()
            raise
        finally:
            theirs.close()

    def fits(self, python: str, environ: int) -> bool:
        """Return whether its workers have this interpreter, and the environment with this mark."""
        return (self.python, self.environ) == (python, environ)

    def fork(self) -> Forked:
        """Return a new worker; where the server is gone, one that has ended as the server did.

        Raises OSError where the system refuses another process.
        """
        self.used = time.monotonic()
        control, theirs = _socketpair(socket.SOCK_STREAM)
        sending, receiving = _socketpair(PACKETS)
        for end in (sending, receiving):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        stderr = _file_without_name()
        with theirs:
            pid, refusal = self._request_worker(theirs, receiving, stderr)
        if pid:
            code = self._codes.pop(pid, None)
            forked = Forked(self, identify(pid), control, sending, receiving, stderr, code)
            if code is None:
                self._workers[pid] = forked
            return forked
        # A server that is gone may still have forked one: closed sockets end that worker.
        for opened in (control, sending, receiving, stderr):
            opened.close()
        if refusal is not None:
            raise OSError(0, refusal)
        return self._ended_worker()

    def receive(self) -> None:
        """Read its messages: that it is ready, which workers it has forked, how they ended."""
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
                self._handle(*json.loads(line))

    def wait(self, timeout: float) -> None:
        """Wait for a message, or a moment where the server is gone."""
        if self.is_gone:
            time.sleep(min(timeout, _POLL_SECONDS))
        else:
            poll = select.poll()  # `select.select` takes no descriptor from 1024 on
            poll.register(self.channel, select.POLLIN)
            poll.poll(1000 * timeout)

    def kill_if_late(self) -> None:
        """Kill it where it takes too long to load."""
        if not self.is_ready and time.monotonic() - self.used > _LOADING_SECONDS:
            self.kill()

    def kill(self) -> None:
        """Kill it; its workers stay."""
        self.receive()
        self._popen.kill()
        self.is_gone = True  # at once: a process that the server has started may keep the channel open

    def close(self) -> None:
        """End it; its workers stay, and how they end remains unknown."""
        self.after_fork()
        if not self.is_ready:
            self._popen.kill()  # it would load everything first
        try:
            self._popen.wait(_CLOSING_SECONDS)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    def after_fork(self) -> None:
        """Close what leads to it."""
        self.is_gone = True
        self.channel.close()
        self._stderr.close()

    def _ended_worker(self) -> Forked:
        """Return a worker that never was: it has the server's own exit code and stderr."""
        control, theirs = _socketpair(socket.SOCK_STREAM)
        theirs.close()
        stderr = os.fdopen(os.dup(self._stderr.fileno()), "rb", buffering=0)
        code = self._popen.wait()
        return Forked(self, identify(self._popen.pid), control, *_socketpair(PACKETS), stderr, code)

    def _request_worker(self, *ends: socket.socket | BinaryIO) -> tuple[int, str | None]:
        """Return the new worker's pid, or 0 and why the system refused one; 0 and None where the server is gone."""
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
                self.kill()
            self.receive()
        return self._answer or (0, None)

    def _handle(self, what: str, pid: int, detail: Any) -> None:
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
    with no_forks:
        return ForkServer(python)


def launch_early() -> None:
    """Start the fork server of first runs while the caller still loads the rest; `launch` finds it."""
    if not _early:
        with no_forks:
            _early.append(ForkServer(sys.executable))


def discard_early() -> None:
    """End what was started and not used."""
    while (early := _take_early()) is not None:
        early.close()


def _take_early() -> ForkServer | None:
    try:
        return _early.pop()  # without a check before: each place has a thread of its own that may take it
    except IndexError:
        return None


def _socketpair(kind: int) -> tuple[socket.socket, socket.socket]:
    ends = socket.socketpair(socket.AF_UNIX, kind)
    for end in ends:
        end.settimeout(None)  # the caller may have set a default, meant for its own network
    return ends


def _file_without_name() -> BinaryIO:
    if (create := getattr(os, "memfd_create", None)) is not None:
        return open(create("mlfn-worker"), "r+b", buffering=0)
    from tempfile import TemporaryFile

    return TemporaryFile(buffering=0)


def _after_fork() -> None:
    no_forks.release()
    for early in _early:
        early.after_fork()
    _inherited.extend(_early)
    _early.clear()


os.register_at_fork(before=no_forks.acquire, after_in_parent=no_forks.release, after_in_child=_after_fork)
