"""Reads what a worker has journaled: its lines, and the points beside them as events among these.

A cursor says up to where: ``offset:slots``, the journal's offset and how many slots of the file of points are read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mlfn.worker.points import WITH_STEP, Point, Record, batches, points_path, read_records

Event = dict[str, Any]
_BEGIN = b'{"event": '  # as `json.dumps` begins what a journal gets
_LAST_BYTES = 512  # more than the last line of a worker that ends in order takes
_ALWAYS = {"event", "run", "attempt", "time"}
_BATCH = 1000  # points of an event, at most
_FULL = 20  # events of a batch, from which on it is not made longer by points


class JournalReader:
    """Reads one journal on from where it was read to."""

    def __init__(self, path: Path, cursor: str | None = None) -> None:
        offset, _, slots = (cursor or "").partition(":")
        self._path = path
        self._offset, self._slots = int(offset or 0), int(slots or 0)
        self._series: dict[int, tuple[str, int, str]] = {}  # run, attempt and name
        for event, _ in read_events(path, 0, until=self._offset):
            self._note_series(event)

    @property
    def cursor(self) -> str:
        """Up to where it is read."""
        return f"{self._offset}:{self._slots}"

    def read(self, *, has_ended: bool = False) -> Iterator[tuple[tuple[Event, ...], str]]:
        """Yield new events in batches, each with the cursor after it; an attempt's end begins a batch.

        Where the worker `has_ended`, all that it left is read. A reader that stops between two batches reads on there.
        """
        events: list[Event] = []
        for event, after in read_events(self._path, self._offset):
            ends = event["event"] == "finished"
            if (staged := event.pop("staged", None)) is not None:
                for points in self._points(staged, skip_empty=ends):
                    events += points
                    if len(events) >= _FULL:
                        yield tuple(events), self.cursor
                        events = []
            if ends and events:
                yield tuple(events), self.cursor
                events = []
            self._offset = after
            self._note_series(event)
            if event["event"] != "series":
                events.append(event)
        for points in self._points(None, skip_empty=has_ended) if self._series else ():
            events += points
            if len(events) >= _FULL:
                yield tuple(events), self.cursor
                events = []
        if events:
            yield tuple(events), self.cursor

    def _note_series(self, event: Event) -> None:
        if event["event"] == "series":
            self._series[event["series"]] = (event["run"], event["attempt"], event["name"])
        elif event["event"] == "finished":
            self._series.clear()  # that attempt's, and its children's

    def _points(self, until: int | None, *, skip_empty: bool) -> Iterator[list[Event]]:
        """Yield the points up to a slot, or all; an empty slot ends them, unless it stays empty."""
        try:
            fd = os.open(points_path(self._path), os.O_RDONLY)
        except FileNotFoundError:
            return
        try:
            while (count := _BATCH if until is None else min(_BATCH, until - self._slots)) > 0:
                records = read_records(fd, self._slots, count)
                known = records if skip_empty else records[: self._first_unknown(records)]
                self._slots += len(known)
                yield self._events(known)
                if len(known) < count:
                    return
        finally:
            os.close(fd)

    def _first_unknown(self, records: Sequence[Record | None]) -> int:
        """Return the index of the first slot that is empty yet, or whose series is not read yet."""
        series = self._series
        unknown = (i for i, record in enumerate(records) if record is None or record[4] & ~WITH_STEP not in series)
        return next(unknown, len(records))

    def _events(self, records: Sequence[Record | None]) -> list[Event]:
        return [
            {
                "event": "metrics",
                "run": run,
                "attempt": attempt,
                "time": values[-1][3],
                "first": first,
                "points": values,
            }
            for run, attempt, first, values in batches(self._named(records))
        ]

    def _named(self, records: Sequence[Record | None]) -> Iterator[Point]:
        """Yield the points of records, but for slots of threads that were stopped and of attempts that have ended."""
        for record in records:
            if record is None or (series := self._series.get(record[4] & ~WITH_STEP)) is None:
                continue
            step, value, time, number, marked = record
            run, attempt, name = series
            yield run, attempt, number, (name, step if marked & WITH_STEP else None, value, time)


def read_events(path: Path, offset: int, *, until: int | None = None) -> Iterator[tuple[Event, int]]:
    """Yield whole events from `offset` on, each with the offset after it; a half-written line stays for later.

    A damaged line is an event of its own, ``garbled``.
    """
    if until is not None and offset >= until:
        return
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
            if (event := event_of(line)) is not None:
                if event["event"] == "metric":
                    event.setdefault("number", offset)  # of a worker that numbers no points
                yield event, offset
            if until is not None and offset >= until:
                return


def ends_in_order(path: Path) -> bool:
    """Return whether a worker's last event is that it ends."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LAST_BYTES))
            lines = file.read().splitlines(keepends=True)
    except OSError:
        return False
    last = event_of(lines[-1]) if lines and lines[-1].endswith(b"\n") else None
    return last is not None and last["event"] == "left"


def event_of(line: bytes) -> Event | None:
    """Return the event of a line, None where it has none: a handler may have written to the descriptor before it."""
    start = 0
    while start >= 0:
        try:
            found = json.loads(line[start:].decode())  # from bytes, `loads` would guess their encoding
        except ValueError:
            start = line.find(_BEGIN, start + 1)
        else:
            return found if isinstance(found, dict) and found.keys() >= _ALWAYS else None
    if (start := line.find(_BEGIN)) < 0:
        return None
    text = line[start:][:200].decode(errors="backslashreplace")
    return {"event": "garbled", "run": "", "attempt": 0, "time": 0.0, "line": text}
