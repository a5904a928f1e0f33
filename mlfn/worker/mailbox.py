"""Messages from a place to its worker: packets in a queue that the place can take back what was not begun from."""

from __future__ import annotations

import json
import os
import select
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlfn.errors import StorageError
from mlfn.worker.verdicts import Verdicts

# A packet is taken whole by one reader: what the worker has taken it has begun, what the place has taken back it will
# never begin. macOS has no packets with a connection; its datagrams are as reliable between two processes of a machine.
PACKETS = socket.SOCK_DGRAM if sys.platform == "darwin" else socket.SOCK_SEQPACKET
_ORDER = ("settle", "bind", "run")  # what a worker is told once, and after it each of its runs
_LARGEST = 32 * 1024  # bytes of a packet; a longer message goes through a file in the worker's folder
SEND_BUFFER = 1 << 18


class Outbox:
    """The place's side: both ends of the queue, the worker's one to take back from."""

    def __init__(self, giving: socket.socket, taking: socket.socket, folder: Path) -> None:
        self._giving = giving
        self._taking = taking
        self._folder = folder
        self._spilled = 0

    def send(self, message: Mapping[str, Any]) -> None:
        """Queue one message."""
        body = json.dumps(message).encode()
        if len(body) > _LARGEST:
            self._spilled += 1
            path = self._folder / f"message-{self._spilled}"
            _spill(path, body)
            body = json.dumps({"op": message["op"], "file": path.name}).encode()
        self._giving.send(body)

    def take_back(self) -> list[dict[str, Any]]:
        """Return the runs that the worker has not taken, and now never will; what comes before all runs it still needs."""
        runs: list[dict[str, Any]] = []
        needed: list[bytes] = []
        while packet := self._queued():
            message = json.loads(packet)
            if message["op"] == _ORDER[-1]:
                runs.append(_unspilled(message, self._folder))
            else:
                needed.append(packet)
        for packet in needed:
            self._giving.send(packet)
        return runs

    def close(self) -> None:
        """Close both ends."""
        self._giving.close()
        self._taking.close()

    def _queued(self) -> bytes:
        try:
            return self._taking.recv(_LARGEST + 1024, socket.MSG_DONTWAIT)
        except OSError:
            return b""


def _spill(path: Path, body: bytes) -> None:
    try:
        with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(body)
    except OSError as error:
        raise StorageError(
            f"The parameters of a run cannot be written to {path} ({error.strerror}); free space there."
        ) from error


class Inbox:
    """The worker's side."""

    def __init__(self, packets: socket.socket, control: socket.socket, verdicts: Verdicts) -> None:
        self._packets = packets
        self._verdicts = verdicts
        self._folder = Path()
        self._told = 0  # how much of the order came so far
        self._early: list[dict[str, Any]] = []
        self._control = control.fileno()
        self._poll = select.poll()
        self._poll.register(packets, select.POLLIN)
        self._poll.register(control, select.POLLIN)

    def receive(self) -> dict[str, Any] | None:
        """Wait for the next message; None when the place has hung up, whatever is still queued."""
        while (message := self._next()) is not None:
            turn = _ORDER.index(message["op"])
            if turn > self._told:
                # The place is taking back, and has in its hands what comes before this: it will queue that again.
                self._early.append(message)
                continue
            self._told = max(self._told, min(turn + 1, len(_ORDER) - 1))
            if message["op"] == "settle":
                self._folder = Path(message["folder"])  # short, and so never in a file of that folder
            return _unspilled(message, self._folder)
        return None

    def _next(self) -> dict[str, Any] | None:
        if self._early and _ORDER.index(self._early[0]["op"]) <= self._told:
            return self._early.pop(0)
        while True:
            ready = [fd for fd, _ in self._poll.poll()]
            if self._control in ready:
                if not self._verdicts.drain():
                    return None
                continue
            try:
                packet = self._packets.recv(_LARGEST + 1024, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue  # the place took it back in between
            if not packet:
                return None
            message: dict[str, Any] = json.loads(packet)
            return message


def _unspilled(message: dict[str, Any], folder: Path) -> dict[str, Any]:
    if "file" not in message:
        return message
    path = folder / message["file"]
    whole: dict[str, Any] = json.loads(path.read_bytes())
    path.unlink()
    return whole
