"""Worker processes that outlived their client: read by whoever adopts them, from the folder they left."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from mlfn.identity import ProcessIdentity
from mlfn.places.base import Gone, Report
from mlfn.places.reports import read_reports
from mlfn.worker.journal import ends_in_order

LAPSE_BEATS = 3  # heartbeats without a sign of life after which a worker's heartbeat has lapsed
_ELSEWHERE_LAPSE = 120.0  # seconds without a beat after which a worker that only its host could look for counts as gone


class Orphan:
    """One such worker; it ends by itself after its run, since nobody sends it another."""

    def __init__(self, worker: str, process: ProcessIdentity, folder: Path, consumed: int, *, lapse: float) -> None:
        self.id = worker
        self.is_gone = False
        self._process = process
        self._folder = folder
        self._consumed = consumed
        self._lapse = lapse
        self._kill_at: float | None = None
        self._stopped = False
        self._left = False  # it wrote that it is about to end: as good a witness as a heartbeat that lapsed

    def news(self) -> list[Report]:
        """Return what the journal has new, and `Gone` once process and heartbeat agree."""
        # The process is looked at first: what it wrote before it ended is then surely in what is read next.
        state = self._process.state()
        reports: list[Report] = self._events()
        if self._is_over(state):
            self.is_gone = True
            return [*reports, Gone(self.id, lost=True, stopped=self._stopped)]
        frozen = state == "stopped" and self._lapsed()
        if frozen or self._overdue():
            self._stopped = self._stopped or (frozen and self._kill_at is None)
            self._signal_group(signal.SIGKILL)
        return reports

    def stop(self, grace: float) -> None:
        """SIGTERM now, SIGKILL to its group after `grace` seconds."""
        if self._kill_at is None:
            self._kill_at = time.monotonic() + grace
            if self._process.state() in ("alive", "stopped"):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(self._process.pid, signal.SIGTERM)

    def _is_over(self, state: str) -> bool:
        if state == "gone":
            return self._kill_at is not None or self._left or self._lapsed()
        if state == "elsewhere":
            # Nobody here can look for the process: its own beat, where it can be seen, has to be long silent, or a
            # user has to want the end of it.
            beat = last_beat(self._folder)
            return self._overdue() if beat is None else time.time() - beat > _ELSEWHERE_LAPSE
        return False

    def _overdue(self) -> bool:
        return self._kill_at is not None and time.monotonic() >= self._kill_at

    def _events(self) -> list[Report]:
        reports = read_reports(self.id, self._folder / "journal", self._consumed)
        if reports:
            self._consumed = reports[-1].consumed
            self._left = reports[-1].events[-1]["event"] == "left"
        return [*reports]

    def _lapsed(self) -> bool:
        beat = last_beat(self._folder)
        return beat is None or time.time() - beat > self._lapse

    def _signal_group(self, number: int) -> None:
        if self._process.state() in ("alive", "stopped"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)


def is_gone(process: ProcessIdentity, folder: Path, *, heartbeat: float) -> bool:
    """Say whether a worker that its client left is gone, as two witnesses tell."""
    state, beat = process.state(), last_beat(folder)
    if state == "elsewhere":
        return beat is not None and time.time() - beat > _ELSEWHERE_LAPSE
    if state != "gone":
        return False
    return beat is None or time.time() - beat > LAPSE_BEATS * heartbeat or ends_in_order(folder / "journal")


def last_beat(folder: Path) -> float | None:
    """Return when the worker of this folder last gave a sign of life; None before its first."""
    try:
        return (folder / "beat").stat().st_mtime
    except OSError:
        return None
