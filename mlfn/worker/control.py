"""The worker's end of its control socket: the line that binds it, then answers to reported points."""

from __future__ import annotations

import json
import select
import socket
import threading
import time

ANSWER_SECONDS = 10.0  # without an answer for so long, the rest of the run waits for none


def answer_line(run: str, why: str | None) -> bytes:
    """Return an answer as it travels; a text says why the run should stop."""
    return json.dumps([run, why]).encode() + b"\n"


class Control:
    """Lines from the place; the end of the stream says that the place has closed it."""

    def __init__(self, control: socket.socket) -> None:
        self._socket = control
        self._rest = b""
        self._lock = threading.Lock()  # a handler may log from several threads
        self._is_unanswered = False
        self._is_closed = False

    def fileno(self) -> int:
        """Return the descriptor, for polls."""
        return self._socket.fileno()

    def binding(self) -> bytes | None:
        """Wait for the line that binds this worker; None where the place closes first."""
        return self._read_line(None)

    def drain(self) -> bool:
        """Discard answers that no call waits for; False when the place has closed."""
        self._receive(0.0)
        self._rest = b""
        return not self._is_closed

    def begin_run(self) -> None:
        """Expect answers again."""
        self._is_unanswered = self._is_closed

    def answer(self, run: str) -> str | None:
        """Wait for the answer to a point; return why the run should stop, None if it should not or no answer comes."""
        with self._lock:
            limit = time.monotonic() + ANSWER_SECONDS
            while not self._is_unanswered:
                line = self._read_line(limit - time.monotonic())
                if line is None:
                    self._is_unanswered = True
                    break
                answered, why = json.loads(line)
                if answered == run:
                    return None if why is None else str(why)
            return None

    def _read_line(self, timeout: float | None) -> bytes | None:
        limit = None if timeout is None else time.monotonic() + timeout
        while b"\n" not in self._rest:
            left = None if limit is None else limit - time.monotonic()
            if self._is_closed or (left is not None and left <= 0):
                return None
            self._receive(left)
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _receive(self, timeout: float | None) -> None:
        if self._is_closed or not select.select([self._socket], [], [], timeout)[0]:
            return
        try:
            data = self._socket.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._rest += data
        self._is_closed = not data
