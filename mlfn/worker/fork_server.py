"""The process that forks workers: it loads what a worker needs once, and forks a worker at each request of the place."""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

from mlfn.worker import context as user_context
from mlfn.worker.log_capture import prepare_logging
from mlfn.worker.loop import serve
from mlfn.worker.mailbox import PACKETS


class ForkServer:
    """Has one thread and has run no user code: a fork of it is as good as an interpreter that has just started."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._wakeup_read, self._wakeup_write = os.pipe()
        for end in (self._wakeup_read, self._wakeup_write):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler no byte is written to the pipe
        signal.set_wakeup_fd(self._wakeup_write)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # else what the caller blocks is blocked here, and in workers

    def run(self) -> tuple[socket.socket, socket.socket] | None:
        """Fork workers; return in each of them with its sockets, and here with None once the place has closed."""
        self._report("ready", os.getpid())
        poll = select.poll()  # the channel has the number that it had in the client, where it may be a high one
        poll.register(self._channel, select.POLLIN)
        poll.register(self._wakeup_read, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if self._wakeup_read in ready:
                self._reap()
            if self._channel.fileno() in ready:
                request, fds, _, _ = socket.recv_fds(self._channel, 1, 3)
                if not request:
                    return None
                if (sockets := self._fork(fds)) is not None:
                    return sockets

    def _fork(self, fds: list[int]) -> tuple[socket.socket, socket.socket] | None:
        try:
            pid = os.fork()
        except OSError as error:
            self._report("refused", 0, error.strerror)
        else:
            if not pid:
                return self._become_worker(*fds)
            self._report("forked", pid)
        for fd in fds:
            os.close(fd)
        return None

    def _become_worker(self, control: int, packets: int, stderr: int) -> tuple[socket.socket, socket.socket]:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        os.dup2(stderr, 2)
        for fd in (stderr, self._wakeup_read, self._wakeup_write):
            os.close(fd)
        for fd in (control, packets):
            os.set_inheritable(fd, False)  # else programs that a handler executes would inherit them
        self._channel.close()
        with suppress(OSError), open("/proc/self/comm", "w") as file:
            file.write("mlfn-worker")  # what `ps` and `top` show
        return socket.socket(fileno=control), socket.socket(socket.AF_UNIX, PACKETS, fileno=packets)

    def _reap(self) -> None:
        """Report how workers ended, after killing what is left of their process groups."""
        with suppress(BlockingIOError):
            os.read(self._wakeup_read, 4096)
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
                self._report("ended", pid, os.waitstatus_to_exitcode(status))

    def _report(self, what: str, pid: int, detail: Any = None) -> None:
        with suppress(OSError):  # the place has closed, as the next poll of the channel will show
            self._channel.send(json.dumps([what, pid, detail]).encode() + b"\n")


def main() -> None:
    """Start from the command line that the place wrote."""
    user_context.in_worker = True
    prepare_logging()
    channel = socket.socket(fileno=int(sys.argv[1]))
    gc.freeze()  # a collection in a worker would copy every page that holds an object
    sockets = ForkServer(channel).run()
    if sockets is None:
        os._exit(0)  # its client waits for the exit, and there is nothing to clean up
    serve(*sockets)
