"""kill -9 of the client at any instant: nothing lost, nothing recorded twice, nothing left running."""

from __future__ import annotations

import random
import time

from tests.ledger import Stage, audit

RUNS = 200
KILLS = 50
SCRIPT = """
import sys
import time

import mlfn

@mlfn.function(name="work")
def work(i: int, ledger: str, ctx: mlfn.Context) -> int:
    note(ledger, "start", ctx)
    time.sleep(0.005 + 0.015 * (i % 7) / 6)
    ctx.log_metric("loss", i)
    note(ledger, "end", ctx)
    return i * i

ledger, wanted = sys.argv[1], int(sys.argv[2])
print("ready", flush=True)
before = mlfn.runs(name="work", limit=10_000)
have = {run.params["i"] for run in before}
fresh = [work.submit(i, ledger) for i in range(wanted) if i not in have]
mlfn.wait([*before, *fresh])
assert sorted(run.result() for run in [*before, *fresh]) == sorted(i * i for i in range(wanted))
"""


def test_a_client_killed_at_random_loses_nothing_and_repeats_nothing(tmp_path):
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed={seed}")
    dice = random.Random(seed)
    stage = Stage(tmp_path, SCRIPT, heartbeat=0.2)
    killed = 0

    for number in range(1, KILLS + 1):
        # A few more runs each time: there is work to interrupt to the last.
        process = stage.start(str(RUNS * number // KILLS))
        if dice.random() < 0.9:
            process.stdout.readline()
        time.sleep(dice.uniform(0, 0.3))  # the instant is what is drawn, there is nothing to wait for
        killed += process.poll() is None
        stage.kill(process)
    stage.run(str(RUNS))

    assert killed > KILLS // 2
    audit(stage, runs=RUNS, once=["work"])
    assert stage.query("SELECT count(*), count(DISTINCT run) FROM metrics") == [(RUNS, RUNS)]
