"""A file of points: fixed records, mapped into memory, beside the journal that names their series.

A record is in the page cache, safe from any process's end, once `add` returns; it takes no system call.
"""

from __future__ import annotations

import errno
import itertools
import mmap
import os
import struct
import threading
import time
from collections.abc import Iterable
from operator import length_hint
from pathlib import Path

STORAGE_EXIT = 74  # EX_IOERR: the worker could not write its journal or its points
RECORD = struct.Struct("@qddII")
"""Step, value, time, number, series. The series is written last and never 0: with it the record is valid."""
WITH_STEP = 1  # the lowest bit of a record's series
_WINDOW_BITS = 13
_WINDOW_ROWS = 1 << _WINDOW_BITS
_WINDOW_SIZE = _WINDOW_ROWS * RECORD.size  # a multiple of every system's page
_SLOTS = 1 << 62
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

Value = tuple[str, int | None, float, float]
"""Name, step, value and time."""
Point = tuple[str, int, int, Value]
"""Run, attempt, number within the attempt, and value."""
Record = tuple[int, float, float, int, int]


def points_path(journal: Path) -> Path:
    """Return the file of points that belongs to a journal."""
    return journal.with_name(f"{journal.name}.points")


class PointsFile:
    """The worker's side; any thread may add.

    A slot is taken in one step and filled in another. It stays empty where an exception, as a stopped run gets one, comes
    between the two.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self._slots = iter(range(_SLOTS))
        self._series = itertools.count(2, 2)
        self._windows: dict[int, mmap.mmap] = {}
        self._mapping = threading.Lock()
        self._is_closed = False

    @property
    def taken(self) -> int:
        """How many slots are taken."""
        return 0 if self._fd is None else _SLOTS - length_hint(self._slots)

    def new_series(self) -> int:
        """Return what the records of another series carry; 0 where none are taken."""
        return 0 if self._is_closed else next(self._series)

    def add(self, series: int, number: int, step: int | None, value: float) -> bool:
        """Write one record; False where it cannot be one."""
        slot = next(self._slots)
        window = self._windows.get(slot >> _WINDOW_BITS) or self._map(slot >> _WINDOW_BITS)
        if window is None:
            return False
        start = (slot & (_WINDOW_ROWS - 1)) << 5
        try:
            if step is None:
                RECORD.pack_into(window, start, 0, value, time.time(), number, series)
            else:
                RECORD.pack_into(window, start, step, value, time.time(), number, series | WITH_STEP)
        except struct.error:  # more than 2**32 points, or a step beyond 64 bits
            return False
        return True

    def close(self) -> None:
        """Take no more records: a forked process has this file in common with its parent, and would write over it."""
        self._is_closed = True
        self._windows = {}

    def _map(self, index: int) -> mmap.mmap | None:
        with self._mapping:
            if self._is_closed:
                return None
            try:
                window = self._mapped(index)
            except (OSError, ValueError):  # this file system maps no files, or no memory is left
                return None
            self._windows = {known: kept for known, kept in self._windows.items() if known == index - 1}
            self._windows[index] = window
            return window

    def _mapped(self, index: int) -> mmap.mmap:
        if self._fd is None:
            self._fd = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            # Room first: a write to a page for which the disk has none would end this process by SIGBUS.
            _allocate(self._fd, index * _WINDOW_SIZE, _WINDOW_SIZE)
        except OSError as error:
            if error.errno in _FULL:
                os._exit(STORAGE_EXIT)
            raise
        return mmap.mmap(self._fd, _WINDOW_SIZE, offset=index * _WINDOW_SIZE)


def _allocate(fd: int, start: int, size: int) -> None:
    if os.fstat(fd).st_size >= start + size:
        return  # it was mapped before
    allocate = getattr(os, "posix_fallocate", None)
    try:
        if allocate is not None:
            allocate(fd, start, size)
            return
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
    written = 0
    while written < size:
        written += os.pwrite(fd, bytes(size - written), start + written)


def batches(points: Iterable[Point]) -> list[tuple[str, int, int, list[Value]]]:
    """Return the points of each attempt as one batch: run, attempt, first number, values; another after a number left out."""
    found: list[tuple[str, int, int, list[Value]]] = []
    latest: dict[tuple[str, int], tuple[int, list[Value]]] = {}
    for run, attempt, number, value in points:
        first, values = latest.get((run, attempt), (0, []))
        if not values or number != first + len(values):
            first, values = latest[run, attempt] = number, []
            found.append((run, attempt, first, values))
        values.append(value)
    return found


def read_records(fd: int, position: int, count: int) -> list[Record | None]:
    """Return the records of slots from a position on, None for each that is empty."""
    start, size = position * RECORD.size, count * RECORD.size
    seen = os.pread(fd, size, start)
    # A record that is valid in the first reading is whole in the second: its writer may be at work between the two.
    whole = os.pread(fd, len(seen) // RECORD.size * RECORD.size, start)
    series = memoryview(seen)[: len(whole)].cast("I")[7::8]
    return [record if valid else None for record, valid in zip(RECORD.iter_unpack(whole), series, strict=True)]
