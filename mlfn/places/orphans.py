"""Worker processes that outlived their client: read by whoever adopts them, from the folder they left."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlfn.identity import ProcessIdentity
from mlfn.places.base import Gone, Report, Reported
from mlfn.worker.journal import read_events


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

    def news(self) -> list[Report]:
        """Return what the journal has new, and `Gone` once process and heartbeat agree."""
        # The process is looked at first: what it wrote before it ended is then surely in what is read next.
        state = self._process.state()
        reports: list[Report] = self._events()
        if state == "gone" and (self._kill_at is not None or self._lapsed()):
            self.is_gone = True
            return [*reports, Gone(self.id, lost=True)]
        if (self._kill_at is not None and time.monotonic() >= self._kill_at) or (state == "stopped" and self._lapsed()):
            self._signal_group(signal.SIGKILL)
        return reports

    def stop(self, grace: float) -> None:
        """SIGTERM now, SIGKILL to its group after `grace` seconds."""
        if self._kill_at is None:
            self._kill_at = time.monotonic() + grace
            if self._process.state() in ("alive", "stopped"):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(self._process.pid, signal.SIGTERM)

    def _events(self) -> list[Report]:
        events: list[Mapping[str, Any]] = []
        for event, offset in read_events(self._folder / "journal", self._consumed):
            events.append(event)
            self._consumed = offset
        return [Reported(self.id, tuple(events), self._consumed)] if events else []

    def _lapsed(self) -> bool:
        beat = last_beat(self._folder)
        return beat is None or time.time() - beat > self._lapse

    def _signal_group(self, number: int) -> None:
        if self._process.state() in ("alive", "stopped"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)


def last_beat(folder: Path) -> float | None:
    """Return when the worker of this folder last gave a sign of life; None before its first."""
    try:
        return (folder / "beat").stat().st_mtime
    except OSError:
        return None
