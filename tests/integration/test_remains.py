"""What a killed client left is in the store as soon as somebody looks, however short a look it is."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from tests.ledger import Stage, audit, wait_until

SCRIPT = """
import os
import signal
import sys
import threading
import time
from pathlib import Path

import mlfn

@mlfn.function(name="work")
def work(ledger: str, ctx: mlfn.Context) -> int:
    note(ledger, "start", ctx)
    try:
        while not Path(ledger + ".go").exists():
            time.sleep(0.005)
        ctx.log_metric("loss", 0.5)
    finally:
        note(ledger, "end", ctx)
    return 7

@mlfn.function(name="bad", timeout=0.4)
def bad(ledger: str, ctx: mlfn.Context) -> int:
    note(ledger, "start", ctx)
    while not Path(ledger + ".go").exists():
        time.sleep(0.005)
    raise ValueError("of its own")

ledger, how, *more = sys.argv[1:]
if how == "die":
    function = {"work": work, "bad": bad}[more[0]]
    options = {"retry": mlfn.Retry(int(more[1]), delay=0)} if more[1] else {}
    kept = [function.with_options(**options).submit(ledger) for _ in range(int(more[2]))]
    while not Path(ledger).exists():
        time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGKILL)
elif how == "look":
    print(*sorted(str(run.state) for run in mlfn.runs()))
    assert threading.active_count() == 1, threading.enumerate()
elif how == "poll":
    [run] = mlfn.runs()
    print(run.state, flush=True)
    while not run.done():
        time.sleep(0.01)
    print(run.state, run.metrics["loss"], run.result())
elif how == "card":
    from mlfn.ui import notebook
    from mlfn.ui.views.handles import view_run

    run = mlfn.run(more[0])
    advice = view_run(run).advice
    assert advice in notebook.run_html(run)
    print(advice)
elif how == "wait":
    print(*[run.result(timeout=30) for run in mlfn.runs()])
