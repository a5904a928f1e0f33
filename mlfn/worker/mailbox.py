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
            body = json.dumps({"file": path.name}).encode()
        self._giving.send(body)

    def take_back(self) -> list[dict[str, Any]]:
        """Return what the worker has not taken, and now never will."""
        taken: list[dict[str, Any]] = []
        while True:
            try:
                packet = self._taking.recv(_LARGEST + 1024, socket.MSG_DONTWAIT)
            except OSError:
                return taken
            if not packet:
                return taken
            taken.append(_unspilled(json.loads(packet), self._folder))

    def close(self) -> None:
        """Close both ends."""
        self._giving.close()
        self._taking.close()


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
        self._folder: Path | None = None
        self._control = control.fileno()
        self._poll = select.poll()
        self._poll.register(packets, select.POLLIN)
        self._poll.register(control, select.POLLIN)

    def receive(self) -> dict[str, Any] | None:
        """Wait for the next message; None when the place has hung up, whatever is still queued."""
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
            if self._folder is None:
                self._folder = Path(message["folder"])  # the first message is short and says where it is
            return _unspilled(message, self._folder)


def _unspilled(message: dict[str, Any], folder: Path) -> dict[str, Any]:
    if "file" not in message:
        return message
    path = folder / message["file"]
    whole: dict[str, Any] = json.loads(path.read_bytes())
    path.unlink()
    return whole
