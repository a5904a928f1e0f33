"""A journal and its reader: numbered lines, staged points among them, cursors, damage, forks and threads."""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import random
import resource
import signal
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from mlfn.artifacts.codec import Codec
from mlfn.errors import ParameterError
from mlfn.worker import points as points_module
from mlfn.worker.context import Context
from mlfn.worker.journal import Journal
from mlfn.worker.journal_reader import JournalReader
from mlfn.worker.points import RECORD, STORAGE_EXIT, points_path
from mlfn.worker.reporter import RunReporter
from mlfn.worker.task import Task

Event = dict[str, Any]


class Attempt:
    """An attempt as a worker runs it, and its journal's reader."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = Journal(path)
        self.reader = JournalReader(path)

    def context(self, run: str = "r", **task: Any) -> Context:
        reporter = RunReporter(Task(run, 1, {}, **task), Codec.__new__(Codec), self.journal, {}, lambda *_: None)
        reporter.send("started")
        return Context(reporter=reporter)

    def end(self, run: str = "r") -> None:
        self.journal.send({"event": "finished", "run": run, "attempt": 1, "time": 1.0})

    def read(self, **how: bool) -> list[Event]:
        return [event for events, _ in self.reader.read(**how) for event in events]


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    return Attempt(tmp_path / "journal")


def points(events: list[Event], run: str = "r") -> Iterator[tuple[int, str, int | None, float]]:
    """Yield number, name, step and value of each point, in the order in which they arrive."""
    for event in events:
        if event["run"] == run and event["event"] == "metrics":
            for number, (name, step, value, _) in enumerate(event["points"], event["first"]):
                yield number, name, step, value
        elif event["run"] == run and event["event"] == "metric":
            yield event["number"], event["name"], event["step"], event["value"]


def kinds(events: list[Event]) -> list[str]:
    return [event["event"] for event in events]


def in_child(action: Any) -> int:
    """Do something in a forked process, and return its exit code."""
    pid = os.fork()
    if not pid:
        try:
            action()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# -- lines -------------------------------------------------------------------------------------------------------------


def test_lines_are_numbered_within_their_attempt(attempt: Attempt) -> None:
    for run in "ab":
        ctx = attempt.context(run)
        ctx.reporter.progress(1, 2, "")
        attempt.end(run)
    attempt.journal.send({"event": "left", "run": "", "attempt": 0, "time": 1.0})

    *events, left = attempt.read()

    assert [(event["run"], event["line"]) for event in events] == [(run, line) for run in "ab" for line in range(3)]
    assert "line" not in left


def test_a_childs_lines_are_its_own(attempt: Attempt) -> None:
    ctx = attempt.context()
    with ctx.child() as child:
        child.log_metric("loss", 0.5)
        ctx.log_metric("loss", 0.25)
    attempt.end()

    events = [json.loads(line) for line in attempt.path.read_text().splitlines()]
    lines = {run: [event["line"] for event in events if event["run"] == run] for run in ("r", child.run_id)}
    assert lines == {"r": [0, 1, 2], child.run_id: [0, 1, 2]}


def test_forked_processes_number_lines_in_turn(attempt: Attempt) -> None:
    ctx = attempt.context()

    assert in_child(lambda: [ctx.reporter.progress(1, 2, "") for _ in range(3)]) == 0
    ctx.reporter.progress(2, 2, "")
    attempt.end()

    assert [event["line"] for event in attempt.read()] == list(range(6))


# -- points ------------------------------------------------------------------------------------------------------------

VALUES = [0.0, -0.0, 1e308, 5e-324, math.inf, -math.inf, math.nan]


def test_points_arrive_as_they_were_logged(attempt: Attempt) -> None:
    ctx = attempt.context()
    for number, value in enumerate(VALUES):
        ctx.log_metric("val/loss@1", value, step=number - 3)
        ctx.log_metric("other", np.float32(0.1))
    attempt.end()

    found = list(points(attempt.read()))

    assert [number for number, *_ in found] == list(range(2 * len(VALUES)))
    assert [(name, step) for _, name, step, _ in found[::2]] == [("val/loss@1", i - 3) for i in range(len(VALUES))]
    assert [struct.pack("d", value) for *_, value in found[::2]] == [struct.pack("d", value) for value in VALUES]
    assert {(name, step, value) for _, name, step, value in found[1::2]} == {("other", None, float(np.float32(0.1)))}


@pytest.mark.parametrize("step", [2**63 - 1, -(2**63), np.int32(7), True])
def test_every_step_of_64_bits_is_kept(attempt: Attempt, step: Any) -> None:
    attempt.context().log_metric("loss", 1, step=step)

    assert list(points(attempt.read())) == [(0, "loss", int(step), 1.0)]


def test_a_longer_step_is_refused(attempt: Attempt) -> None:
    ctx = attempt.context()

    with pytest.raises(ParameterError, match="64 bits"):
        ctx.log_metric("loss", 1, step=2**63)
    assert list(points(attempt.read())) == []


def test_points_are_read_live_in_batches(attempt: Attempt) -> None:
    ctx = attempt.context()
    for step in range(2500):
        ctx.log_metric("loss", step)

    events = attempt.read()

    assert kinds(events) == ["started", "metrics", "metrics", "metrics"]
    assert [len(event["points"]) for event in events[1:]] == [1000, 1000, 500]
    assert attempt.read() == []
    ctx.log_metric("loss", 7)
    assert list(points(attempt.read())) == [(2500, "loss", None, 7.0)]


def test_points_precede_the_end_of_their_attempt(attempt: Attempt) -> None:
    for run in "ab":
        ctx = attempt.context(run)
        with ctx.child() as child:
            child.log_metric("loss", 1)
        ctx.log_metric("loss", 2)
        attempt.end(run)

    batches = list(attempt.reader.read())

    assert [kinds(list(events)) for events, _ in batches] == [
        ["started", "child", "metrics", "child_end", "metrics"],
        ["finished", "started", "child", "metrics", "child_end", "metrics"],
        ["finished"],
    ]


def test_a_judged_point_is_an_event_in_its_place(attempt: Attempt) -> None:
    ctx = attempt.context(judged="loss")
    for name in ("other", "loss", "other"):
        ctx.log_metric(name, 1)

    events = attempt.read()

    assert kinds(events) == ["started", "metrics", "metric", "metrics"]
    assert [number for number, *_ in points(events)] == [0, 1, 2]


def test_points_of_two_runs_do_not_mix(attempt: Attempt) -> None:
    ctx = attempt.context()
    with ctx.child() as child:
        for step in range(1500):
            child.log_metric("loss", -step)
            ctx.log_metric("loss", step)
    attempt.end()

    events = attempt.read()

    assert list(points(events)) == [(step, "loss", None, step) for step in range(1500)]
    assert list(points(events, child.run_id)) == [(step, "loss", None, -step) for step in range(1500)]
    assert kinds(events).count("metrics") == 6


def test_threads_lose_no_point(attempt: Attempt) -> None:
    ctx = attempt.context()
    count, threads = 6000, 4

    def log(name: str) -> None:
        for step in range(count):
            ctx.log_metric(name, step)

    at_work = [threading.Thread(target=log, args=(f"thread{index}",)) for index in range(threads)]
    for thread in at_work:
        thread.start()
    events = []
    while any(thread.is_alive() for thread in at_work):
        events += attempt.read()
    attempt.end()
    events += attempt.read()

    found = list(points(events))
    assert sorted(number for number, *_ in found) == list(range(count * threads))
    for index in range(threads):
        mine = sorted((number, value) for number, name, _, value in found if name == f"thread{index}")
        assert [value for _, value in mine] == list(range(count))


# -- cursors -----------------------------------------------------------------------------------------------------------


def test_each_cursor_goes_on_where_it_says(attempt: Attempt) -> None:
    for run in "ab":
        ctx = attempt.context(run)
        for step in range(1500):
            ctx.log_metric("loss", step)
        attempt.end(run)
    batches = list(attempt.reader.read())

    for index, (_, cursor) in enumerate(batches):
        rest = [event for events, _ in JournalReader(attempt.path, cursor).read() for event in events]
        assert rest == [event for events, _ in batches[index + 1 :] for event in events]


def test_an_offset_alone_is_a_cursor(attempt: Attempt) -> None:
    attempt.context()
    offset = attempt.path.stat().st_size
    attempt.end()

    events = [event for events, _ in JournalReader(attempt.path, str(offset)).read() for event in events]

    assert kinds(events) == ["finished"]


def test_a_successor_knows_series_of_before(attempt: Attempt) -> None:
    ctx = attempt.context()
    ctx.log_metric("loss", 1)
    [(_, cursor)] = attempt.reader.read()
    ctx.log_metric("loss", 2)

    attempt.reader = JournalReader(attempt.path, cursor)

    assert list(points(attempt.read())) == [(1, "loss", None, 2.0)]


def test_a_reader_may_stop_between_batches(attempt: Attempt) -> None:
    ctx = attempt.context()
    for step in range(45_000):
        ctx.log_metric("loss", step)
    attempt.end()

    batches = []
    while batch := list(itertools.islice(attempt.reader.read(), 1)):
        batches += batch

    events = [event for events, _ in batches for event in events]
    assert [value for *_, value in points(events)] == list(range(45_000))
    assert (len(batches), kinds(events)[-1]) == (4, "finished")


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_an_abandoned_slot_hides_nothing(attempt: Attempt) -> None:
    ctx = attempt.context()
    ctx.log_metric("loss", 1)
    next(attempt.journal.points._slots)  # as where a signal's exception comes before the record
    ctx.log_metric("loss", 2)

    assert len(list(points(attempt.read()))) == 1
    attempt.end()
    assert list(points(attempt.read())) == [(1, "loss", None, 2.0)]


def test_what_a_killed_worker_left_is_read(attempt: Attempt) -> None:
    ctx = attempt.context()
    ctx.log_metric("loss", 1)
    next(attempt.journal.points._slots)
    ctx.log_metric("loss", 2)

    assert list(points(attempt.read(has_ended=True))) == [(0, "loss", None, 1.0), (1, "loss", None, 2.0)]


@pytest.mark.parametrize("seed", range(10))
def test_a_kill_loses_no_point(tmp_path: Path, seed: int) -> None:
    noted = os.open(tmp_path / "noted", os.O_CREAT | os.O_RDWR)
    pid = os.fork()
    if not pid:
        log_without_end(Attempt(tmp_path / "journal").context(), noted)
    wait_for_size(noted, 8 * random.Random(seed).randrange(1, 300))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

    reader = JournalReader(tmp_path / "journal")
    found = list(points([event for events, _ in reader.read(has_ended=True) for event in events]))

    returned = int.from_bytes(os.pread(noted, 8, os.fstat(noted).st_size - 8), sys.byteorder)
    assert len(found) >= returned
    assert found == [(number, "loss", number, number / 8) for number in range(len(found))]
    os.close(noted)


def log_without_end(ctx: Context, noted: int) -> NoReturn:
    """Log points, and note after every 100th how many calls have returned."""
    for number in itertools.count():
        ctx.log_metric("loss", number / 8, step=number)
        if number % 100 == 99:
            os.write(noted, (number + 1).to_bytes(8, sys.byteorder))
    raise AssertionError


def wait_for_size(fd: int, size: int) -> None:
    until = time.monotonic() + 30
    while os.fstat(fd).st_size < size:
        assert time.monotonic() < until
        time.sleep(0.001)


def test_a_point_after_its_attempts_end_delays_no_other(attempt: Attempt) -> None:
    late = attempt.context("a")
    late.log_metric("loss", 1)
    attempt.end("a")
    late.log_metric("loss", 2)
    attempt.context("b").log_metric("loss", 3)
    attempt.end("b")

    events = attempt.read()

    assert list(points(events, "a")) == [(0, "loss", None, 1.0)]
    assert list(points(events, "b")) == [(0, "loss", None, 3.0)]


def test_a_forked_process_loses_and_overwrites_nothing(attempt: Attempt) -> None:
    ctx = attempt.context()
    ctx.log_metric("loss", 0)

    def log() -> None:
        for step in range(100):
            ctx.log_metric("loss", step, step=step)
            ctx.log_metric("forked", step)

    codes = [in_child(log) for _ in range(2)]
    for step in range(100):
        ctx.log_metric("loss", step)
    attempt.end()

    found = list(points(attempt.read()))
    assert codes == [0, 0]
    assert len({number for number, *_ in found}) == len(found) == 501
    assert [value for number, _, _, value in found if number <= 100] == [0.0, *range(100)]
    assert [value for _, name, _, value in found if name == "forked"] == [*range(100)] * 2


def test_a_full_disk_ends_the_worker(tmp_path: Path) -> None:
    noted = os.open(tmp_path / "noted", os.O_CREAT | os.O_RDWR)

    def log() -> None:
        ctx = Attempt(tmp_path / "journal").context()
        ctx.log_metric("loss", 0, step=0)
        size = points_path(tmp_path / "journal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))  # what a full disk is to a writer
        for step in itertools.count(1):
            ctx.log_metric("loss", step, step=step)
            os.pwrite(noted, step.to_bytes(8, sys.byteorder), 0)

    assert in_child(log) == STORAGE_EXIT

    reader = JournalReader(tmp_path / "journal")
    found = list(points([event for events, _ in reader.read(has_ended=True) for event in events]))
    last = int.from_bytes(os.pread(noted, 8, 0), sys.byteorder)
    assert [value for *_, value in found] == list(range(last + 1))
    os.close(noted)


@pytest.mark.parametrize("unsupported", ["mmap", "fallocate", "no fallocate"])
def test_a_file_system_without_it_keeps_points(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch, unsupported: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EOPNOTSUPP if unsupported == "fallocate" else errno.ENODEV, "not here")

    if unsupported == "no fallocate":
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    else:
        monkeypatch.setattr(
            *((points_module.mmap, "mmap") if unsupported == "mmap" else (os, "posix_fallocate")), refuse
        )
    ctx = attempt.context()
    for step in range(3):
        ctx.log_metric("loss", step)
    attempt.end()

    events = attempt.read()

    assert list(points(events)) == [(step, "loss", None, step) for step in range(3)]
    assert ("metric" in kinds(events)) == (unsupported == "mmap")


def test_room_is_allocated_before_it_is_mapped(attempt: Attempt) -> None:
    attempt.context().log_metric("loss", 1)

    file = points_path(attempt.path).stat()

    assert file.st_blocks * 512 >= file.st_size >= RECORD.size
