"""The same script run again with other options: what says how to drive is taken over, what decides begins another sweep."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import mlfn
from tests.ledger import Stage, audit, wait_until

SCRIPT = """
import json
import logging
import sys
import time
from pathlib import Path

import mlfn

logging.basicConfig(format="%(message)s", stream=sys.stdout)

@mlfn.function(name="child")
def child(x: int, ledger: str, ctx: mlfn.Context, more: object = None) -> int:
    note(ledger, "start", ctx)
    while x > 1 and not Path(ledger + ".go").exists():
        time.sleep(0.005)
    note(ledger, "end", ctx)
    return x

ledger, how, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
if how == "grid":
    sweep = child.grid(x=[1, 2, 3, 4, 5, 6, 7, 8])
elif how.startswith("rows"):
    sweep = child.sweep([{"x": 1}, {"x": 2, "more": Path("a")}, {"x": 3}, {"x": 4, "more": Path(how)}])
else:
    sweep = child.search(n=8, seed=1, sampler="random", x=mlfn.randint(2, 9))
try:
    run = sweep.with_options(name="it", select="max.return", **options).submit(ledger=ledger)
except mlfn.MlfnError as error:
    print(type(error).__name__, error)
else:
    print("begun", flush=True)
    run.wait()
    print(run.state, run.stop_reason)
