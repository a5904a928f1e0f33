"""Children that a handler opens, when their run is ended from outside: kill -9, cancel, time limit, a dead client."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import pytest

import mlfn
from mlfn.errors import ParameterError
from tests.ledger import Stage, audit, wait_until

SCRIPT = """
import os
import sys
import time
from pathlib import Path

import mlfn

def wait_for(path):
    while not Path(path).exists():
        time.sleep(0.005)

@mlfn.function(name="folds", retry=mlfn.Retry(100))
def folds(i: int, ledger: str, ctx: mlfn.Context) -> int:
    note(ledger, "start", ctx)
    for depth in (4, 8):
        with ctx.child(depth=depth) as child:
            for fold in range(2):
                with child.child(fold=fold) as part:
                    time.sleep(0.01)
                    part.log_metric("loss", i)
                    note(ledger, "end", part)
            child.log_result("score", depth)
            child.mark_best()
            note(ledger, "end", child)
    note(ledger, "end", ctx)
    return i

@mlfn.function(name="slow")
def slow(ledger: str, ctx: mlfn.Context) -> None:
    with ctx.child(depth=4) as child:
        child.log_metric("loss", 1.0)
        note(ledger, "open", child)
        wait_for(ledger + ".go")
        note(ledger, "end", child)
    with ctx.child(depth=8) as child:
        child.log_result("score", 1)
        child.mark_best()
        note(ledger, "end", child)
    note(ledger, "end", ctx)

ledger, what = sys.argv[1], sys.argv[2]
print("ready", flush=True)
if what == "slow":
    slow.submit(ledger).wait()
elif what == "child":  # whoever waits for a child of a dead client has its run seen through
    [run] = mlfn.runs()
    assert run.children[1].wait(60) and run.children[1].state == "succeeded"
elif what == "look":
    mlfn.wait(mlfn.runs(name="slow"))
else:
    before = mlfn.runs(name="folds", limit=10_000)
    have = {run.params["i"] for run in before}
    fresh = [folds.submit(i, ledger) for i in range(int(what)) if i not in have]
    mlfn.wait([*before, *fresh])
