"""What a pod writes to its stdout: the run's own output, with lines of mlfn's between, which a mark begins.

A line that begins with the mark has one letter after it: ``E`` an event, ``F`` the head of a file, ``D`` some of its content.
A line of output that ends with the mark has no line's end of its own. The mark is random, so that no output holds it.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mlfn.host.frozen import frozen

_PIECE = 48 * 1024  # bytes of a file's content a line
_LONGEST = 64 * 1024  # bytes of output without a line's end that are held back
FIRST, LAST = 2 << 20, 1 << 20
"""Bytes of output that are passed on at once, and how many of the last ones are kept of what comes after these."""
MOST = 8 << 20
"""Bytes of events and files together: a kubelet begins another log at 10 MiB, and serves the last one alone."""


class StreamWriter:
    """The pod's side."""

    def __init__(self, write: Callable[[bytes], object], mark: str) -> None:
        self._write = write
        self._mark = mark.encode()
        self._open = b""  # output without a line's end so far
        self._left = FIRST
        self._kept = bytearray()
        self._dropped = 0
        self.used = 0  # bytes of MOST

    def text(self, data: bytes) -> None:
        """Take some of the output; `flush` passes on what has no line's end yet."""
        data = self._open + data
        end = data.rfind(b"\n") + 1
        self._pass_on(data[:end])
        self._open = data[end:]
        if len(self._open) > _LONGEST:
            self.flush()

    def flush(self) -> None:
        """Pass on what has no line's end."""
        if self._open:
            self._pass_on(self._open, is_open=True)
            self._open = b""

    def event(self, event: Mapping[str, Any]) -> None:
        """Write one event."""
        self._line(b"E", json.dumps(event).encode())

    def file(self, path: str, content: bytes) -> None:
        """Write a file."""
        packed = base64.b64encode(zlib.compress(content, 1))
        pieces = [packed[start : start + _PIECE] for start in range(0, len(packed), _PIECE)]
        self._line(b"F", json.dumps({"path": path, "lines": len(pieces)}).encode())
        for piece in pieces:
            self._line(b"D", piece)

    def close(self) -> None:
        """Write what was kept of the end of a long output."""
        self.flush()
        if self._dropped:
            note = f"[mlfn: {self._dropped:,} bytes of output are left out here; an artifact root, as artifacts='s3://...', keeps all]"
            self._write(b"".join((b"\n", note.encode(), b"\n")))
        if self._kept:
            self._write(bytes(self._kept))

    def _pass_on(self, data: bytes, *, is_open: bool = False) -> None:
        if not data:
            return
        end = self._mark + b"\n" if is_open else b""
        if len(data) <= self._left and not self._kept:
            self._left -= len(data)
            self._write(data + end)
            return
        self._left = 0
        self._kept += data + end
        if (over := len(self._kept) - LAST) > 0:
            cut = self._kept.find(b"\n", over) + 1 or over
            self._dropped += cut
            del self._kept[:cut]

    def _line(self, letter: bytes, body: bytes) -> None:
        line = b"".join((self._mark, letter, body, b"\n"))
        self.used += len(line)
        self._write(line)


@frozen
class Shipped:
    """A file that came with the log, whole."""

    path: str
    content: bytes


Part = bytes | dict[str, Any] | Shipped
"""Some output, an event, or a file."""


class StreamReader:
    """The client's side."""

    def __init__(self, mark: str) -> None:
        self._mark = mark.encode()
        self._open = b""
        self._file: dict[str, Any] | None = None
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> Iterator[Part]:
        """Yield what is whole by now: a line without its end is held back."""
        *lines, self._open = (self._open + data).split(b"\n")
        text: list[bytes] = []
        for line in lines:
            if not line.startswith(self._mark):
                text.append(line.removesuffix(self._mark) if line.endswith(self._mark) else line + b"\n")
                continue
            if text:
                yield b"".join(text)
                text = []
            part = self._part(line[len(self._mark) :])
            if part is not None:
                yield part
        if text:
            yield b"".join(text)

    def end(self) -> Iterator[Part]:
        """Yield what is left at the end of the log."""
        if self._open and not self._open.startswith(self._mark):
            yield self._open
        self._open = b""

    def _part(self, line: bytes) -> Part | None:
        letter, body = line[:1], line[1:]
        if letter == b"E":
            event: dict[str, Any] = json.loads(body)
            return event
        if letter == b"F":
            self._file, self._pieces = json.loads(body), []
        elif letter == b"D":
            self._pieces.append(body)
        if self._file is None or len(self._pieces) < self._file["lines"]:
            return None
        known, self._file = self._file, None
        content = zlib.decompress(base64.b64decode(b"".join(self._pieces)))
        return Shipped(known["path"], content)
