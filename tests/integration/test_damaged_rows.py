"""A row that cannot be read hurts whoever asks for that very run: every other run goes on, is listed and is cleaned up."""

from __future__ import annotations

import json
import signal
import sqlite3

import pytest

from tests.ledger import Stage, wait_until

SCRIPT = """
import os
import signal
import sqlite3
import sys
import time
from pathlib import Path

import mlfn

@mlfn.function(name="work", retry=mlfn.Retry(0))
def work(x: int, ledger: str, ctx: mlfn.Context) -> int:
    note(ledger, "start", ctx)
    print("at work")
    while not Path(ledger + ".go").exists():
        time.sleep(0.005)
    ctx.log_metric("loss", x)
    ctx.log_artifact("text", "kept")
    return 2 * x

@mlfn.function(name="bad")
def bad(x: int) -> int:
    raise ValueError(x)

def damage(sql):
    with sqlite3.connect(os.environ["MLFN_DATA"] + "/mlfn.db") as connection:
        assert connection.execute(sql).rowcount == 1

ledger, how, *more = sys.argv[1:]
if how == "die":
    kept = [work.submit(x, ledger) for x in range(int(more[0]))]
    while not Path(ledger).exists():
        time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGKILL)
elif how == "sweep":
    work.grid(x=[1, 2, 3, 4]).with_options(name="it", select="max.return", parallel=1).submit(ledger=ledger)
    while not Path(ledger).exists():
        time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGKILL)
elif how == "go on":
    run = work.grid(x=[1, 2, 3, 4]).with_options(name="it", select="max.return", parallel=1).submit(ledger=ledger)
    run.wait(60)
    print(run.state, run.best_iteration, [child.iteration for child in run.children], len(run.table()))
elif how == "result":
    print(mlfn.run(more[0]).result(timeout=60))
elif how == "promote":
    mlfn.run(more[0]).promote(tag="prod")
elif how == "wait":
    print(work.submit(1, ledger).result(timeout=60))
elif how == "names":
    print(*[run.id for run in mlfn.runs(name=more[0])])
elif how == "fail":
    first, second = bad.submit(1), bad.submit(2)
    first.wait(), second.wait()
    first, second = first.id, second.id
    client = mlfn.dispatch.session.current_session()
    client._observed.clear()
    damage(f"UPDATE runs SET failure = '[1]' WHERE id = '{first}'")
    print(first, second)
"""


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path, SCRIPT, heartbeat=0.2, max_workers=1)


def change(stage: Stage, sql: str, *args: str) -> None:
    connection = sqlite3.connect(stage.data / "mlfn.db")
    with connection:
        assert connection.execute(sql, args).rowcount == 1
    connection.close()


def ids(stage: Stage) -> list[str]:
    return [run for (run,) in stage.query("SELECT id FROM runs ORDER BY seq")]


def go(stage: Stage) -> None:
    (stage.folder / "ledger.go").touch()
    wait_until(lambda: not stage.workers())


BROKEN = [
    ("params", "{"), ("params", "[1]"), ("params", '{"x": 3}'), ("created", "abc"), ("state", "flying"), ("labels", "[]"),
]  # fmt: skip


