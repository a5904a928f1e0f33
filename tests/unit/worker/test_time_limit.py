"""A time limit that a process keeps itself."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from mlfn.worker import time_limit
from mlfn.worker.time_limit import TimeLimit


@pytest.fixture(autouse=True)
def _no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limit, "CLIENT_SECONDS", 0.01)


def test_a_run_is_stopped_at_its_limit() -> None:
    stopped = threading.Event()

    with TimeLimit(0.01, 60, stop=stopped.set, give_up=lambda: None) as limit:
        limit.begin()
        assert stopped.wait(20)


def test_one_that_does_not_stop_is_given_up_after_the_grace_time() -> None:
    said: list[str] = []
    given_up = threading.Event()

    with TimeLimit(0.01, 0.01, stop=lambda: said.append("stop"), give_up=given_up.set) as limit:
        limit.begin()
        assert given_up.wait(20)
    assert said == ["stop"]


def test_nothing_is_stopped_once_it_is_over() -> None:
    said: list[str] = []
    before = threading.active_count()

    with TimeLimit(0.2, 0.01, stop=lambda: said.append("stop"), give_up=lambda: said.append("given up")) as limit:
        limit.begin()
        watching = [thread for thread in threading.enumerate() if thread.name == "mlfn-time-limit"]
    for thread in watching:
        thread.join(20)

    assert (len(watching), said, threading.active_count()) == (1, [], before)


def test_without_a_limit_there_is_no_thread() -> None:
    before = threading.active_count()
    with TimeLimit(None, 1, stop=lambda: None, give_up=lambda: None) as limit:
        limit.begin()
        assert threading.active_count() == before


class Recorder:
    """A channel that keeps what is sent."""

    points = None

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, event: dict[str, Any]) -> None:
        self.sent.append(event["event"])


def test_time_before_the_run_has_started_does_not_count() -> None:
    stopped, channel = threading.Event(), Recorder()

    with TimeLimit(0.01, 60, stop=stopped.set, give_up=lambda: None) as limit:
        reports = limit.watched(channel)
        assert not stopped.wait(0.2)
        reports.send({"event": "started"})
        assert stopped.wait(20) and channel.sent == ["started"]
