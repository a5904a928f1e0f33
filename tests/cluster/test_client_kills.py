"""Clients are killed at random points of submitting, watching and recording: each run is executed once, and recorded once."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.api import Namespace
from tests.ledger import Stage, audit, wait_until

SCRIPT = """
import json
import os
import signal
import sys
import time

import mlfn

@mlfn.function(name="work")
def work(i: int, ledger: str, ctx: mlfn.Context) -> int:
    note(ledger, "start", ctx)
    note(ledger, "end", ctx)
    return i

ledger, how = sys.argv[1:]
if how == "die before the Secret":
    from mlfn.backends.places.kubernetes.connection import Connection

    post = Connection.post

    def dying(self, path, body):
        if path.endswith("/secrets"):
            time.sleep(3)  # the pod is seen meanwhile
            os.kill(os.getpid(), signal.SIGKILL)
        return post(self, path, body)

    Connection.post = dying
if how == "finish":
    mlfn.wait(mlfn.runs(limit=10_000))
else:
    there = work.on("kubernetes", pod=json.loads(os.environ["POD"]))
    runs = [there.submit(i, ledger) for i in range(2)]
    print("submitted", flush=True)
    mlfn.wait([*runs, there.grid(i=[2, 3]).submit(ledger=ledger)])
"""


class ClusterStage(Stage):
    """A stage whose runs are pods, which write into its ledger."""

    def __init__(self, folder: Path, namespace: Namespace, script: str = SCRIPT) -> None:
        super().__init__(folder, script, heartbeat=0.3)
        mount = {"name": "ledger", "mountPath": str(folder)}
        volume = {"name": "ledger", "hostPath": {"path": str(folder)}}
        pod = {"containers": [{"name": "main", "volumeMounts": [mount]}], "volumes": [volume]}
        kubeconfig = namespace.write_kubeconfig(folder / "kubeconfig")
        self.environ |= {"KUBECONFIG": str(kubeconfig), "POD": json.dumps(pod)}
        self.ledger.touch()
        for path, mode in ((folder, 0o777), (self.ledger, 0o666)):
            path.chmod(mode)

    def audit(self) -> int:
        """Hold store and ledger against each other; return how many runs there are, sweeps left out."""
        audit(self, runs=len(self.query("SELECT id FROM runs")), once=["work"])
        runs = self.query("SELECT state, attempt FROM runs WHERE sweep = 0")
        assert {*runs} == {("succeeded", 1)}
        return len(runs)


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    made = Namespace()
    yield made
    made.close()


@pytest.fixture
def stage(namespace: Namespace, tmp_path: Path) -> ClusterStage:
    return ClusterStage(tmp_path / "stage", namespace)


def test_a_client_that_dies_between_the_job_and_its_secret_is_continued(
    stage: ClusterStage, namespace: Namespace
) -> None:
    stage.run("die before the Secret", code=-signal.SIGKILL)
    assert namespace.items("jobs") and not namespace.items("secrets")

    stage.run("finish", timeout=120)

    assert stage.audit() >= 1


@pytest.mark.timeout(1800)
def test_kills_of_the_client_lose_nothing_and_repeat_nothing(
    stage: ClusterStage, namespace: Namespace, request: pytest.FixtureRequest
) -> None:
    rounds = 50 if request.config.getoption("--full") else 5
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed={seed}")
    dice = random.Random(seed)
    begun = time.monotonic()
    stage.run("submit", timeout=120)
    whole = time.monotonic() - begun
    for _ in range(rounds):
        process = stage.start("submit")
        time.sleep(dice.uniform(0.1, whole))
        stage.kill(process)
    stage.run("finish", timeout=600)

    wait_until(lambda: not namespace.items("jobs"), timeout=60)
    assert stage.audit() > 4, "no client was killed that had submitted anything"
