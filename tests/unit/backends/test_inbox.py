"""`Inbox`: what wakes `collect`, and when it looks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from mlfn.backends.places.base import Report, Terminated
from mlfn.backends.places.inbox import Inbox
from mlfn.spec.record import Reason


def ended(name: str) -> Iterator[Report]:
    yield Terminated(name, Reason.ERROR, "")


def names(reports: list[Report]) -> list[str]:
    return [report.execution for report in reports]


def test_all_messages_that_are_there_are_taken_in_order() -> None:
    inbox: Inbox[str] = Inbox(ended)
    for name in "abc":
        inbox.put(name)

    assert names(inbox.collect(10)) == ["a", "b", "c"]
    assert inbox.collect(0) == []


def test_a_message_of_another_thread_ends_the_wait() -> None:
    inbox: Inbox[str] = Inbox(ended)
    threading.Timer(0.05, inbox.put, ["a"]).start()

    assert names(inbox.collect(10)) == ["a"]


def test_waking_returns_without_a_report_once() -> None:
    inbox: Inbox[str] = Inbox(ended)
    inbox.wake()

    begun = time.monotonic()
    assert inbox.collect(10) == []
    assert time.monotonic() - begun < 5
    inbox.put("a")
    assert names(inbox.collect(10)) == ["a"]


def test_a_message_that_comes_to_nothing_does_not_end_the_wait() -> None:
    inbox: Inbox[str] = Inbox(lambda name: iter(()) if name == "quiet" else ended(name))
    inbox.put("quiet")
    threading.Timer(0.05, inbox.put, ["a"]).start()

    assert names(inbox.collect(10)) == ["a"]


def test_it_looks_at_once_and_then_every_so_many_seconds() -> None:
    looked: list[float] = []

    def look() -> Iterator[Report]:
        looked.append(time.monotonic())
        if len(looked) % 2 == 0:
            yield from ended("found")

    inbox: Inbox[str] = Inbox(ended, look)
    assert names(inbox.collect(10, every=0.1)) == ["found"]
    assert looked[1] - looked[0] >= 0.1

    inbox.look_soon()
    assert inbox.collect(0, every=60) == []
    assert len(looked) == 3, "at once, although nothing came"
    assert inbox.collect(0, every=60) == []
    assert len(looked) == 3
