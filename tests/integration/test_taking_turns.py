"""Functions that take turns on few cores keep their workers, within bounds."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import pytest

import mlfn
from mlfn.backends.places.local import place as local_place
from tests.ledger import wait_until, worker_processes


def turn(n: int):
    def pid(seconds: float = 0.0) -> tuple[int, float, float]:
        begun = time.monotonic()
        while time.monotonic() < begun + seconds:
            pass
        return os.getpid(), begun, time.monotonic()

    return mlfn.function(name=f"turn{n}")(pid).on("local", max_workers=1)


def pid_of(run: mlfn.Run) -> int:
    return run.result(timeout=30)[0]


def test_two_functions_that_take_turns_on_one_core_use_two_processes(local):
    a, b = turn(0), turn(1)

    pids = [pid_of(function.submit()) for function in (a, b, a, b, a, b)]

    assert pids[:2] * 3 == pids
    assert pids[0] != pids[1]


def test_workers_that_are_kept_do_not_work_beside_each_other(local):
    functions = [turn(n) for n in range(3)]
    for function in functions:
        pid_of(function.submit())

    runs = [function.submit(0.02) for _ in range(4) for function in functions]

    spans = sorted(run.result(timeout=30)[1:] for run in runs)
    assert all(end <= begun for (_, end), (begun, _) in itertools.pairwise(spans))


def test_no_more_than_a_few_are_kept_and_the_longest_idle_goes_first(local: Path):
    functions = [turn(n) for n in range(6)]
    pids = [pid_of(function.submit()) for function in functions]

    living = wait_until(lambda: len(found := worker_processes(local)) <= 4 and found)
    assert set(living) <= set(pids[2:])
    assert pid_of(functions[5].submit()) == pids[5]
    assert pid_of(functions[0].submit()) not in pids


@pytest.mark.parametrize(("left", "kept"), [(1, 1), (2**60, 3)], ids=["little memory", "much memory"])
def test_workers_beyond_the_cores_are_kept_only_where_there_is_memory(local: Path, monkeypatch, left, kept):
    monkeypatch.setattr(local_place, "available_memory", lambda: left)
    functions = [turn(n) for n in range(3)]
    pids = [pid_of(function.submit()) for function in functions]

    wait_until(lambda: len(worker_processes(local)) == kept)
    assert pid_of(functions[2].submit()) == pids[2]
