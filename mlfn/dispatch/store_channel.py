"""The reports of a run in this process, on their way to the store: points ten times a second, all else at once."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from mlfn.dispatch.outbox import change_of
from mlfn.errors import StorageError
from mlfn.store.changes import Change, MetricsLogged, Started
from mlfn.store.commands import Store
from mlfn.worker.points import Point, batches
from mlfn.worker.throttle import Throttle

_PROCESS_BITS = 40


class StoreChannel:
    """Writes the reports of a run in this process straight to the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pid = os.getpid()
        self._first: list[Change] = []
        self._lock = threading.Lock()  # a handler may report from several threads
        self.points = StagedPoints(self._write_points)

    def send(self, event: dict[str, Any]) -> None:
        """Record one event."""
        if "number" in event and os.getpid() != self._pid:
            event["number"] += os.getpid() << _PROCESS_BITS  # a process that the handler forked has numbers of its own
        change = change_of(event)
        if event["event"] == "series":
            self.points.name_series(event)
        elif isinstance(change, Started):
            self._first.append(change)  # recorded with the next change, in one transaction
        elif change is not None:
            self.apply(change)

    def apply(self, *changes: Change) -> None:
        """Record changes of the run, after the points that were logged before."""
        with self._lock:
            points = self.points.pending()
            self._store.apply([*self._first, *_logged(points), *changes])
            self._first = []
            self.points.remove(len(points))

    def _write_points(self, _: int) -> None:
        if self.points.pending():  # else the run has ended, and its store may be closed
            with suppress(StorageError):  # they stay, and what is recorded next raises it
                self.apply()


class StagedPoints:
    """Points that are not in the store yet; `write` is called ten times a second at most."""

    def __init__(self, write: Callable[[int], None]) -> None:
        self._pid = os.getpid()
        self._series = itertools.count(1)
        self._attempts: dict[int, tuple[str, int, str]] = {}
        self._count = itertools.count()
        self._points: list[Point] = []
        self._throttle = Throttle(write)

    def new_series(self) -> int:
        """Return the number of another series."""
        return next(self._series)

    def name_series(self, event: dict[str, Any]) -> None:
        """Note whose points a series has."""
        self._attempts[event["series"]] = (event["run"], event["attempt"], event["name"])

    def add(self, series: int, number: int, step: int | None, value: float) -> bool:
        """Keep a point for the next transaction; a forked process has no thread that would record it."""
        if os.getpid() != self._pid:
            return False
        run, attempt, name = self._attempts[series]
        self._points.append((run, attempt, number, (name, step, value, time.time())))
        self._throttle.update(next(self._count))
        return True

    def pending(self) -> list[Point]:
        """Return the points that are not recorded yet."""
        return self._points[:]

    def remove(self, count: int) -> None:
        """Remove the first points, which are recorded now."""
        del self._points[:count]


def _logged(points: list[Point]) -> list[MetricsLogged]:
    return [MetricsLogged(run, attempt, first, tuple(values)) for run, attempt, first, values in batches(points)]