@pytest.mark.parametrize(("column", "value"), BROKEN)
@pytest.mark.parametrize("which", [0, 1])
def test_the_orphans_of_a_dead_client_are_seen_through_but_for_the_one_that_cannot_be_read(stage, which, column, value):
    stage.run("die", "3", code=-signal.SIGKILL)
    run = ids(stage)
    broken = run.pop(which)  # the one that runs, or one that waits
    change(stage, f"UPDATE runs SET {column} = ? WHERE id = ?", value, broken)

    listed = stage.mlfn("runs")
    assert [line.split()[0] for line in listed.stdout.splitlines()[1:]] == [one[:8] for one in reversed(run)]
    assert listed.stderr.count(broken) == 2, "named once, and in the command that is to be typed"
    assert f"run '{broken}' cannot be read (runs.{column}: " in listed.stderr
    go(stage)
    assert stage.run("names", "work").split() == run[::-1]
    assert stage.run("names", "other").split() == []
    assert stage.mlfn("show", run[0]).stdout.split()[0] == "id" or run[0][:8] in stage.mlfn("show", run[0]).stdout
    for one in run:
        expected = 2 * json.loads(stage.query(f"SELECT params FROM runs WHERE id = '{one}'")[0][0])["x"]["inline"]
        assert stage.run("result", one).split() == [str(expected)]
    stage.mlfn("gc", "--older-than", "1d")
    assert broken in ids(stage)

    refused = stage.mlfn("show", broken, code=5).stderr
    assert f"mlfn gc --broken {broken}" in refused
    assert f"runs.{column}" in refused


def test_a_row_that_is_put_right_goes_on(stage):
    stage.run("die", "2", code=-signal.SIGKILL)
    first, second = ids(stage)
    [(kept,)] = stage.query(f"SELECT params FROM runs WHERE id = '{second}'")
    change(stage, "UPDATE runs SET params = '{' WHERE id = ?", second)
    go(stage)
    assert stage.run("result", first).split() == ["0"]
    stage.run("names", "work")

    change(stage, "UPDATE runs SET params = ? WHERE id = ?", kept, second)
    assert stage.run("result", second).split() == ["2"]


def test_a_plan_that_cannot_be_read_hurts_its_own_runs_alone(stage):
    stage.run("die", "2", code=-signal.SIGKILL)
    first, second = ids(stage)
    change(stage, "INSERT INTO plans (hash, function, body) SELECT 'torn', function, '{' FROM plans")
    change(stage, "UPDATE runs SET plan = 'torn' WHERE id = ?", first)
    go(stage)

    assert stage.run("result", second).split() == ["2"]
    assert len(stage.run("names", "work").split()) == 2
    payloads = sorted((stage.data / "payloads").iterdir())
    stage.mlfn("gc")
    assert sorted((stage.data / "payloads").iterdir()) == payloads


@pytest.mark.parametrize(
    ("where", "column", "value"),
    [
        ("state IN ('pending', 'running')", "params", "["),
        ("iteration = (SELECT max(iteration) FROM runs)", "point", "{"),
        ("state = 'succeeded'", "params", "[1]"),
    ],
)
def test_a_sweep_goes_on_without_the_child_that_cannot_be_read(stage, where, column, value):
    (stage.folder / "ledger.go").touch()
    stage.run("sweep", code=-signal.SIGKILL)
    wait_until(lambda: not stage.workers())
    found = stage.query(f"SELECT id, iteration FROM runs WHERE iteration > 0 AND {where} ORDER BY iteration DESC")
    if not found:  # the first one had ended, and the next had not begun
        found = stage.query("SELECT id, iteration FROM runs WHERE iteration > 0 ORDER BY iteration DESC")
    broken, number = found[0]
    change(stage, f"UPDATE runs SET {column} = ? WHERE id = ?", value, broken)

    state, best, *numbers = stage.run("go on", timeout=90).split()

    others = [one for one in (1, 2, 3, 4) if one != number]
    assert (state, best) == ("succeeded", str(max(others)))
    assert json.loads(" ".join(numbers[: len(others)])) == others
    assert stage.query("SELECT count(*) FROM runs WHERE iteration > 0") == [(4,)]
    sweep = stage.query("SELECT id FROM runs WHERE sweep = 1")[0][0]
    assert f"run '{broken}' cannot be read" in stage.mlfn("runs", "--parent", sweep).stderr


def test_the_word_at_the_end_names_the_failures_that_can_be_read(stage):
    process = stage.start("fail")
    out, err = process.communicate(timeout=60)
    first, second = out.split()

    assert process.returncode == 0
    assert "Traceback" not in err
    assert f"run '{first}' cannot be read (runs.failure: " in err
    assert f"mlfn: 1 run failed: bad {second[:8]} (mlfn show {second[:8]})" in err