"""


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path, SCRIPT, heartbeat=0.2, max_workers=1)


def die(stage: Stage, function: str = "work", *, runs: int = 1, retry: str = "") -> None:
    stage.run("die", function, retry, str(runs), code=-signal.SIGKILL)


def go(stage: Stage) -> None:
    """Let the orphan come to its end."""
    (stage.folder / "ledger.go").touch()
    wait_until(lambda: not stage.workers())


def adoptions(stage: Stage) -> int:
    return stage.query("SELECT count(*) FROM events WHERE what = 'adopted'")[0][0]


def run_id(stage: Stage) -> str:
    return stage.query("SELECT id FROM runs ORDER BY seq")[0][0]


@pytest.mark.parametrize("look", ["runs", "show", "python"])
def test_one_check_records_a_dead_clients_results(stage, look):
    die(stage)
    go(stage)

    if look == "python":
        assert stage.run("look").split() == ["succeeded"]
    else:
        said = stage.mlfn(look, *([run_id(stage)] if look == "show" else [])).stdout
        assert "succeeded" in said and "running" not in said

    audit(stage, runs=1, once=["work"])
    assert stage.query("SELECT value FROM metrics") == [(0.5,)]
    assert stage.query("SELECT count(*) FROM executions") == [(0,)]
    assert stage.query("SELECT count(*) FROM clients") == [(0,)]
    assert list((stage.data / "workers").iterdir()) == []
    assert adoptions(stage) == 1


def test_a_look_leaves_alone_what_still_runs(stage):
    die(stage, runs=2)
    before = stage.query("SELECT id, client, cursor FROM executions")

    for _ in range(3):
        assert stage.run("look").split() == ["pending", "running"]

    assert stage.query("SELECT id, client, cursor FROM executions") == before
    assert adoptions(stage) == 0
    go(stage)
    assert stage.run("look").split() == ["pending", "succeeded"]
    assert stage.run("wait").split() == ["7", "7"]
    audit(stage, runs=2, once=["work"])


def test_whoever_goes_on_looking_sees_the_end(stage):
    die(stage)
    looking = stage.start("poll")
    assert looking.stdout.readline() == "running\n"
    go(stage)

    assert looking.communicate(timeout=30)[0] == "succeeded 0.5 7\n"
    audit(stage, runs=1, once=["work"])


def test_a_run_with_retries_waits_for_adoption(stage):
    die(stage, "bad", retry="1")
    go(stage)

    assert stage.run("look").split() == ["pending"]
    assert stage.run("look").split() == ["pending"]
    assert [what for what, *_ in stage.entries()] == ["start"], "a look starts nothing"


def test_a_failure_keeps_its_reason_past_its_timeout(stage):
    die(stage, "bad")
    go(stage)
    [(started,)] = stage.query("SELECT claimed FROM runs")
    wait_until(lambda: time.time() > started + 0.5)

    stage.run("look")

    [(state, reason, failure)] = stage.query("SELECT state, reason, failure FROM runs")
    assert (state, reason) == ("failed", "error")
    assert "of its own" in failure


def test_what_was_killed_with_its_client_is_lost(stage):
    die(stage)
    for pid in stage.workers():
        os.kill(pid, signal.SIGKILL)

    assert wait_until(lambda: stage.run("look").strip() == "failed")
    assert stage.query("SELECT reason FROM runs") == [("lost",)]
    assert stage.query("SELECT count(*) FROM executions") == [(0,)]


def test_cancelling_an_ended_run_reports_its_state(tmp_path):
    stage = Stage(tmp_path, SCRIPT, heartbeat=1, max_workers=1)
    die(stage)
    for pid in stage.workers():
        os.kill(pid, signal.SIGKILL)

    said = stage.mlfn("cancel", run_id(stage)).stderr

    assert "had come to its end before: failed" in said
    assert stage.query("SELECT state, reason FROM runs") == [("failed", "lost")]
    assert stage.query("SELECT what FROM events WHERE what LIKE 'cancel%'") == []


def test_cancelling_a_dead_clients_runs_ends_all(stage):
    die(stage, runs=2)

    said = stage.mlfn("cancel", *(run for (run,) in stage.query("SELECT id FROM runs"))).stdout

    assert said.count("cancelled") == 2
    assert [what for what, *_ in stage.entries()] == ["start", "end"], "the handler's finally has run"
    audit(stage, runs=2)


def test_readers_learn_that_the_client_is_gone(stage):
    die(stage, runs=2)
    running, pending = (run[:8] for (run,) in stage.query("SELECT id FROM runs ORDER BY seq"))

    listed, shown = stage.mlfn("runs"), stage.mlfn("show", pending).stdout
    document = json.loads(stage.mlfn("runs", "--json").stdout)

    assert (
        listed.stderr
        == f"mlfn: the processes that submitted 2 of them are gone; `mlfn wait {pending} {running}` resumes them.\n"
    )
    assert f"note   the process that submitted it is gone; `mlfn wait {pending}` resumes it" in shown
    assert [run["abandoned"] for run in document] == [True, True]
    assert stage.run("card", pending).strip() == (
        f"The process that submitted it is gone: run.wait() here, or `mlfn wait {pending}`, resumes it."
    )
    go(stage)
    assert f"`mlfn wait {pending}` resumes it" in stage.mlfn("runs").stderr
    assert stage.mlfn("wait", pending).stdout.split()[1] == "succeeded"
    assert stage.mlfn("runs").stderr == ""
    assert not any(run["abandoned"] for run in json.loads(stage.mlfn("runs", "--json").stdout))


RETRY = """
import os
import signal
import sys
import time

import mlfn

@mlfn.function
def first() -> int:
    return 5

@mlfn.function(retry=mlfn.Retry(1, delay=2))
def second(x: int, ctx: mlfn.Context) -> int:
    if ctx.attempt == 1:
        raise ValueError("once")
    return x + 1

if sys.argv[2] == "die":
    run = second.submit(getattr(first.submit().outputs, "return"))
    while [attempt.state for attempt in run.attempts] != ["failed"]:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
print(mlfn.runs(name="second")[0].result(timeout=30))
"""


def test_a_retry_that_another_client_waits_for_gets_its_input(tmp_path):
    stage = Stage(tmp_path, RETRY, heartbeat=0.2)
    stage.run("die", code=-signal.SIGKILL)

    assert stage.run("wait") == "6\n"
