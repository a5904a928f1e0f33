"""Points that a run logs: none is lost or doubled, however its worker or its client ends."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

import mlfn
from tests.ledger import Stage, wait_until


@mlfn.function
def log_without_end(noted: str, ctx: mlfn.Context) -> None:
    """Log points, and write after every 100th how many calls have returned."""
    fd = os.open(noted, os.O_CREAT | os.O_WRONLY)
    for step in range(10**9):
        ctx.log_metric("loss", step / 8, step=step)
        if step % 100 == 99:
            os.pwrite(fd, f"{os.getpid()} {step + 1} ".encode(), 0)


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_worker_loses_no_point(local: Path, tmp_path: Path, seed: int) -> None:
    run = log_without_end.submit(str(tmp_path / "noted"))
    least = random.Random(seed).randrange(1, 40_000)
    pid, _ = wait_until(lambda: enough(tmp_path / "noted", least))

    os.kill(pid, signal.SIGKILL)

    assert "SIGKILL" in str(run.exception(timeout=60))
    _, returned = enough(tmp_path / "noted", least)
    history = run.metrics.history("loss")
    assert history == [(step, step / 8) for step in range(len(history))]
    assert len(history) >= returned


def enough(path: Path, least: int) -> tuple[int, int] | None:
    if not path.exists() or not (words := path.read_text().split()):
        return None
    pid, count = map(int, words[:2])
    return (pid, count) if count >= least else None


COUNT = 30_000
CLIENT = f"""
import sys
import time
from pathlib import Path

import mlfn

@mlfn.function(name="logs")
def logs(go: str, ctx: mlfn.Context) -> int:
    for step in range({COUNT}):
        ctx.log_metric("loss", step / 8, step=step)
        if step % 100 == 0:
            time.sleep(0.001)
        if step == {COUNT} // 2:
            while not Path(go).exists():
                time.sleep(0.01)
    return 7

ledger, what = sys.argv[1:]
if what == "submit":
    logs.submit(ledger + ".go").wait()
[run] = mlfn.runs()
print(run.result(60))
"""


@pytest.mark.parametrize("least", [1, COUNT // 4, COUNT // 2])
def test_an_adopter_reads_points_on(tmp_path: Path, least: int) -> None:
    stage = Stage(tmp_path, CLIENT, heartbeat=0.2)
    client = stage.start("submit")
    wait_until(lambda: (stage.data / "mlfn.db").exists() and recorded(stage) >= least)
    stage.kill(client)

    stage.ledger.with_name("ledger.go").touch()
    assert stage.run("wait") == "7\n"

    points = stage.query("SELECT step, value FROM metrics ORDER BY number")
    assert points == [(step, step / 8) for step in range(COUNT)]


def recorded(stage: Stage) -> int:
    if not stage.query("SELECT name FROM sqlite_master WHERE name = 'metrics'"):
        return 0
    return int(stage.query("SELECT count(*) FROM metrics")[0][0])
