"""Answers to reports: a sweep says whether the run that logged a point should stop."""

from __future__ import annotations

import json
import select
import socket
import threading
import time

_PATIENCE = 10.0  # seconds without an answer after which nobody is taken to judge any more


def verdict_to_bytes(run: str, why: str | None) -> bytes:
    """Return an answer as it travels: one line."""
    return json.dumps([run, why]).encode() + b"\n"


class Verdicts:
    """The worker's side of the control socket: answers come on it, and its end says that the place has hung up."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._rest = b""
        self._lock = threading.Lock()  # a handler may log from several threads
        self._silent = False
        self.hung_up = False

    def drain(self) -> bool:
        """Read away answers that nobody waits for any more; False when the place has hung up."""
        self._read(0.0)
        self._rest = b""
        return not self.hung_up

    def wait(self, run: str) -> str | None:
        """Return why the run should stop; None if it should not, or if nobody answers."""
        with self._lock:
            if self._silent:
                return None
            limit = time.monotonic() + _PATIENCE
            while not self.hung_up and (left := limit - time.monotonic()) > 0:
                line, found, rest = self._rest.partition(b"\n")
                if found:
                    self._rest = rest
                    whom, why = json.loads(line)
                    if whom == run:
                        return None if why is None else str(why)
                    continue
                self._read(left)
            self._silent = True
            return None

    def begin(self) -> None:
        """Expect answers again: another run begins."""
        self._silent = self.hung_up

    def _read(self, timeout: float) -> None:
        if self.hung_up or not select.select([self._control], [], [], timeout)[0]:
            return
        try:
            data = self._control.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._rest += data
        self.hung_up = not data
