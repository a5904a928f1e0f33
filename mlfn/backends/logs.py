"""The log of an attempt, for any process that sees its store: a file of the data folder, or what its place returns."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from mlfn.errors import ParameterError
from mlfn.spec.plan import Plan
from mlfn.spec.record import Attempt, RunRecord, log_file
from mlfn.store.queries import ExecutionRow, Queries

_CHUNK = 1 << 20
_POLL_FILE, _POLL_PLACE = 0.05, 1.0


class AttemptLog:
    """What an attempt wrote to stdout and stderr.

    The file counts where there is one: a place that keeps logs elsewhere has the whole of it written there before it removes
    an execution. Without a file the place of the execution is asked; its dispatcher is not needed.
    """

    def __init__(self, store: Queries, folder: Path, attempt: Attempt) -> None:
        self._store = store
        self._folder = folder
        self._attempt = attempt
        # By name, below this client's own folder: a path out of the store could name any file of this machine.
        self._file = Path(log_file(folder, attempt.run, attempt.attempt))

    @property
    def path(self) -> Path | None:
        """Its file in the data folder; None where there is none."""
        return self._file if self._file.exists() else None

    @property
    def where(self) -> str | None:
        """Where it lies, for people: its file, or the place and the execution; None where nothing is known of it."""
        if (path := self.path) is not None:
            return str(path)
        at_place = self._at_place()
        return f"{at_place[0].place}: {at_place[0].id}" if at_place is not None else None

    @property
    def pause(self) -> float:
        """Seconds after which to ask again for what was written since."""
        return _POLL_FILE if self._file.exists() or self._at_place() is None else _POLL_PLACE

    def read(self, offset: int) -> bytes:
        """Return some of what is there from `offset` on; nothing at its end so far."""
        try:
            with self._file.open("rb") as file:
                file.seek(offset)
                return file.read(_CHUNK)
        except FileNotFoundError:
            return self._from_place(offset)

    def tail(self, most: int) -> tuple[bytes, int]:
        """Return its last bytes and its size; of a file only the end is read."""
        try:
            with self._file.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - most))
                return file.read(most), size
        except FileNotFoundError:
            whole = b"".join(iter_chunks(self._from_place))
            return whole[-most:], len(whole)

    def _from_place(self, offset: int) -> bytes:
        if (at_place := self._at_place()) is None:
            return b""
        from mlfn.backends.places.base import LogRequest

        (row, reader), attempt = at_place, self._attempt
        wanted = LogRequest(row.id, row.target, row.handle, attempt.run, attempt.attempt, attempt.unit, self._folder)
        return reader(wanted, offset)

    def _at_place(self) -> tuple[ExecutionRow, Callable[..., bytes]] | None:
        """Return its execution and what reads there; None once that is removed, and where all logs are files."""
        name = self._attempt.execution
        row = None if name is None else next((row for row in self._store.executions() if row.id == name), None)
        if row is None:
            return None
        from mlfn.backends.registry import log_reader  # a log that is a file is read without it

        reader = log_reader(row.place)
        return (row, reader) if reader is not None else None


def iter_chunks(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """Yield what there is from the beginning to the end so far."""
    offset = 0
    while chunk := read(offset):
        yield chunk
        offset += len(chunk)


def numbered(chunks: Iterable[str], child: int) -> Iterator[str]:
    """Yield the text of a sweep's child line by line, each with the child's number before it."""
    for line in _lines(chunks):
        yield f"[{child}] {line}\n"


def checked_of_rank(chunks: Iterable[str], rank: Any, record: RunRecord, plan: Plan) -> Iterable[str]:
    """Return what one of a run's ranks wrote; raise ParameterError for a rank that it does not have."""
    from mlfn.backends.registry import ranks_of

    ranks = ranks_of(plan)
    if isinstance(rank, bool) or not isinstance(rank, int) or not 0 <= rank < ranks:
        allowed = f"a whole number from 0 to {ranks - 1}" if ranks > 1 else "0, its only one,"
        raise ParameterError(f"rank={rank!r} has no log: {allowed} is allowed for {record.name} ({record.id[:8]}).")
    return of_rank(chunks, rank) if ranks > 1 else chunks


def of_rank(chunks: Iterable[str], rank: int) -> Iterator[str]:
    """Yield the lines that one of several ranks wrote, without its number."""
    prefix = f"[{rank}] "
    for line in _lines(chunks):
        if line.startswith(prefix):
            yield f"{line.removeprefix(prefix)}\n"


def _lines(chunks: Iterable[str]) -> Iterator[str]:
    rest = ""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split("\n")
        yield from lines
    if rest:
        yield rest
