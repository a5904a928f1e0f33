"""The log of one unit, followed: its output goes to a file, its artifacts to their root, its events to who decides."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mlfn.artifacts.store import ArtifactStore
from mlfn.backends.places.base import EventsReceived
from mlfn.backends.places.kubernetes.connection import ApiError, Connection, UnreachableError
from mlfn.backends.places.kubernetes.messages import LogEnded, LogRead, Message
from mlfn.backends.places.kubernetes.objects import CONTAINER
from mlfn.host.frozen import frozen
from mlfn.worker.pod.stream import Shipped, StreamReader

logger = logging.getLogger(__name__)
_AGAIN = 0.5  # seconds until another try


@frozen
class Followed:
    """Whose log it is, and where it goes; `lines` of its journal are recorded."""

    execution: str
    index: int
    run: str
    namespace: str
    pod: str
    mark: str
    log: Path
    lines: int = 0


class Follower(threading.Thread):
    """Reads a log to its end, from its beginning again where the connection breaks."""

    def __init__(
        self, connection: Connection, followed: Followed, artifacts: ArtifactStore, tell: Callable[[Message], object]
    ) -> None:
        super().__init__(name=f"mlfn-log-{followed.run[:8]}", daemon=True)
        self._connection = connection
        self._followed = followed
        self._artifacts = artifacts
        self._tell = tell
        self._told = followed.lines
        self.is_closed = False

    def run(self) -> None:
        """Follow it."""
        while not self.is_closed:
            try:
                lines = self._read()
            except UnreachableError as error:
                logger.debug("the log of %s is to be read again: %s", self._followed.pod, error)
            except ApiError as error:
                if error.status == 404:  # the pod is gone, and its log with it
                    self._tell(LogEnded(self._followed.execution, self._followed.index, self._told))
                    return
                logger.debug("the log of %s cannot be read yet: %s", self._followed.pod, error)
            except Exception:
                logger.exception("the log of %s is read again after an unexpected error", self._followed.pod)
            else:
                self._tell(LogEnded(self._followed.execution, self._followed.index, lines))
                return
            time.sleep(_AGAIN)

    def _read(self) -> int:
        """Read it from the beginning to its end; return the number of its events."""
        where = self._followed
        reader, line = StreamReader(where.mark), 0
        output = LocalLog(where.log)
        try:
            stream = open_log(self._connection, where.namespace, where.pod, follow=True)
            for piece in _with_end(stream.pieces()):
                events: list[dict[str, Any]] = []
                for part in reader.feed(piece) if piece is not None else reader.end():
                    if isinstance(part, bytes):
                        output.write(part)
                    elif isinstance(part, Shipped):
                        self._artifacts.adopt(part.path, part.content)
                    else:
                        events.append(part)
                self._tell_events(events, line)
                line += len(events)
                if self.is_closed:
                    break
        finally:
            output.close()
        return line

    def _tell_events(self, events: list[dict[str, Any]], first: int) -> None:
        new = events[max(0, self._told - first) :]
        if new:
            first = max(first, self._told)
            self._told = first + len(new)
            where = self._followed
            self._tell(LogRead(EventsReceived(where.execution, tuple(new), "seen", where.run, first)))


def open_log(connection: Connection, namespace: str, pod: str, *, follow: bool) -> Any:
    """Open the log of a pod."""
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
    return connection.stream(path, container=CONTAINER, follow="true" if follow else "false")


def _with_end(pieces: Iterator[bytes]) -> Iterator[bytes | None]:
    yield from pieces
    yield None


class LocalLog:
    """A log in the data folder; what an earlier reading wrote is not written again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = path.stat().st_size if path.exists() else 0
        self._seen = 0
        self._fd: int | None = None

    def write(self, data: bytes) -> None:
        """Append what is new of it."""
        new = data[max(0, self._known - self._seen) :]
        self._seen += len(data)
        if not new:
            return
        if self._fd is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(self._path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        while new:
            new = new[os.write(self._fd, new) :]

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
