"""A run in a thread of somebody else's process: its output, how it is stopped, what it reports."""

from __future__ import annotations

import contextvars
import io
import threading
import time
from typing import Any

import pytest

from mlfn.worker import hosted
from mlfn.worker.context import Cancelled
from mlfn.worker.hosted import BufferedChannel, Interrupt, Output, RoutedStream
from tests.ledger import wait_until


def test_a_request_raises_in_its_thread():
    box: list[Any] = []

    def work() -> None:
        box.append(Interrupt())
        try:
            while True:
                time.sleep(0.001)
        except Cancelled:
            box.append("stopped")
        box[0].close()

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: box)

    assert box[0].request()
    thread.join(10)

    assert box[1] == "stopped"
    assert not box[0].request()


def test_a_late_request_reaches_nothing_after():
    interrupt = Interrupt()
    stopping = threading.Thread(target=interrupt.request)

    try:
        stopping.start()
        stopping.join()
    except Cancelled:  # it may arrive at once
        pass
    interrupt.close()

    assert sum(range(100_000)) == 4999950000


def test_a_second_request_raises_nothing():
    interrupt = Interrupt()
    seen = 0
    for _ in range(2):
        try:
            thread = threading.Thread(target=interrupt.request)
            thread.start()
            thread.join()
            time.sleep(0.01)
        except Cancelled:
            seen += 1
    interrupt.close()

    assert seen == 1


def event(what: str, **facts: Any) -> dict[str, Any]:
    return {"event": what, "run": "r", "attempt": 1, "time": 1.0, **facts}


def test_events_leave_together_and_in_order():
    posted: list[Any] = []
    channel = BufferedChannel(lambda first, events: posted.append((first, events)), lambda: None)

    channel.send(event("started"))
    assert posted == []
    channel.flush()
    for step in range(3):
        channel.send(event("metric", name="loss", step=step, value=step / 2, number=step))
    channel.send(event("finished"))

    assert [(first, [item["event"] for item in events]) for first, events in posted] == [
        (0, ["started"]),
        (1, ["metrics", "finished"]),
    ]
    assert posted[1][1][0]["points"] == [("loss", step, step / 2, 1.0) for step in range(3)]


def test_a_gap_in_the_numbers_begins_another_batch():
    posted: list[Any] = []
    channel = BufferedChannel(lambda _, events: posted.extend(events), lambda: None)

    for number in (0, 1, 5, 6):
        channel.send(event("metric", name="loss", step=None, value=1.0, number=number))
    channel.flush()

    assert [(item["first"], len(item["points"])) for item in posted] == [(0, 2), (5, 2)]


@pytest.fixture
def stream() -> tuple[io.StringIO, RoutedStream]:
    original = io.StringIO()
    return original, RoutedStream(original)


def within(output: Output, action: Any) -> None:
    def run() -> None:
        hosted._output.set(output)
        action()

    contextvars.copy_context().run(run)


def test_what_a_run_prints_goes_to_its_log(stream, tmp_path):
    original, routed = stream
    outputs = [Output(str(tmp_path / "logs" / name), ()) for name in ("one", "two")]

    for output, text in zip(outputs, ("first", "second"), strict=True):
        within(output, lambda text=text: print(text, file=routed))
    print("outside", file=routed)

    assert [(tmp_path / "logs" / name).read_text() for name in ("one", "two")] == ["first\n", "second\n"]
    assert original.getvalue() == "outside\n"


def test_a_line_without_an_end_is_kept(stream, tmp_path):
    _, routed = stream
    output = Output(str(tmp_path / "log"), ())

    within(output, lambda: print("half", end="", file=routed))
    assert not (tmp_path / "log").exists()
    output.close()

    assert (tmp_path / "log").read_text() == "half"


def test_a_silent_run_has_no_log(tmp_path):
    Output(str(tmp_path / "log"), ()).close()

    assert not (tmp_path / "log").exists()


def test_a_secret_is_masked_across_writes(stream, tmp_path):
    _, routed = stream
    output = Output(str(tmp_path / "log"), ("hunter-two",))

    within(output, lambda: (routed.write("it is hun"), routed.flush(), routed.write("ter-two!\n")))
    output.close()

    assert (tmp_path / "log").read_text() == "it is ***!\n"


def test_an_attempt_stopped_before_is_not_begun():
    assert not hosted.stop("never-here-1")
    assert "never-here-1" in hosted._stopped
