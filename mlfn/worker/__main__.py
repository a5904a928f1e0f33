"""``python -m mlfn.worker CHANNEL``: load what a worker needs once, and fork one each time that the place asks for it."""

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

from mlfn import user_context
from mlfn.worker.mailbox import PACKETS
from mlfn.worker.output import prepare_logging
from mlfn.worker.serve import serve


class ForkServer:
    """Has one thread and has run nobody's code: what it forks is as good as an interpreter that has just started."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._bell, ringer = os.pipe()
        self._ringer = ringer
        for end in (self._bell, ringer):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # what matters is the byte that it writes to the pipe
        signal.set_wakeup_fd(ringer)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # else what the caller blocks is blocked here, and in workers

    def forked(self) -> tuple[socket.socket, socket.socket] | None:
        """Return in each worker with the sockets to its place, and here with None once the place has hung up."""
        self._say("ready", os.getpid())
        poll = select.poll()  # the channel has the number that it had in the client, where it may be a high one
        poll.register(self._channel, select.POLLIN)
        poll.register(self._bell, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if self._bell in ready:
                self._reap()
            if self._channel.fileno() in ready:
                asked, fds, _, _ = socket.recv_fds(self._channel, 1, 3)
                if not asked:
                    return None
                if (sockets := self._fork(fds)) is not None:
                    return sockets

    def _fork(self, fds: list[int]) -> tuple[socket.socket, socket.socket] | None:
        try:
            pid = os.fork()
        except OSError as error:
            self._say("refused", 0, error.strerror)
        else:
            if not pid:
                return self._become_worker(*fds)
            self._say("forked", pid)
        for fd in fds:
            os.close(fd)
        return None

    def _become_worker(self, control: int, packets: int, said: int) -> tuple[socket.socket, socket.socket]:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        os.dup2(said, 2)
        for fd in (said, self._bell, self._ringer):
            os.close(fd)
        for fd in (control, packets):
            os.set_inheritable(fd, False)  # as it came it would reach whatever a handler executes
        self._channel.close()
        with suppress(OSError), open("/proc/self/comm", "w") as file:
            file.write("mlfn-worker")  # what `ps` and `top` show
        return socket.socket(fileno=control), socket.socket(socket.AF_UNIX, PACKETS, fileno=packets)

    def _reap(self) -> None:
        """Tell how workers ended, each after what it left running has ended too."""
        with suppress(BlockingIOError):
            os.read(self._bell, 4096)
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
                self._say("ended", pid, os.waitstatus_to_exitcode(status))

    def _say(self, what: str, pid: int, detail: Any = None) -> None:
        with suppress(OSError):  # the place has hung up: the next look at the channel says so
            self._channel.send(json.dumps([what, pid, detail]).encode() + b"\n")


def main() -> None:
    """Start from the command line that the place wrote."""
    user_context.in_worker = True
    prepare_logging()
    channel = socket.socket(fileno=int(sys.argv[1]))
    gc.freeze()  # a collection in a worker would copy every page that holds an object
    sockets = ForkServer(channel).forked()
    if sockets is None:
        os._exit(0)  # its client waits, and nothing here is worth tidying up
    serve(*sockets)


if __name__ == "__main__":
    main()
