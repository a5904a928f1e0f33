"""What a pending run of this machine waits for, as `mlfn show` and a card say it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import mlfn
from mlfn.ui.html.cards import run_card
from mlfn.ui.text import report
from mlfn.ui.views.handles import view_run
from tests.ledger import wait_until


@mlfn.function
@mlfn.handler(outputs=["count"])
def hold(gate: str) -> int:
    while not Path(gate).exists():
        time.sleep(0.01)
    return 1


@mlfn.function
def add(x: int) -> int:
    return x + 1


@mlfn.function
def fail() -> None:
    raise ValueError("not yet")


@pytest.fixture
def held(local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Give a run that has the only worker until the test has ended."""
    monkeypatch.setenv("MLFN_MAX_WORKERS", "1")
    run = hold.submit(str(tmp_path / "gate"))
    wait_until(lambda: run.state == "running")
    yield run
    Path(tmp_path / "gate").touch()
    mlfn.wait(mlfn.runs(state="running"))


def test_a_run_waits_for_a_worker(held: mlfn.Run[int], tmp_path: Path) -> None:
    run = hold.submit(str(tmp_path / "gate"))

    assert view_run(run).waits_for == "a worker of its client"
    assert "waits for a worker of its client" in "\n".join(report(view_run(run)))
    assert "Waits for a worker of its client." in run_card(view_run(run))
    assert view_run(held).waits_for == ""


def test_a_run_waits_for_the_run_that_it_needs(held: mlfn.Run[int]) -> None:
    run = add.submit(held.outputs.count)

    assert view_run(run).waits_for == f"hold ({held.id[:8]}), which is running"


def test_a_run_waits_for_its_next_attempt(local: Path) -> None:
    run = fail.with_options(retry=mlfn.Retry(1, delay=60)).submit()
    wait_until(lambda: run.attempts and run.attempts[0].state == "failed")

    assert view_run(run).waits_for.startswith("its next attempt, at ")
    run.cancel()
    assert view_run(run).waits_for == ""
