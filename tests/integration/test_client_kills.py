"""kill -9 of the client at any instant: nothing lost, nothing recorded twice, nothing left running."""

from __future__ import annotations

import random
import time

from tests.ledger import Stage, audit

RUNS, KILLS = 200, 50
SCRIPT = """
import os
import sys
import time

import mlfn

@mlfn.function(name="work")
def work(i: int, ledger: str, ctx: mlfn.Context) -> int:
    note(ledger, "start", ctx)
    if i == 0:
        while not os.path.exists(ledger + ".open"):
            time.sleep(0.01)
    time.sleep(0.005 + 0.015 * (i % 7) / 6)
    ctx.log_metric("loss", i)
    note(ledger, "end", ctx)
    return i * i

ledger, wanted, to_the_end = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "all"
before = mlfn.runs(name="work", limit=10_000)
print("ready", flush=True)
have = {run.params["i"] for run in before}
fresh = [work.submit(i, ledger) for i in range(wanted) if i not in have]
runs = [run for run in [*before, *fresh] if to_the_end or run.params["i"]]
mlfn.wait(runs)
assert all(run.result() == run.params["i"] ** 2 for run in runs)
assert len({run.params["i"] for run in runs}) == len(runs) == wanted - (not to_the_end)
"""


def test_a_client_killed_at_random_loses_nothing_and_repeats_nothing(tmp_path, request):
    """The first run ends after the last kill only: who waits for it, as three clients in four do, is alive when hit.

    The others may have ended before; that kill is another one's then.
    """
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed={seed}")
    dice = random.Random(seed)
    stage = Stage(tmp_path, SCRIPT, heartbeat=0.2)
    kills = KILLS if request.config.getoption("--full") else KILLS // 3
    killed = at_work = 0

    while killed < kills:
        # A few more runs for each kill: there is work to interrupt to the last.
        process = stage.start(str(RUNS * (killed + 1) // kills), "all" if dice.random() < 0.75 else "some")
        if dice.random() < 0.9:
            process.stdout.readline()
        time.sleep(dice.uniform(0, 0.3))  # the instant is what is drawn, there is nothing to wait for
        is_hit = process.poll() is None
        stage.kill(process)
        killed += is_hit
        assert is_hit or process.returncode == 0, "it had ended, and not as it should"
        at_work += is_hit and len(unfinished(stage)) > 1
    stage.ledger.with_name("ledger.open").touch()
    stage.run(str(RUNS), "all")

    print(f"runs other than the first were at work or waiting at {at_work} of {killed} kills")
    assert at_work >= kills // 4  # a fast machine has often done all but the first when the kill comes
    audit(stage, runs=RUNS, once=["work"])
    assert stage.query("SELECT DISTINCT state FROM runs") == [("succeeded",)]
    assert stage.query("SELECT count(*), count(DISTINCT run) FROM metrics") == [(RUNS, RUNS)]


def unfinished(stage: Stage) -> list[tuple[str]]:
    if not (stage.data / "mlfn.db").exists():
        return []
    if not stage.query("SELECT name FROM sqlite_master WHERE name = 'runs'"):
        return []
    return stage.query("SELECT id FROM runs WHERE state IN ('pending', 'running')")
