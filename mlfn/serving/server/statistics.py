"""Counts of all processes of a server, in memory that they share; and as Prometheus reads them."""

from __future__ import annotations

import json
import mmap
import os
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from pathlib import Path

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
"""Upper bounds of the histogram of durations, in seconds."""
_STATUSES = 600
_BUSY_SINCE, _WAITING, _BEAT, _READY, _STARTS, _SUM, _COUNT = range(7)
_FIRST_BUCKET = 8
_FIRST_STATUS = _FIRST_BUCKET + len(BUCKETS) + 1
_NUMBERS = _FIRST_STATUS + _STATUSES
_TEXT = 16384  # bytes of gauges
_SIZE = (_NUMBERS * 8 + _TEXT + mmap.PAGESIZE - 1) // mmap.PAGESIZE * mmap.PAGESIZE


class Statistics:
    """One slot for each process. Each writes its own; its successor counts on in it.

    They are in memory that forked processes share, or in a file for processes that are no kin of each other.
    """

    def __init__(self, slots: int, path: Path | None = None) -> None:
        self._memory = mmap.mmap(-1, _SIZE * slots) if path is None else _mapped(path, _SIZE * slots)
        whole = memoryview(self._memory)
        self._slots = [Slot(whole[i * _SIZE : (i + 1) * _SIZE]) for i in range(slots)]

    def __getitem__(self, number: int) -> Slot:
        return self._slots[number]

    def __len__(self) -> int:
        return len(self._slots)

    def prometheus(self, name: str) -> str:
        """Return all counts in Prometheus' text format."""
        return "\n".join([*_lines(self._slots, name), ""])


def _mapped(path: Path, size: int) -> mmap.mmap:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.truncate(fd, size)
        return mmap.mmap(fd, size)
    finally:
        os.close(fd)


class Slot:
    """What one process counts."""

    def __init__(self, memory: memoryview) -> None:
        self.numbers = memory[: _NUMBERS * 8].cast("d")
        self._text = memory[_NUMBERS * 8 :]

    @property
    def busy_since(self) -> float:
        """When the event began that is handled now, by the monotonic clock; 0 where none is."""
        return self.numbers[_BUSY_SINCE]

    @busy_since.setter
    def busy_since(self, value: float) -> None:
        self.numbers[_BUSY_SINCE] = value

    @property
    def is_ready(self) -> bool:
        """Whether it takes events."""
        return bool(self.numbers[_READY])

    def set_ready(self, value: float) -> None:
        """Note that it takes events, or none."""
        self.numbers[_READY] = value

    def beat(self, when: float) -> None:
        """Note that the connections are served, by the monotonic clock."""
        self.numbers[_BEAT] = when

    @property
    def last_beat(self) -> float:
        """When they were last served; 0 before the first time."""
        return self.numbers[_BEAT]

    def set_waiting(self, count: int) -> None:
        """Note how many events wait for it."""
        self.numbers[_WAITING] = count

    def begin(self) -> None:
        """Note that a process begins in this slot."""
        self.numbers[_STARTS] += 1
        for index in (_BUSY_SINCE, _WAITING, _READY, _BEAT):
            self.numbers[index] = 0

    def count(self, status: int, seconds: float) -> None:
        """Count an answer."""
        numbers = self.numbers
        numbers[_FIRST_STATUS + status] += 1
        numbers[_FIRST_BUCKET + bisect_left(BUCKETS, seconds)] += 1
        numbers[_SUM] += seconds
        numbers[_COUNT] += 1

    def set_gauges(self, gauges: Mapping[str, float]) -> None:
        """Keep the newest values of what the handler logs; as many as there is room for."""
        kept: dict[str, float] = {}
        text = b"{}"
        for name, value in gauges.items():
            kept[name] = value
            longer = json.dumps(kept).encode()
            if len(longer) + 4 > len(self._text):
                break
            text = longer
        self._text[4 : 4 + len(text)] = text
        self._text[:4] = len(text).to_bytes(4, "little")

    def gauges(self) -> dict[str, float]:
        """Return what `set_gauges` kept; nothing while it is being written."""
        size = int.from_bytes(self._text[:4], "little")
        try:
            found: dict[str, float] = json.loads(bytes(self._text[4 : 4 + size])) if size else {}
        except ValueError:
            return {}
        return found


def _lines(slots: list[Slot], name: str) -> Iterator[str]:
    function = f'function="{escaped(name)}"'
    total = [sum(slot.numbers[index] for slot in slots) for index in range(_NUMBERS)]
    yield "# HELP mlfn_requests_total Events that were answered, by status."
    yield "# TYPE mlfn_requests_total counter"
    for status in range(_STATUSES):
        if total[_FIRST_STATUS + status]:
            yield f'mlfn_requests_total{{{function},status="{status}"}} {total[_FIRST_STATUS + status]:.0f}'
    yield "# HELP mlfn_request_seconds How long answers took."
    yield "# TYPE mlfn_request_seconds histogram"
    so_far = 0.0
    for index, bound in enumerate([*BUCKETS, "+Inf"]):
        so_far += total[_FIRST_BUCKET + index]
        yield f'mlfn_request_seconds_bucket{{{function},le="{bound}"}} {so_far:.0f}'
    yield f"mlfn_request_seconds_sum{{{function}}} {total[_SUM]:.6f}"
    yield f"mlfn_request_seconds_count{{{function}}} {total[_COUNT]:.0f}"
    busy = sum(1 for slot in slots if slot.busy_since)
    restarts = sum(max(0.0, slot.numbers[_STARTS] - 1) for slot in slots)
    for metric, kind, text, value in (
        ("workers_ready", "gauge", "Workers that take events.", sum(slot.is_ready for slot in slots)),
        ("workers_busy", "gauge", "Workers that handle an event.", busy),
        ("requests_waiting", "gauge", "Events that wait for a worker.", total[_WAITING]),
        ("worker_restarts_total", "counter", "Workers that were replaced.", restarts),
    ):
        yield f"# HELP mlfn_{metric} {text}"
        yield f"# TYPE mlfn_{metric} {kind}"
        yield f"mlfn_{metric}{{{function}}} {value:.0f}"
    yield from _gauges(slots, function)


def _gauges(slots: list[Slot], function: str) -> Iterator[str]:
    found = [
        f'mlfn_metric{{{function},name="{escaped(name)}",worker="{number}"}} {value!r}'
        for number, slot in enumerate(slots)
        for name, value in sorted(slot.gauges().items())
    ]
    if found:
        yield "# HELP mlfn_metric What the function logs by ctx.log_metric: the newest value."
        yield "# TYPE mlfn_metric gauge"
        yield from found


def escaped(text: str) -> str:
    """Return a text as the value of a label."""
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