def test_doctor_names_what_cannot_be_read_and_gc_removes_it_when_told_to(stage):
    (stage.folder / "ledger.go").touch()
    stage.run("die", "2", code=-signal.SIGKILL)
    first, second = ids(stage)
    wait_until(lambda: not stage.workers())
    for run in (first, second):
        stage.run("result", run)
    assert "ok     rows" in stage.mlfn("doctor").stdout
    assert (
        f"--broken {first[:8]}: every row of that run can be read" in stage.mlfn("gc", "--broken", first, code=2).stderr
    )
    change(stage, "UPDATE metrics SET value = 'zz' WHERE run = (SELECT seq FROM runs WHERE id = ?)", first)

    said = stage.mlfn("doctor", code=5).stdout
    assert "checked the rows of all 2 runs, and all that belongs to the newest 2: 1 cannot be read" in said
    assert f"{first}, metrics.value: 'zz' is not" in said
    assert f"mlfn gc --broken {first}" in said
    stage.mlfn("gc", "--older-than", "1d")
    dry = stage.mlfn("gc", "--broken", first[:9], "--dry-run")
    assert ids(stage) == [first, second]
    assert f"metrics.value of {first[:8]}, metric 'loss': 'zz' is not" in dry.stderr
    wet = stage.mlfn("gc", "--broken", first[:9])

    assert wet.stdout == dry.stdout
    assert [line.split()[0] for line in wet.stdout.splitlines()] == ["run", "artifacts", "log"]
    assert "would remove 1 run and 2 files" in dry.stderr and "removing 1 run and 2 files" in wet.stderr
    assert ids(stage) == [second]
    for table in ("metrics", "scores", "outputs", "attempts", "events"):
        left = f"SELECT DISTINCT runs.id FROM {table} LEFT JOIN runs ON runs.seq = {table}.run"
        assert set(stage.query(left)) <= {(second,)}
    assert [path.name for path in (stage.data / "artifacts").iterdir()] == [second]
    assert [path.name for path in (stage.data / "logs").rglob("*.log")] == [f"{second}-1.log"]
    assert "ok     rows" in stage.mlfn("doctor").stdout
    assert stage.run("result", second).split() == ["2"]


def test_gc_keeps_a_broken_run_that_was_promoted(stage):
    (stage.folder / "ledger.go").touch()
    stage.run("wait")
    [run] = ids(stage)
    stage.run("promote", run)
    change(stage, "UPDATE metrics SET value = 'zz' WHERE run = (SELECT seq FROM runs WHERE id = ?)", run)

    for more in ([], ["--dry-run"]):
        refused = stage.mlfn("gc", "--broken", run, *more, code=2)
        assert refused.stdout == ""
        assert f"--broken {run[:8]}: work:prod was promoted from that run; promote another run" in refused.stderr
    assert ids(stage) == [run]
    assert stage.query("SELECT id FROM metrics JOIN runs ON seq = metrics.run") == [(run,)]


def test_gc_keeps_a_broken_run_whose_client_lives(stage):
    client = stage.start("wait")
    wait_until(stage.ledger.exists)
    [run] = ids(stage)
    change(stage, "UPDATE runs SET created = 'abc' WHERE id = ?", run)

    refused = stage.mlfn("gc", "--broken", run, code=2)
    assert f"--broken {run[:8]}: it is running and its client lives; end that process" in refused.stderr
    assert ids(stage) == [run]

    (stage.folder / "ledger.go").touch()
    assert client.communicate(timeout=60)[0].split() == ["2"] and client.returncode == 0
    removed = stage.mlfn("gc", "--broken", run)
    assert removed.stdout.split()[0] == "run"
    assert ids(stage) == []
