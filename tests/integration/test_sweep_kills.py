"""kill -9 of a sweep's driver and of its workers at any instant: no child lost, none recorded twice, the same parameters."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time

import pytest

from tests.ledger import Stage, audit

SCRIPT = """
import sys
import time

import mlfn

@mlfn.function(name="child", retry=mlfn.Retry(100))
@mlfn.handler(outputs=["score"])
def child(x: float, y: int, ledger: str, ctx: mlfn.Context) -> float:
    note(ledger, "start", ctx)
    time.sleep(0.02 * (y % 5))
    ctx.log_metric("loss", x, step=0)
    note(ledger, "end", ctx)
    return x + y

ledger, what, count, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
spaces = {"x": mlfn.uniform(0, 1), "y": mlfn.randint(0, 100)}
sweep = child.random(n=count, seed=seed, **spaces) if what == "random" else child.search(n=count, seed=seed, **spaces)
options = {"parallel": 4, "deterministic": True} if what == "search" else {}
print("ready", flush=True)
run = sweep.with_options(name="it", select="max.score", **options).submit(ledger=ledger)
run.wait()
print(run.best_iteration, flush=True)
"""


def params(stage: Stage) -> list[str]:
    """Return each child's own parameters in the order of the numbers."""
    rows = stage.query("SELECT iteration, point FROM runs WHERE iteration > 0 ORDER BY iteration")
    assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
    return [json.dumps({key: value["inline"] for key, value in json.loads(row[1]).items()}) for row in rows]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("what", "count", "kills", "life"), [("random", 1000, 500, 0.25), ("search", 150, 30, 1.4)])
def test_a_sweep_killed_at_random_is_carried_on(tmp_path, what, count, kills, life):
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed={seed}")
    dice = random.Random(seed)
    undisturbed = Stage(tmp_path / "undisturbed", SCRIPT, heartbeat=0.2)
    undisturbed.run(what, str(count), "7", timeout=120)
    stage = Stage(tmp_path / "killed", SCRIPT, heartbeat=0.2)
    killed = {"driver": 0, "worker": 0}

    while sum(killed.values()) < kills:
        process = stage.start(what, str(count), "7")
        process.stdout.readline()
        until = time.monotonic() + dice.uniform(0, life)
        while time.monotonic() < until and process.poll() is None:
            time.sleep(0.02)
            if dice.random() < 0.2 and (workers := stage.workers()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(dice.choice(workers), signal.SIGKILL)
                    killed["worker"] += 1
        if process.poll() is not None:
            break  # it was quicker
        stage.kill(process)
        killed["driver"] += 1
    stage.run(what, str(count), "7", timeout=120)

    print(killed)
    assert sum(killed.values()) > kills // 2
    audit(stage, runs=count + 1)
    assert params(stage) == params(undisturbed)
    assert stage.query("SELECT count(*) FROM runs WHERE iteration > 0 AND state = 'succeeded'") == [(count,)]
    twice = "SELECT run, attempt, what FROM events WHERE what = 'succeeded' GROUP BY run HAVING count(*) > 1"
    assert stage.query(twice) == []
