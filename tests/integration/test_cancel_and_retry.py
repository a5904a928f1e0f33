"""A cancel is confirmed, once, wherever the run is; time limits, retries and failed parents end with their own words."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import mlfn
from mlfn import errors
from mlfn.dispatch.session import current_session
from mlfn.host.identity import identify
from mlfn.ui.cli.app import run_command_line
from tests.ledger import ROOT, Stage, audit, wait_until


@mlfn.function
def endless(mark: str) -> None:
    try:
        Path(mark).write_text(str(os.getpid()))
        while True:
            time.sleep(0.01)
    finally:
        Path(mark + ".finally").touch()


@mlfn.function
def deaf(mark: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "600"])
    Path(mark).write_text(f"{os.getpid()} {child.pid}")
    while True:
        time.sleep(0.01)


@mlfn.function
def value() -> int:
    return 7


@mlfn.function
def double(n: int) -> int:
    return 2 * n


@mlfn.function(retry=mlfn.Retry(3, delay=60))
def fails_slowly() -> None:
    raise ValueError("again in a minute")


def events(run: mlfn.Run) -> list[str]:
    return [what for _, _, what, _ in current_session().store.events(run.id)]


def started(mark: Path) -> list[int]:
    return [int(pid) for pid in wait_until(lambda: mark.exists() and mark.read_text()).split()]


def assert_cancelled(run: mlfn.Run) -> None:
    assert run.state == "cancelled"
    assert run.record.reason is None
    with pytest.raises(errors.RunCancelledError, match="was cancelled"):
        run.result()
    assert events(run).count("cancelled") == 1


def test_a_pending_run_is_cancelled_without_being_started(local, tmp_path):
    first = endless.on("local", max_workers=1).submit(str(tmp_path / "first"))
    started(tmp_path / "first")
    second = endless.on("local", max_workers=1).submit(str(tmp_path / "second"))

    assert second.cancel()

    assert_cancelled(second)
    assert second.attempts == []
    assert first.state == "running"


def test_a_run_that_waits_for_its_retry_is_cancelled_at_once(local):
    run = fails_slowly.submit()
    wait_until(lambda: "requeued" in events(run))

    begun = time.monotonic()
    assert run.cancel()

    assert time.monotonic() - begun < 10
    assert_cancelled(run)


def test_a_run_that_waits_for_its_parent_is_cancelled_and_stays_so(local, tmp_path):
    parent = endless.submit(str(tmp_path / "mark"))
    child = double.submit(parent.outputs.n)
    told = []
    child.add_done_callback(told.append)
    started(tmp_path / "mark")

    assert child.cancel()
    assert parent.cancel()

    assert_cancelled(child)
    assert value.submit().result(timeout=30) == 7  # the dispatcher has been round after both
    assert told == [child]


def test_a_running_handler_gets_to_its_finally_before_the_cancel_is_confirmed(local, tmp_path):
    run = endless.submit(str(tmp_path / "mark"))
    [pid] = started(tmp_path / "mark")

    assert run.cancel()

    assert (tmp_path / "mark.finally").exists()
    assert identify(pid).state() == "gone"
    assert_cancelled(run)


def test_who_ignores_sigterm_is_killed_after_the_grace_time_with_its_children(local, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFN_GRACE", "0.3")
    run = deaf.submit(str(tmp_path / "mark"))
    pids = started(tmp_path / "mark")

    begun = time.monotonic()
    assert run.cancel()

    assert time.monotonic() - begun >= 0.3
    assert_cancelled(run)
    for pid in pids:
        wait_until(lambda pid=pid: identify(pid).state() == "gone")


def test_another_process_cancels(local, tmp_path):
    run = endless.submit(str(tmp_path / "mark"))
    [pid] = started(tmp_path / "mark")

    done = subprocess.run(
        [sys.executable, "-c", f"import mlfn; assert mlfn.run({run.id[:12]!r}).cancel()"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert identify(pid).state() == "gone"
    assert_cancelled(run)


ORPHAN = """
import os, sys, time, mlfn
from mlfn.host.cores import usable_cores

@mlfn.function(name="endless")
def endless(ledger: str, ctx: mlfn.Context):
    note(ledger, "start", ctx)
    try:
        while True:
            time.sleep(0.01)
    finally:
        note(ledger, "finally", ctx)

if sys.argv[2] == "submit":
    endless.submit(sys.argv[1]), endless.with_options(cpu=usable_cores()).submit(sys.argv[1])
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.005)
    os.kill(os.getpid(), 9)
for run in mlfn.runs():
    assert run.cancel(), run
