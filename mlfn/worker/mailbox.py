"""Runs from a place to its worker: packets in a queue from which the place can recall those not begun."""

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
from mlfn.host.identity import new_id
from mlfn.worker.control import Control

# One reader takes a packet whole: the worker begins every run that it has read, and never one that the place has recalled.
# macOS has no packets with a connection; its datagrams are as reliable between two processes of a machine.
PACKETS = socket.SOCK_DGRAM if sys.platform == "darwin" else socket.SOCK_SEQPACKET
SEND_BUFFER = 1 << 18
_LARGEST = 32 * 1024  # bytes of a packet; a longer message goes through a file in the worker's folder


def pack_message(message: Mapping[str, Any], folder: Path) -> bytes:
    """Return a message as it travels: JSON without a line's end, or the path of a file that holds it."""
    body = json.dumps(message).encode()
    if len(body) <= _LARGEST:
        return body
    path = folder / f"message-{new_id()}"
    try:
        with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(body)
    except OSError as error:
        raise StorageError(
            f"The parameters of a run cannot be written to {path} ({error.strerror}); free space there."
        ) from error
    return json.dumps({"file": str(path)}).encode()


def unpack_message(body: bytes) -> dict[str, Any]:
    """Return what was packed, and remove its file."""
    message: dict[str, Any] = json.loads(body.decode())
    if "file" not in message:
        return message
    path = Path(message["file"])
    whole: dict[str, Any] = json.loads(path.read_bytes())
    path.unlink()
    return whole


class TaskSender:
    """The place's side: both ends of the queue, the worker's one to recall from."""

    def __init__(self, sending: socket.socket, receiving: socket.socket, folder: Path) -> None:
        self._sending = sending
        self._receiving = receiving
        self._folder = folder

    def send(self, task: Mapping[str, Any]) -> None:
        """Queue one run."""
        self._sending.send(pack_message(task, self._folder))

    def recall(self) -> list[dict[str, Any]]:
        """Return the runs that the worker has not read, and now never will."""
        tasks = []
        while packet := self._queued():
            tasks.append(unpack_message(packet))
        return tasks

    def close(self) -> None:
        """Close both ends."""
        self._sending.close()
        self._receiving.close()

    def _queued(self) -> bytes:
        try:
            return self._receiving.recv(_LARGEST + 1024, socket.MSG_DONTWAIT)
        except OSError:
            return b""


class TaskReceiver:
    """The worker's side."""

    def __init__(self, packets: socket.socket, control: Control) -> None:
        self._packets = packets
        self._control = control
        self._poll = select.poll()
        self._poll.register(packets, select.POLLIN)
        self._poll.register(control, select.POLLIN)

    def receive(self) -> dict[str, Any] | None:
        """Wait for the next run; None when the place has closed the control socket, whatever is still queued."""
        while True:
            if self._control.fileno() in dict(self._poll.poll()):
                if not self._control.drain():
                    return None
                continue
            try:
                packet = self._packets.recv(_LARGEST + 1024, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue  # the place has recalled it
            return unpack_message(packet) if packet else None