"""


def test_more_at_a_time_are_taken_over_from_a_driver_that_was_killed(tmp_path):
    stage = killed(tmp_path, parallel=1)
    assert stage.query("SELECT count(*) FROM runs WHERE iteration > 0") == [(2,)]

    process = stage.start("grid", json.dumps({"parallel": 4}))
    wait_until(lambda: running(stage) == 4)
    body = stored(stage)
    (tmp_path / "ledger.go").touch()
    out, _ = process.communicate(timeout=60)

    assert out.splitlines() == [
        f"goes on with it ({sweep_id(stage)}): 1 of 8 done",
        f"sweep child ({sweep_id(stage)}) goes on with other options: parallel 1 -> 4",
        "begun",
        "succeeded None",
    ]
    assert body["parallel"] == 4
    assert most_at_once(stage) == 4
    audit(stage, runs=9)


def test_a_condition_that_is_given_later_ends_it_by_what_is_there_already(tmp_path):
    stage = killed(tmp_path, parallel=1, timeout=3600, memo=True)

    said = stage.run("grid", json.dumps({"parallel": 1, "stop_when": "finished >= 1"}))

    assert said.splitlines() == [
        f"goes on with it ({sweep_id(stage)}): 1 of 8 done",
        (
            f"sweep child ({sweep_id(stage)}) goes on with other options: "
            "stop_when None -> 'finished >= 1', timeout 3600.0 -> None, memo True -> False"
        ),
        "begun",
        "succeeded finished >= 1 held after child 1",
    ]
    assert stage.query("SELECT iteration, state FROM runs WHERE iteration > 0 ORDER BY 1") == [
        (1, "succeeded"),
        (2, "cancelled"),
    ]


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ({"subject_to": "mem <= 16"}, {"subject_to": "mem <= 8"}, "subject_to='mem <= 16' (now 'mem <= 8')"),
        ({}, {"subject_to": ["mem <= 8", "gpus < 2"]}, "subject_to=None (now ['mem <= 8', 'gpus < 2'])"),
        ({}, {"deterministic": True}, "deterministic=False (now True)"),
        ({"deterministic": True}, {"deterministic": True, "parallel": 2}, "parallel=1 (now 2)"),
    ],
)
def test_what_decides_begins_another_that_takes_over_what_succeeded(tmp_path, before, now, said):
    stage = killed(tmp_path, parallel=1, **before)
    short = sweep_id(stage)
    (tmp_path / "ledger.go").touch()

    out = stage.run("grid", json.dumps({"parallel": 1, "max_failures": 3, **now}))

    assert out.splitlines()[0] == f"begins it anew: {said}; `mlfn sweep resume {short}` goes on with the earlier one"
    assert stage.query("SELECT state FROM runs WHERE sweep = 1 ORDER BY seq")[0] == ("pending",)
    assert stage.query("SELECT 1 FROM runs WHERE reused IS NOT NULL AND iteration = 1")


def test_a_search_goes_on_with_more_at_a_time_as_the_search_that_it_was(tmp_path):
    stage = killed(tmp_path, "search", parallel=1)
    strategy = stored(stage)["strategy"]

    process = stage.start("search", json.dumps({"parallel": 8}))
    wait_until(lambda: running(stage) == 8)
    (tmp_path / "ledger.go").touch()
    out, _ = process.communicate(timeout=60)

    assert "parallel 1 -> 8" in out and out.endswith("succeeded None\n")
    assert strategy["data"]["parallel"] == 1 and stored(stage)["strategy"] == strategy


def test_rows_are_carried_on_without_their_script(tmp_path, monkeypatch):
    stage = killed(tmp_path, "rows", parallel=1)
    stage.script.unlink()
    (tmp_path / "ledger.go").touch()
    monkeypatch.setenv("MLFN_DATA", str(stage.data))
    monkeypatch.setenv("MLFN_HEARTBEAT", "0.2")

    sweep = mlfn.run(sweep_id(stage)).resume()

    assert sweep.result(30) == 4
    assert [child.params.get("more") for child in sweep.children] == [None, Path("a"), None, Path("rows")]
    assert [what for what, *_ in stage.entries()].count("end") == 4


def test_a_second_driver_changes_no_options_of_the_one_that_lives(tmp_path):
    stage = Stage(tmp_path, SCRIPT, heartbeat=0.2)
    first = stage.start("grid", json.dumps({"parallel": 1}))
    first.stdout.readline()
    wait_until(lambda: running(stage) == 1 and stage.query("SELECT 1 FROM runs WHERE iteration = 2"))

    said = stage.run("grid", json.dumps({"parallel": 4, "stop_when": "finished >= 1"}))
    (tmp_path / "ledger.go").touch()
    out, _ = first.communicate(timeout=60)

    assert said.startswith("SweepHeldError") and "other options" not in said
    assert out == "succeeded None\n"
    assert (stored(stage)["parallel"], stored(stage)["stop_when"]) == (1, None)
    assert most_at_once(stage) == 1


class TestInOneProcess:
    def test_one_that_is_over_is_returned_with_the_options_that_decided_it(self, local, caplog):
        sweep = square.grid(x=[1, 2, 3]).with_options(select="max.return", name="squares", parallel=2)
        run = sweep.submit()
        run.wait(30)

        again = sweep.with_options(subject_to="return < 5", parallel=1).submit()

        assert again == run and again.best_iteration == 3
        assert messages(caplog) == [
            f"the sweep 'squares' ({run.id[:8]}) is over, and keeps its options: subject_to None, not 'return < 5'"
        ]

    def test_one_that_failed_is_followed_by_one_with_the_options_given_now(self, local, caplog):
        sweep = square.grid(x=[1, 2, 3]).with_options(select="max.return", name="squares")
        failed = sweep.with_options(subject_to="return < 0").submit()
        failed.wait(30)

        again = sweep.with_options(subject_to="return < 5").submit()

        assert (again.result(30), again.best_iteration) == (4, 2)
        assert [child.reused for child in again.children] == [child.id for child in failed.children]
        assert messages(caplog) == []
        assert (
            f"squares ({failed.id[:8]}) ended as failed: goes on as another sweep, which takes over the 3 that succeeded"
            in caplog.text
        )

    def test_one_that_runs_here_says_that_it_keeps_its_options(self, local, caplog, tmp_path):
        gate = tmp_path / "gate"
        sweep = waits.grid(x=[1, 2]).with_options(name="waiting", parallel=1)
        run = sweep.submit(until=str(gate))

        assert sweep.with_options(parallel=2, timeout="1h").submit(until=str(gate)) == run
        gate.touch()

        assert run.result(30) == [1, 2]
        assert messages(caplog) == [
            (
                f"the sweep 'waiting' ({run.id[:8]}) runs in this process, and keeps its options: "
                "parallel 1, not 2, timeout None, not 3600.0"
            )
        ]


@mlfn.function
def square(x: int) -> int:
    return x * x


@mlfn.function
def waits(x: int, until: str) -> int:
    import pathlib
    import time

    while not pathlib.Path(until).exists():
        time.sleep(0.005)
    return x


def killed(folder: Any, how: str = "grid", **options: Any) -> Stage:
    """Return a stage whose script was killed while a child ran that waits to be let go."""
    stage = Stage(folder, SCRIPT, heartbeat=0.2)
    process = stage.start(how, json.dumps(options))
    process.stdout.readline()
    number = 1 if how == "search" else 2
    wait_until(lambda: stage.query("SELECT 1 FROM runs WHERE iteration = ? AND state = 'running'", number))
    stage.kill(process)
    return stage


def running(stage: Stage) -> int:
    return int(stage.query("SELECT count(*) FROM runs WHERE iteration > 0 AND state = 'running'")[0][0])


def stored(stage: Stage) -> dict[str, Any]:
    [(body,)] = stage.query("SELECT body FROM sweeps")
    return dict(json.loads(body))


def sweep_id(stage: Stage) -> str:
    return str(stage.query("SELECT run FROM sweeps")[0][0])[:8]


def most_at_once(stage: Stage) -> int:
    """Return how many children ran at the same time, by when their last attempts were claimed and ended."""
    times = stage.query("SELECT claimed, ended FROM runs WHERE iteration > 0")
    return max(sum(begun <= at < ended for begun, ended in times) for at, _ in times)


def messages(caplog: Any) -> list[str]:
    return [record.message for record in caplog.records if "options" in record.message]
