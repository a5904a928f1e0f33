"""A worker's reports: one JSON line each, appended to a file that outlives the worker and its client."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

STORAGE_EXIT = 74  # EX_IOERR: the worker could not write its journal
MEMORY_EXIT = 71  # EX_OSERR: not even the memory was left to say that there is none
_BEGIN = b'{"event": '  # as `json.dumps` begins what `send` gets
_LAST_BYTES = 512  # more than the last line takes of a worker that ends in order
_ALWAYS = {"event", "run", "attempt", "time"}


class Journal:
    """Appends events; each is in the kernel's hands, safe from any process's end, before `send` returns."""

    def __init__(self, path: Path, bell: socket.socket | None) -> None:
        self._fd = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        self._bell = bell
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def send(self, event: Mapping[str, Any]) -> None:
        """Append one event and ring the reader's bell; a run's start can wait for the reader's next look."""
        if event["event"] == "finished" and os.getpid() != self._pid:
            os._exit(0)  # a fork of the handler came back from it: the outcome is its parent's to report
        line = json.dumps(event).encode() + b"\n"
        with self._lock:
            self._append(line)
        if event["event"] != "started":
            self._ring()

    def _append(self, line: bytes) -> None:
        try:
            view = memoryview(line)
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            os._exit(STORAGE_EXIT)

    def _ring(self) -> None:
        if self._bell is None:
            return
        try:
            self._bell.send(b"!", socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass  # many rings wait already
        except OSError:
            self._bell = None  # nobody listens any more; the file is what counts


def read_events(path: Path, offset: int) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield whole events from `offset` on, each with the offset after it; a half-written line stays for later.

    One that was damaged on its way is an event of its own, ``garbled``: nobody knows what it would have said.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            if (event := _event(line)) is not None:
                yield event, offset


def ends_in_order(path: Path) -> bool:
    """Say whether the last thing that a worker wrote is that it is about to end."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LAST_BYTES))
            lines = file.read().splitlines(keepends=True)
    except OSError:
        return False
    last = _event(lines[-1]) if lines and lines[-1].endswith(b"\n") else None
    return last is not None and last["event"] == "left"


def _event(line: bytes) -> dict[str, Any] | None:
    """Return the event of a line, None where it holds none: a handler may write to any descriptor, and end no line."""
    start = 0
    while start >= 0:
        try:
            found = json.loads(line[start:])
        except ValueError:
            start = line.find(_BEGIN, start + 1)
        else:
            return found if isinstance(found, dict) and found.keys() >= _ALWAYS else None
    if (start := line.find(_BEGIN)) < 0:
        return None
    text = line[start:][:200].decode(errors="backslashreplace")
    return {"event": "garbled", "run": "", "attempt": 0, "time": 0.0, "line": text}
