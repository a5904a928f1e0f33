"""What else than events may be in a worker's journal: a handler can write to any descriptor of its process."""

from __future__ import annotations

import json
import os

import pytest

import mlfn
from mlfn.errors import RunError


@mlfn.function
def scribble(text: str, ctx: mlfn.Context) -> int:
    ctx.log_metric("loss", 0.5)
    os.write(journal(), text.replace("RUN", ctx.run_id).encode())
    ctx.log_metric("loss", 0.25)
    return os.getpid()


@mlfn.function
def unheard() -> int:
    """End without a word: what is reported goes where nobody reads it, but for one half of a line."""
    fd = journal()
    os.write(fd, b'{"event": "finished", "run": "half a l\n')
    os.dup2(os.open(os.devnull, os.O_WRONLY), fd)
    return 1


def journal() -> int:
    return int(next(fd for fd in os.listdir("/proc/self/fd") if is_journal(fd)))


def is_journal(fd: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}").endswith("/journal")
    except OSError:  # the one that listed them
        return False


@pytest.mark.parametrize(
    "text",
    ["a line\n", "no line", "5\n", "[1]\n", '{"event": "of somebody else"}\n', '{"a": {"event": "nested"}}\n', "\n\n"],
    ids=repr,
)
def test_what_is_no_event_is_passed_over_and_no_event_is_lost(local, text):
    run = scribble.submit(text)
    assert run.result(timeout=30)
    assert run.metrics.history("loss") == [(None, 0.5), (None, 0.25)]


@pytest.mark.parametrize(
    "text",
    [
        '{"event": "metric", "run": "RUN", "att\n',
        json.dumps({"event": "output", "run": "RUN", "attempt": 1, "time": 1.0, "output": {"what": 1}}) + "\n",
        json.dumps({"event": "metric", "run": "RUN", "attempt": 1, "time": 1.0}) + "\n",
    ],
    ids=["damaged", "an output of another kind", "a metric without a value"],
)
def test_a_run_ends_as_failed_when_a_report_of_it_makes_no_sense(local, text):
    at_one = scribble.on("local", max_workers=1)
    good, bad, behind = at_one.submit("a line\n"), at_one.submit(text), at_one.submit("a line\n")

    with pytest.raises(RunError, match="scribble: its worker sent an unreadable report"):
        bad.result(timeout=30)
    assert str(bad.record.reason) == "error"
    assert good.result(timeout=30)
    assert behind.result(timeout=30)
    assert at_one.submit("a line\n").result(timeout=30) != good.result(), "that worker is given nothing more"


def test_a_run_whose_end_is_garbled_is_not_waited_for(local):
    with pytest.raises(RunError, match="half a l"):
        unheard.submit().result(timeout=30)
    assert scribble.submit("a line\n").result(timeout=30)


def test_an_output_may_look_like_an_event(local):
    @mlfn.function
    def echo(value: dict) -> dict:
        return value

    value = {"event": "finished", "deep": [{"event": "metric", "run": ""}]}
    assert echo.submit(value).result(timeout=30) == value
