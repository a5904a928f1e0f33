"""Random stories of clients that submit, cancel, die and take over at a place that hurts; see tests/chaos/stories.py."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.architecture.source import ROOT

FEW, ALL = 300, 10_000


@pytest.mark.timeout(3600)
def test_every_story_ends_well(request: pytest.FixtureRequest) -> None:
    count = ALL if request.config.getoption("--full") else FEW

    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.stories", "--seeds", f"0:{count}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{count} stories, 0 failed" in done.stdout


def test_a_seed_tells_the_same_story_twice() -> None:
    command = [sys.executable, "-m", "tests.chaos.stories", "--seeds", "976", "--trace"]

    first, second = (subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout for _ in range(2))

    assert first == second
    assert b"engine.create" in first
