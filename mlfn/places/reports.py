"""What a worker's journal has new, as reports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlfn.places.base import Reported
from mlfn.worker.journal import read_events


def read_reports(worker: str, journal: Path, consumed: int) -> list[Reported]:
    """Return the events from `consumed` on; an attempt's end is a report of its own, which can be held back."""
    reports: list[Reported] = []
    events: list[Mapping[str, Any]] = []
    for event, offset in read_events(journal, consumed):
        if event["event"] == "finished" and events:
            reports.append(Reported(worker, tuple(events), consumed))
            events = []
        events.append(event)
        consumed = offset
    if events:
        reports.append(Reported(worker, tuple(events), consumed))
    return reports
