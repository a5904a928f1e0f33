from __future__ import annotations

from typing import Any

from mlfn.dispatch.store_channel import StoreChannel


class CountingStore:
    """Counts the batches that it gets."""

    def __init__(self) -> None:
        self.batches: list[Any] = []

    def apply(self, changes: Any, **_: Any) -> list[int]:
        self.batches.append(list(changes))
        return [1] * len(changes)


def logged(store: CountingStore) -> StoreChannel:
    """Return a channel that has one point of a series."""
    channel = StoreChannel(store)  # type: ignore[arg-type]
    channel.send({"event": "series", "run": "r", "attempt": 1, "time": 1.0, "series": 1, "name": "loss"})
    channel.points.add(channel.points.new_series(), 0, 0, 0.5)
    return channel


def test_points_are_recorded_before_what_follows() -> None:
    store = CountingStore()
    channel = logged(store)

    channel.send({"event": "progress", "run": "r", "attempt": 1, "time": 2.0, "progress": {"done": 1}})

    recorded = [type(change).__name__ for batch in store.batches for change in batch]
    assert recorded == ["MetricsLogged", "Progressed"]


def test_a_late_timer_writes_nothing_twice() -> None:
    store = CountingStore()
    channel = logged(store)
    channel.apply()
    before = len(store.batches)

    channel._write_points(0)

    assert len(store.batches) == before
