"""Clients are killed at random points of submitting, watching and recording: each run is executed once, and recorded once."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from tests.cluster.api import Namespace
from tests.ledger import Stage, audit, wait_until

SCRIPT = """
import json
import os
import sys

import mlfn

@mlfn.function(name="work")
def work(i: int, ledger: str, ctx: mlfn.Context) -> int:
    note(ledger, "start", ctx)
    note(ledger, "end", ctx)
    return i

ledger, how = sys.argv[1:]
if how == "finish":
    mlfn.wait(mlfn.runs(limit=10_000))
else:
    there = work.on("kubernetes", pod=json.loads(os.environ["POD"]))
    runs = [there.submit(i, ledger) for i in range(2)]
    print("submitted", flush=True)
    mlfn.wait([*runs, there.grid(i=[2, 3]).submit(ledger=ledger)])
"""


@pytest.mark.timeout(1800)
def test_kills_of_the_client_lose_nothing_and_repeat_nothing(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    rounds = 50 if request.config.getoption("--full") else 5
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed={seed}")
    dice = random.Random(seed)
    namespace = Namespace()
    mount = {"name": "ledger", "mountPath": str(tmp_path / "stage")}
    volume = {"name": "ledger", "hostPath": {"path": str(tmp_path / "stage")}}
    pod = {"containers": [{"name": "main", "volumeMounts": [mount]}], "volumes": [volume]}
    kubeconfig = namespace.write_kubeconfig(tmp_path / "kubeconfig")
    stage = Stage(tmp_path / "stage", SCRIPT, heartbeat=0.3)
    stage.environ |= {"KUBECONFIG": str(kubeconfig), "POD": json.dumps(pod)}
    stage.ledger.touch()
    for path, mode in ((stage.folder, 0o777), (stage.ledger, 0o666)):
        path.chmod(mode)
    try:
        begun = time.monotonic()
        stage.run("submit", timeout=120)
        whole = time.monotonic() - begun
        for _ in range(rounds):
            process = stage.start("submit")
            time.sleep(dice.uniform(0.1, whole))
            stage.kill(process)
        stage.run("finish", timeout=600)
        wait_until(lambda: not namespace.items("jobs"), timeout=60)
    finally:
        namespace.close()

    audit(stage, runs=len(stage.query("SELECT id FROM runs")), once=["work"])
    runs = stage.query("SELECT state, attempt FROM runs WHERE sweep = 0")
    assert len(runs) > 4, "no client was killed that had submitted anything"
    assert {*runs} == {("succeeded", 1)}