"""
PARTS = "SELECT state, reason FROM runs WHERE iteration > 0 ORDER BY seq"


def test_client_and_workers_killed_at_random_leave_no_child_running(tmp_path, request):
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed={seed}")
    dice = random.Random(seed)
    stage = Stage(tmp_path, SCRIPT, heartbeat=0.2)
    killed = {"client": 0, "worker": 0}
    rounds = 20 if request.config.getoption("--full") else 8

    for number in range(1, rounds + 1):
        process = stage.start(str(3 * number))
        process.stdout.readline()
        wait_until(lambda process=process: stage.workers() or process.poll() is not None)
        until = time.monotonic() + dice.uniform(0.1, 0.4)
        while time.monotonic() < until and process.poll() is None:
            time.sleep(0.02)
            if dice.random() < 0.2 and (workers := stage.workers()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(dice.choice(workers), signal.SIGKILL)
                    killed["worker"] += 1
        killed["client"] += process.poll() is None
        stage.kill(process)
    stage.run(str(3 * rounds))

    print(killed)
    assert min(killed.values()) >= rounds // 8
    roots = stage.query("SELECT id, state, attempt FROM runs WHERE parent IS NULL")
    assert [state for _, state, _ in roots] == ["succeeded"] * 3 * rounds
    audit(stage, runs=stage.query("SELECT count(*) FROM runs")[0][0])
    assert stage.query("SELECT count(*) FROM runs WHERE iteration > 0 AND state = 'failed' AND reason = 'lost'") > [
        (0,)
    ]
    for root, _, attempt in roots:
        children = stage.query("SELECT iteration, state, id FROM runs WHERE parent = ? ORDER BY iteration", root)
        assert [number for number, *_ in children] == list(range(1, len(children) + 1))
        assert [state for _, state, _ in children[-2:]] == ["succeeded"] * 2, "those of the attempt that stands"
        carried = "SELECT inline FROM outputs JOIN runs ON runs.seq = run WHERE id = ? AND outputs.attempt = ? AND key IN ('best_iteration', 'score') ORDER BY key"
        assert stage.query(carried, root, attempt) == [(str(len(children)),), ("8",)]
        for *_, child in children[-2:]:
            assert stage.query("SELECT iteration, state FROM runs WHERE parent = ? ORDER BY iteration", child) == [
                (1, "succeeded"),
                (2, "succeeded"),
            ]


def opened(stage: Stage) -> bool:
    """Say whether the child is open, and known to the store as such."""
    with contextlib.suppress(Exception):
        return stage.query("SELECT state FROM runs WHERE iteration = 1") == [("running",)] and bool(stage.entries())
    return False


def test_client_and_worker_killed_together_leave_nothing_running(tmp_path):
    stage = Stage(tmp_path, SCRIPT, heartbeat=0.2)
    process = stage.start("slow")
    wait_until(lambda: opened(stage))
    [_, _, _, worker] = stage.entries()[0]

    stage.kill(process)
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker, signal.SIGKILL)
    stage.run("look")

    assert stage.query(PARTS) == [("failed", "lost")]
    audit(stage, runs=2)


@pytest.mark.parametrize("who", ["look", "child"])
def test_children_of_a_dead_client_are_seen_through_with_their_run(tmp_path, who):
    stage = Stage(tmp_path, SCRIPT, heartbeat=0.2)
    process = stage.start("slow")
    wait_until(lambda: opened(stage))

    stage.kill(process)
    again = stage.start(who)
    again.stdout.readline()
    wait_until(
        lambda: stage.query("SELECT count(DISTINCT owner), min(client) = min(owner) FROM runs, executions") == [(1, 1)]
    )
    Path(f"{stage.ledger}.go").touch()
    out, err = again.communicate(timeout=60)
    assert again.returncode == 0, out + err
    stage.run("look")

    assert stage.query(PARTS) == [("succeeded", None)] * 2
    assert stage.query("SELECT inline FROM outputs JOIN runs ON runs.seq = run WHERE key = 'best_iteration'") == [
        ("2",)
    ]
    audit(stage, runs=3, once=["slow"])


@mlfn.function
def opens(folder: str, ctx: mlfn.Context) -> None:
    with ctx.child(depth=4) as child, child.child(fold=1):
        Path(folder, "open").write_text(str(os.getpid()))
        while True:
            time.sleep(0.01)


def test_a_cancel_ends_the_run_with_all_that_is_open_in_it(local, tmp_path, processes):
    run = opens.submit(str(tmp_path))
    processes("open")
    child = wait_until(lambda: run.children and run.children[1].children and run.children[1])

    with pytest.raises(ParameterError, match=rf"child 1 of {run.id[:8]}.*cancel the whole run, {run.id[:8]}"):
        child.cancel()
    assert child.children[1].state == "running"
    assert run.cancel()

    assert [run.state, child.state, child.children[1].state] == ["cancelled"] * 3


def test_children_share_the_reason_for_which_their_run_was_ended(local, tmp_path, processes):
    run = opens.with_options(timeout=0.5).submit(str(tmp_path))
    run.wait(60)

    for item in (run, run.children[1], run.children[1].children[1]):
        assert (item.state, item.record.reason) == ("failed", "timeout")


def test_a_worker_that_dies_takes_its_children_with_it(local, tmp_path, processes):
    run = opens.submit(str(tmp_path))
    os.kill(processes("open"), signal.SIGKILL)
    run.wait(60)

    assert [(child.state, child.record.reason) for child in run.children] == [("failed", "lost")]
    assert "was still open when its run failed (error)" in str(run.children[1].error)


def test_what_forked_processes_of_a_handler_open_is_numbered_too(local):
    @mlfn.function
    def forks(ctx: mlfn.Context) -> None:
        with ctx.child(who="parent"):
            pid = os.fork()
            with ctx.child(who="both"):
                pass
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)

    run = forks.submit()
    run.result(timeout=60)

    assert [(child.iteration, child.params["who"], child.state) for child in run.children] == [
        (1, "parent", "succeeded"),
        (2, "both", "succeeded"),
        (3, "both", "succeeded"),
    ]