"""


def test_a_run_of_a_dead_client_is_cancelled_by_whoever_asks(tmp_path):
    stage = Stage(tmp_path, ORPHAN, heartbeat=0.2)
    stage.run("submit", code=-signal.SIGKILL)
    assert len(stage.workers()) == 1

    stage.run("cancel")

    assert stage.query("SELECT state FROM runs") == [("cancelled",), ("cancelled",)]
    assert [what for what, *_ in stage.entries()] == ["start", "finally"]
    audit(stage, runs=2)


def test_of_a_cancel_and_an_end_at_the_same_time_exactly_one_wins(local, tmp_path):
    @mlfn.function
    def brief(mark: str) -> int:
        Path(mark).write_text("1")
        time.sleep(0.03)
        return 1

    winners = []
    for index in range(50):
        run = brief.submit(str(tmp_path / f"mark{index}"))
        started(tmp_path / f"mark{index}")
        time.sleep(0.0008 * index)  # the race is against the clock: there is nothing to wait for
        cancelled = run.cancel()
        state = str(run.state)
        winners.append(state)
        assert state in ("succeeded", "cancelled")
        assert cancelled == (state == "cancelled")
        ends = [what for what in events(run) if what in ("succeeded", "failed", "cancelled")]
        assert ends == [state]

    assert set(winners) == {"succeeded", "cancelled"}


def test_a_time_limit_ends_the_run_with_its_own_words(local, tmp_path):
    run = endless.with_options(timeout=0.4).submit(str(tmp_path / "mark"))

    error = run.exception(timeout=30)

    assert (str(run.state), str(run.record.reason)) == ("failed", "timeout")
    assert isinstance(error, TimeoutError)
    assert "0.4 s" in str(error)
    assert (tmp_path / "mark.finally").exists()


def test_a_retry_waits_longer_each_time_and_then_succeeds(local):
    @mlfn.function(retry=mlfn.Retry(3, delay=0.2, backoff=2))
    def third(ctx: mlfn.Context) -> int:
        if ctx.attempt < 3:
            raise ConnectionError(f"attempt {ctx.attempt}")
        return ctx.attempt

    run = third.submit()

    assert run.result(timeout=30) == 3
    first, second, last = run.attempts
    assert 0.2 <= second.started - first.ended < 0.2 + 1.0
    assert 0.4 <= last.started - second.ended < 0.4 + 1.0
    assert [a.state for a in run.attempts] == ["failed", "failed", "succeeded"]
    assert run.record.reason is None and run.error is None


@pytest.mark.parametrize(("raised", "attempts"), [("ConnectionResetError", 3), ("KeyError", 1)])
@pytest.mark.parametrize("named", [ConnectionError, "ConnectionError", "builtins.ConnectionError"])
def test_only_what_the_policy_names_is_tried_again(local, raised, attempts, named):
    @mlfn.function(retry=mlfn.Retry(2, delay=0.01, on=[named]))
    def fail(name: str) -> None:
        raise getattr(__builtins__, name, None) or __import__("builtins").__dict__[name]("x")

    run = fail.submit(raised)

    assert type(run.exception(timeout=30)).__name__ == raised
    assert len(run.attempts) == attempts


def test_a_retry_by_reason_covers_a_worker_that_died(local):
    @mlfn.function(mem="200Mi", retry=mlfn.Retry(1, delay=0.01, on=["oom"]))
    def hungry(ctx: mlfn.Context) -> int:
        if ctx.attempt == 1:
            bytearray(1 << 30)
        return ctx.attempt

    assert hungry.submit().result(timeout=30) == 2


def test_a_retry_with_more_memory_has_room(local, capsys):
    @mlfn.function(mem="200Mi", retry=mlfn.Retry(1, delay=0.01, on=["oom"], mem="x4"))
    def hungry() -> int:
        return len(bytearray(400 << 20))

    run = hungry.submit()

    assert run.result(timeout=30) == 400 << 20
    assert run_command_line(["show", run.id]) == 0
    shown = capsys.readouterr().out
    assert "failed (oom)" in shown and "mem=200Mi" in shown and "mem=800Mi" in shown
    assert run_command_line(["--json", "show", run.id]) == 0
    assert [item["mem"] for item in json.loads(capsys.readouterr().out)["attempts"]] == [200 << 20, 800 << 20]


def test_a_failed_parent_fails_its_child_by_name(local):
    @mlfn.function
    def parent() -> int:
        raise ValueError("no")

    first = parent.submit()
    child = double.submit(first.outputs.n)
    grandchild = double.submit(child.outputs.n)

    error = child.exception(timeout=30)
    assert isinstance(error, errors.ParentFailedError)
    assert "parent" in str(error) and first.id[:8] in str(error)
    assert isinstance(grandchild.exception(timeout=30), errors.ParentFailedError)
    assert child.attempts == []


def test_many_threads_may_cancel_the_same_run(local, tmp_path):
    run = endless.submit(str(tmp_path / "mark"))
    started(tmp_path / "mark")
    answers = []

    threads = [threading.Thread(target=lambda: answers.append(mlfn.run(run.id).cancel())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert answers == [True] * 8
    assert events(run).count("cancel requested") == 1
    assert_cancelled(run)
