"""Every point around a transaction of the store: the client dies there, and a fresh one finds all and finishes it."""

from __future__ import annotations

import signal

import pytest

from mlfn.store.changes import FAILPOINTS
from tests.ledger import Stage, audit

SCRIPT = """
import os
import sys
import time
from pathlib import Path

import mlfn
from mlfn.host.cores import usable_cores

def wait_for(path):
    while not path.exists():
        time.sleep(0.005)

@mlfn.function(name="whole")
@mlfn.handler(outputs=["half", "text"])
def whole(n: int, ledger: str, ctx: mlfn.Context):
    note(ledger, "start", ctx)
    for i in ctx.progress(range(3)):
        ctx.log_metric("loss", float(i), step=i)
    ctx.log_result("answer", n)
    ctx.log_artifact("report", "text " * 10_000)
    note(ledger, "end", ctx)
    return n / 2, "x" * 100_000

@mlfn.function(name="fails", retry=mlfn.Retry(1, delay=0.05))
def fails(ledger: str, ctx: mlfn.Context):
    note(ledger, "start", ctx)
    raise ValueError("on purpose")

@mlfn.function(name="endless")
def endless(ledger: str, ctx: mlfn.Context):
    note(ledger, "start", ctx)
    while True:
        time.sleep(0.01)

@mlfn.function(name="part")
@mlfn.handler(outputs=["twice"])
def part(x: int, ledger: str, ctx: mlfn.Context):
    note(ledger, "start", ctx)
    ctx.log_metric("loss", float(x), step=0)
    note(ledger, "end", ctx)
    return 2 * x

@mlfn.function(name="nest")
def nest(ledger: str, ctx: mlfn.Context):
    note(ledger, "start", ctx)
    for fold in range(3):
        with ctx.child(fold=fold) as child:
            child.log_metric("loss", float(fold))
            child.log_result("score", fold)
            if fold == 1:
                child.mark_best()
            note(ledger, "end", child)
    note(ledger, "end", ctx)

@mlfn.function(name="quick")
def quick(i: int, ledger: str, ctx: mlfn.Context):
    note(ledger, "start", ctx)
    slow = Path(ledger + ".slow")
    if i == 50:
        slow.touch()
        wait_for(Path(ledger + ".go"))
    note(ledger, "end", ctx)

def submit(ledger):
    runs = [whole.submit(7, ledger), fails.submit(ledger)]
    # Its parent is not done yet: it waits, and is withdrawn when the parent fails.
    runs.append(whole.submit(fails.submit(ledger).outputs.n, ledger))
    return runs

def cancel(ledger):
    run = endless.submit(ledger)
    pending = endless.with_options(cpu=usable_cores()).submit(ledger)
    while not run.record.started:
        time.sleep(0.005)
    pending.cancel()
    run.cancel()

def queue(ledger):
    \"\"\"Short runs queue up at a worker; behind one that takes long they are taken back.\"\"\"
    runs = [quick.submit(i, ledger) for i in range(60)]
    wait_for(Path(ledger + ".slow"))
    while any(run.state != "succeeded" for run in runs if run is not runs[50]):
        time.sleep(0.02)
    Path(ledger + ".go").touch()

def sweep(ledger):
    # The second one takes over the children that it has in common with the first.
    for xs in ([1, 2, 3], [2, 3, 4]):
        part.grid(x=xs).with_options(select="max.twice", memo=True).submit(ledger=ledger).wait()

if __name__ == "__main__":
    ledger, what = sys.argv[1:]
    if what == "submit":
        mlfn.wait(submit(ledger))
    elif what == "cancel":
        cancel(ledger)
    elif what == "queue":
        queue(ledger)
    elif what == "nest":
        nest.submit(ledger).wait()
    elif what == "sweep":
        sweep(ledger)
    elif what == "abandon":
        submit(ledger)
        os.kill(os.getpid(), 9)
    else:
        Path(ledger + ".go").touch()
        runs = mlfn.runs(limit=1000)
        for run in runs:
            if run.name == "endless":
                run.cancel()
        mlfn.wait(runs)
"""


EXPECTED = {
    "whole": "succeeded",
    "fails": "failed",
    "child": "failed",
    "endless": "cancelled",
    "quick": "succeeded",
    "nest": "succeeded",
    "part": "succeeded",
}
# What reaches a point. "submitted" at its second time, so that there is something to find.
SCENARIOS = {
    "CancelRequested": "cancel",
    "FinishedUnstarted": "cancel",
    "Recalled": "queue",
    "Adopted": "finish",
    "SweepSubmitted": "sweep",
    "SweepClosed": "sweep",
    "Reused": "sweep",
    "ChildStarted": "nest",
    "BestMarked": "nest",
}


# No run of this machine is queued at its place or has its lines counted, and no job has the page of an engine.
ELSEWHERE = ("StatusNoted", "Acknowledged", "PageNoted")


@pytest.mark.parametrize("point", [point for point in FAILPOINTS if point.split(".")[1] not in ELSEWHERE])
def test_what_a_client_killed_at_this_point_left_is_carried_to_its_end(tmp_path, point):
    _, change, _ = point.split(".")
    stage = Stage(tmp_path, SCRIPT, heartbeat=0.2)
    if change == "Adopted":
        stage.run("abandon", code=-signal.SIGKILL)
    armed = {"MLFN_FAILPOINT": f"{point}:2" if change in ("Submitted", "SweepSubmitted") else point}

    stage.run(SCENARIOS.get(change, "submit"), code=-signal.SIGKILL, environ=armed)
    stage.run("finish")

    stored = stage.query("SELECT name, state, attempt, retries, params FROM runs")
    assert stored
    audit(stage, runs=len(stored), once=["whole", "quick", "part", "nest"])
    assert stage.query("SELECT * FROM sweeps WHERE slot IS NOT NULL") == []
    assert stage.query("SELECT parent, iteration FROM runs WHERE iteration > 0 GROUP BY 1, 2 HAVING count(*) > 1") == []
    for name, state, attempt, retries, params in stored:
        waits = '"output"' in params
        assert state == EXPECTED["child" if waits else name], (name, state)
        if name == "fails":
            assert retries == 1 and attempt >= 2
    complete = stage.query(
        "SELECT (SELECT count(*) FROM metrics WHERE run = seq AND metrics.attempt = runs.attempt), "
        "(SELECT count(*) FROM outputs WHERE run = seq AND outputs.attempt = runs.attempt) "
        "FROM runs WHERE name = 'whole' AND state = 'succeeded'"
    )
    assert set(complete) <= {(3, 4)}
    if SCENARIOS.get(change) == "nest":
        nested = stage.query(
            "SELECT iteration, (SELECT count(*) FROM metrics WHERE run = seq) FROM runs ORDER BY iteration"
        )
        assert nested == [(0, 0), (1, 1), (2, 1), (3, 1)]
        carried = "SELECT key, inline FROM outputs JOIN runs ON seq = run WHERE iteration = 0 ORDER BY key"
        assert stage.query(carried) == [("best_iteration", "2"), ("return", "null"), ("score", "1")]
