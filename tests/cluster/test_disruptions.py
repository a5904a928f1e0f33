"""What happens to many runs at once: their node is drained, the API server is away, their client dies in a grid that fails."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlfn
from tests.cluster.api import Namespace
from tests.cluster.test_client_kills import ClusterStage
from tests.ledger import wait_until

RUNS = 20
AWAY = 20.0
"""Seconds for which there is no API server, in which all runs end."""
GRID = """
import json
import os
import sys
import time

import mlfn

@mlfn.function(name="fail")
def fail(i: int, ledger: str, ctx: mlfn.Context) -> int:
    note(ledger, f"start:{i}", ctx)
    if i == 0:
        time.sleep(600)
    raise ValueError(i)

ledger, how = sys.argv[1:]
if how == "submit":
    grid = fail.on("kubernetes", pod=json.loads(os.environ["POD"])).grid(i=range(6))
    sweep = grid.with_options(max_failures=2, parallel=2).submit(ledger=ledger)
else:
    [sweep] = mlfn.runs()
    sweep.resume()
print(json.dumps([str(sweep.exception()), [str(child.state) for child in sweep.children]]), flush=True)
"""


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Return a folder that pods share with the test."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def mounted(folder: Path) -> dict[str, object]:
    mount = {"name": "shared", "mountPath": str(folder)}
    volume = {"name": "shared", "hostPath": {"path": str(folder)}}
    return {"containers": [{"name": "main", "volumeMounts": [mount]}], "volumes": [volume]}


@pytest.fixture
def namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Namespace]:
    made = Namespace()  # folders of the node are not for restricted ones
    monkeypatch.setenv("KUBECONFIG", str(made.write_kubeconfig(tmp_path / "kubeconfig")))
    yield made
    made.close()


@mlfn.function(cpu=0.02)
def stay(folder: str, ctx: mlfn.Context) -> int:
    """Note that it begins; end once there is a sign, at once at a second attempt."""
    Path(folder, f"{ctx.run_id}-{ctx.attempt}").touch()
    while ctx.attempt == 1 and not Path(folder, "go").exists():
        time.sleep(0.1)
    Path(folder, f"{ctx.run_id}-{ctx.attempt}-end").touch()
    return ctx.attempt


def test_runs_of_a_node_that_is_drained_are_tried_again(namespace: Namespace, shared: Path) -> None:
    there = stay.on("kubernetes", pod=mounted(shared))
    runs = [there.submit(str(shared)) for _ in range(2)]
    sweep = there.grid(folder=[str(shared), f"{shared}/."]).submit()
    wait_until(lambda: len([*shared.iterdir()]) == 4, timeout=120)

    namespace.drain()

    assert [run.result(120) for run in runs] == [2, 2]
    assert sweep.wait(120)
    for run in [*runs, *sweep.children]:
        assert [(item.state, item.reason) for item in run.attempts] == [("failed", "preempted"), ("succeeded", None)]


@pytest.mark.timeout(400)
def test_an_api_server_that_is_away_loses_and_repeats_nothing(namespace: Namespace, shared: Path) -> None:
    there = stay.on("kubernetes", pod=mounted(shared))
    runs = [there.submit(str(shared)) for _ in range(RUNS)]
    wait_until(lambda: {str(run.state) for run in runs} == {"running"}, timeout=240, every=0.5)

    with namespace.forwarder.cut():
        (shared / "go").touch()
        until = time.monotonic() + AWAY
        wait_until(lambda: len([*shared.glob("*-end")]) == RUNS, timeout=60)
        wait_until(lambda: time.monotonic() >= until, timeout=AWAY + 1)
        assert {str(run.state) for run in runs} == {"running"}, "nothing is concluded meanwhile"

    assert [run.result(120) for run in runs] == [1] * RUNS
    begun = Counter(path.name.partition("-")[0] for path in shared.iterdir() if path.name.endswith("-1"))
    assert begun == Counter(run.id for run in runs), "a run has begun twice, or not at all"


def test_a_grid_ends_at_its_last_failure_without_a_client(namespace: Namespace, tmp_path: Path) -> None:
    stage = ClusterStage(tmp_path / "stage", namespace, GRID)
    stage.environ["MLFN_GRACE"] = "1"
    client = stage.start("submit")
    wait_until(lambda: len(stage.entries()) >= 1, timeout=120)
    stage.kill(client)

    def is_over() -> bool:
        [job] = namespace.items("jobs")
        return any(item["type"] == "Failed" for item in job["status"].get("conditions", ()))

    wait_until(is_over, timeout=120)
    begun = [what for what, *_ in stage.entries()]
    said, states = json.loads(stage.run("resume", timeout=120))

    assert "2 of 2 children failed (max_failures=2)" in said
    assert states == ["cancelled", "failed", "failed", "cancelled", "cancelled", "cancelled"]
    assert sorted(begun) == ["start:0", "start:1", "start:2"]
    assert sorted(what for what, *_ in stage.entries()) == sorted(begun), "a child has begun after the last failure"
