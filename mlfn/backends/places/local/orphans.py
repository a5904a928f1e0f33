"""Worker processes that outlived their client: their adopter reads them from the folder that they left."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlfn.backends.places.base import EventsReceived, Report, Terminated
from mlfn.backends.places.local.exits import Exit, explain
from mlfn.host.identity import ProcessIdentity
from mlfn.worker.heartbeat import LAPSE_BEATS
from mlfn.worker.journal_reader import JournalReader, ends_in_order

_MOST_BATCHES = 8
_ELSEWHERE_LAPSE = 120.0  # the same in seconds for a worker of another host, whose process cannot be checked


class Orphan:
    """One such worker; it ends by itself after its run."""

    def __init__(self, execution: str, handle: Mapping[str, Any], cursor: str | None, *, lapse: float) -> None:
        self.id = execution
        self.is_gone = False
        self._process, self._folder = _read(handle)
        self._journal = JournalReader(self._folder / "journal", cursor)
        self._lapse = lapse
        self._kill_at: float | None = None
        self._stopped = False

    def collect(self) -> list[Report]:
        """Return new events of the journal, and `Terminated` once process and heartbeat agree."""
        # The process is checked first: all that it wrote before its end is then in what is read next.
        state = self._process.state()
        has_ended = self._has_ended(state)
        # Not all at once: it may have logged points for days.
        batches = list(itertools.islice(self._journal.read(has_ended=has_ended), _MOST_BATCHES))
        reports = [EventsReceived(self.id, events, cursor) for events, cursor in batches]
        self.is_gone = has_ended and len(batches) < _MOST_BATCHES
        if self.is_gone:
            return [*reports, Terminated(self.id, *explain(Exit(None, None, stopped=self._stopped)))]
        frozen = state == "stopped" and _has_lapsed(self._folder, self._lapse)
        if frozen or self._is_overdue():
            self._stopped = self._stopped or (frozen and self._kill_at is None)
            self._signal(os.killpg, signal.SIGKILL)
        return [*reports]

    def stop(self, grace: float) -> None:
        """SIGTERM now, SIGKILL to its group after `grace` seconds."""
        if self._kill_at is None:
            self._kill_at = time.monotonic() + grace
            self._signal(os.kill, signal.SIGTERM)

    def _has_ended(self, state: str) -> bool:
        if state == "gone" and self._kill_at is not None:
            return True
        if state == "elsewhere" and last_beat(self._folder) is None:
            return self._is_overdue()  # where the beat cannot be seen either, the user's request to stop decides
        return _agree(state, self._folder, self._lapse)

    def _is_overdue(self) -> bool:
        return self._kill_at is not None and time.monotonic() >= self._kill_at

    def _signal(self, send: Callable[[int, int], None], number: int) -> None:
        if self._process.state() in ("alive", "stopped"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                send(self._process.pid, number)


def has_ended(handle: Mapping[str, Any], *, heartbeat: float, awaited: bool) -> bool:
    """Return whether the worker of a dead client is gone, by two witnesses: process, and heartbeat or journal.

    For a worker that is `awaited`, a process that is gone is proof enough.
    """
    process, folder = _read(handle)
    state = process.state()
    return _agree(state, folder, LAPSE_BEATS * heartbeat) or (awaited and state == "gone")


def _read(handle: Mapping[str, Any]) -> tuple[ProcessIdentity, Path]:
    return ProcessIdentity(handle["host"], handle["pid"], handle["started"]), Path(handle["folder"])


def _agree(state: str, folder: Path, lapse: float) -> bool:
    if state == "elsewhere":
        return last_beat(folder) is not None and _has_lapsed(folder, _ELSEWHERE_LAPSE)
    return state == "gone" and (_has_lapsed(folder, lapse) or ends_in_order(folder / "journal"))


def _has_lapsed(folder: Path, lapse: float) -> bool:
    beat = last_beat(folder)
    return beat is None or time.time() - beat > lapse


def last_beat(folder: Path) -> float | None:
    """Return when the worker of this folder last beat; None before its first."""
    try:
        return (folder / "beat").stat().st_mtime
    except OSError:
        return None
