"""`mlfn sweep`, and what the other commands say of sweeps: in this very process, and as a shell sees it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mlfn.dispatch import session as client
from mlfn.settings import current as settings
from mlfn.ui.cli.app import run_command_line
from tests.architecture.source import ROOT

JOBS = '''
import time
from pathlib import Path

import mlfn


@mlfn.function
@mlfn.handler(outputs=["model", "accuracy"])
def train(data: dict, depth: int, lr: float = 0.1, seed: int = 0, ctx: mlfn.Context = None):
    """Train."""
    if depth == 13:
        raise ValueError("13 is too much\\nof it")
    ctx.log_metric("size", depth)
    return {"depth": depth}, depth * lr


@mlfn.function
def outer(n: int):
    return inner.grid(x=range(n)).submit().result()


@mlfn.function
def inner(x: int):
    return x


@mlfn.function
def gated(x: int, folder: str):
    Path(folder, f"begun-{x}").touch()
    while x > 1 and not Path(folder, "gate").exists():
        time.sleep(0.01)
    return x


@mlfn.function
def stubborn(x: int, folder: str):
    while not Path(folder, "gate").exists():
        try:
            Path(folder, f"begun-{x}").touch()
            time.sleep(0.01)
        except BaseException:
            pass
'''

KINDS = """
import enum
from dataclasses import dataclass

import mlfn


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


@dataclass
class Size:
    height: int = 0


@mlfn.function
def paint(colour: Colour, size: Size = Size()):
    pass
"""


class Answer(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Answer]


@pytest.fixture
def mlfn(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    Path("jobs.py").write_text(JOBS)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("MLFN_ON", "inline")

    def run(*args: str) -> Answer:
        capsys.readouterr()
        code = run_command_line(args)
        return Answer(code, *capsys.readouterr())

    yield run
    settings.reset()
    sys.modules.pop("jobs", None)
    for one in client._sessions.values():
        one.close()
    client._sessions.clear()


def rows(out: str) -> list[list[str]]:
    """Return the cells of the table in an answer, the mark of the best as a cell of its own."""
    table = out[out.index("  CHILD") :].partition("\n\n")[0]
    return [line.split() for line in table.splitlines()]


GRID = ("sweep", "jobs.py::train", "{}", "--grid", "depth=4,8", "--grid", "lr=0.1,0.3", "--select", "max.accuracy")


def test_a_grid_ends_with_its_table_the_best_marked(mlfn):
    ran = mlfn(*GRID)

    assert ran.code == 0
    assert "4 children" in ran.err
    assert "children  4 of 4: 4 succeeded" in ran.out
    assert "by max.accuracy: depth=8 lr=0.3" in ran.out
    table = rows(ran.out)
    assert table[0] == ["CHILD", "STATE", "depth", "lr", "accuracy", "size", "TOOK", "ID"]
    assert [row[:5] for row in table[1:4]] == [
        ["1", "succeeded", "4", "0.1", "0.4"],
        ["2", "succeeded", "8", "0.1", "0.8"],
        ["3", "succeeded", "4", "0.3", "1.2"],
    ]
    assert table[4][:6] == ["*", "4", "succeeded", "8", "0.3", "2.4"]


def test_what_only_a_pickle_keeps_is_told_in_words(mlfn):
    Path("kinds.py").write_text(KINDS)

    ran = mlfn("sweep", "kinds.py::paint", "--grid", "colour=RED,GREEN", "--grid", "size.height=1,2")

    assert [" ".join(row[2:5]) for row in rows(ran.out)[1:]] == [
        "<Colour.RED: 1> 1",
        "<Colour.GREEN: 2> 1",
        "<Colour.RED: 1> 2",
        "<Colour.GREEN: 2> 2",
    ]
    shown = mlfn("show", rows(ran.out)[1][-1]).out
    assert "<Colour.RED: 1>" in shown and "Size(height=1)" in shown


def test_one_document_for_machines(mlfn):
    ran = mlfn(*GRID, "--json").document

    assert (ran["state"], ran["sweep"], ran["outputs"]["best_iteration"]["value"]) == ("succeeded", True, 4)
    family = ran["family"]
    assert family["counts"] == {"succeeded": 4}
    assert (family["size"], family["keys"], family["best"]["iteration"]) == (4, ["depth", "lr"], 4)
    assert family["children"][0]["params"]["depth"]["value"] == 4
    assert family["children"][3]["metrics"] == {"accuracy": 2.4, "size": 8}


def test_the_first_positions_are_the_functions_own(mlfn):
    ran = mlfn("sweep", "jobs.py::train", '{"a": 1}', "--lr", "0.5", "--zip", "depth=1,2", "--json").document

    assert ran["params"]["data"]["value"] == {"a": 1}
    assert [child["metrics"]["accuracy"] for child in ran["family"]["children"]] == [0.5, 1.0]


def test_random_draws_by_its_seed(mlfn):
    def drawn(seed: str) -> list[Any]:
        # The handler has a seed of its own, so that of the sweep stands before the target.
        line = (
            "sweep",
            "--seed",
            seed,
            "jobs.py::train",
            "{}",
            "--random",
            "depth=2..12",
            "-n",
            "4",
            "--method",
            "latin",
        )
        children = mlfn(*line, "--json").document["family"]["children"]
        return [child["params"]["depth"]["value"] for child in children]

    assert drawn("3") == drawn("3")
    assert drawn("3") != drawn("4")


def test_search_takes_spaces_a_sampler_and_a_condition_to_stop(mlfn):
    spaces = ("--search", "lr=log(1e-4,1)", "--search", "depth=2|4", "-n", "9", "--sampler", "random")
    ran = mlfn("sweep", "jobs.py::train", "{}", *spaces, "--select", "max.accuracy", "--stop", "finished >= 3")

    assert ran.code == 0
    assert "children  3 of 9: 3 succeeded" in ran.out
    assert "stopped   finished >= 3 held after child 3" in ran.out


def test_several_selectors_have_a_front(mlfn):
    ran = mlfn(*GRID[:-1], "min.size", "--select", "max.accuracy")

    assert "front     child 3, child 4" in ran.out


def test_where_there_is_no_front_none_is_told(mlfn):
    ran = mlfn(*GRID[:-1], "min.size", "--select", "max.nothing")

    assert "has not reported. Allowed: " in ran.err
    assert "front" not in ran.out


def test_a_sweep_that_fails_says_so_and_keeps_the_rest(mlfn):
    ran = mlfn("sweep", "jobs.py::train", "{}", "--grid", "depth=1,13,2", "--max-failures", "1", "--parallel", "1")

    assert ran.code == 1
    assert "1 of 2 children failed (max_failures=1)" in ran.out + ran.err
    assert rows(ran.out)[2][-5:] == ["ValueError:", "13", "is", "too", "much"]
    assert rows(ran.out)[1][1] == "succeeded"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("{}",), "nothing varies"),
        (("{}", "--grid", "depth=1", "--zip", "depth=1"), "--grid and --zip do not go together"),
        (("{}", "--grid", "depth=1", "-n", "3"), "-n goes with --random and --search, not --grid"),
        (("{}", "--random", "depth=1..3"), "--random lacks -n"),
        (("{}", "--random", "depth=1..3", "-n", "3", "--sampler", "tpe"), "--sampler goes with --search, not --random"),
        (("{}", "--search", "depth=1..3", "-n", "3"), "--search lacks --select"),
        (("{}", "--grid", "lr=0.1"), "train lacks 'depth': sweep it"),
        (("--grid", "depth=1"), "train lacks 'data'"),
        (("{}", "--grid", "dept=1"), "did you mean 'depth'"),
        (("{}", "--grid", "depth=1", "--depth", "3"), "both swept and given"),
        (("{}", "--grid", "depth=1", "--select", "max."), "names no metric"),
        (("{}", "--grid", "depth=1", "--stop", "accuracy >"), "Expected"),
        (("{}", "--grid", "nothere.csv"), "nothere.csv"),
        (("{}", "--grid", "depth"), "--grid 'depth': KEY=VALUES is allowed, as in --grid depth=4,8"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_starts(mlfn, arguments, said):
    refused = mlfn("sweep", "jobs.py::train", *arguments)

    assert refused.code in (2, 3)
    assert said in refused.err
    assert mlfn("runs", "--json").document == []


def test_where_the_function_has_an_n_of_its_own_the_option_goes_before(mlfn):
    refused = mlfn("sweep", "jobs.py::outer", "--random", "n=1..3", "-n", "2")
    ran = mlfn("sweep", "-n", "2", "--random", "n=1..3", "jobs.py::outer")

    assert refused.code == 2
    assert "as in -n 50, before the target: outer has an n of its own" in refused.err
    assert "children  2 of 2" in ran.out


def test_a_file_of_lists(mlfn):
    Path("grid.csv").write_text("depth,lr\n4,0.1\n8,\n")

    assert mlfn("sweep", "jobs.py::train", "{}", "--grid", "grid.csv", "--json").document["family"]["size"] == 2


def test_under_a_name_it_goes_on_and_what_is_over_is_over(mlfn):
    first = mlfn(*GRID, "--name", "mine", "--json").document
    again = mlfn(*GRID, "--name", "mine")

    assert "was over before" in again.err
    assert first["id"] in again.out


def test_runs_marks_a_sweep_and_lists_its_children(mlfn):
    sweep = mlfn(*GRID, "--json").document["id"]

    listed, children = mlfn("runs"), mlfn("runs", "--parent", sweep[:8])

    assert listed.out.splitlines()[0].split()[:4] == ["ID", "STATE", "SWEEP", "NAME"]
    assert listed.out.splitlines()[1].split()[:4] == [sweep[:8], "succeeded", "4/4", "train"]
    assert len(listed.out.splitlines()) == 2
    assert [line.split()[1] for line in children.out.splitlines()] == ["CHILD", "4", "3", "2", "1"]


def test_show_tells_a_sweep_and_a_child(mlfn):
    ran = mlfn(*GRID, "--json").document

    shown = mlfn("show", ran["id"][:8])
    child = mlfn("show", ran["family"]["children"][2]["id"][:8])

    assert "children  4 of 4: 4 succeeded" in shown.out
    assert "depth  8  (default)" not in shown.out
    assert rows(shown.out)[4][0] == "*"
    assert f"{ran['id']}, of which it is child 3" in child.out
    assert mlfn("show", "--json", ran["id"]).document["family"] == ran["family"]


def test_show_cuts_a_long_table_to_the_best(mlfn):
    ran = mlfn("sweep", "jobs.py::train", "{}", "--grid", "depth=1..13", "--select", "max.accuracy", "--json").document

    shown = mlfn("show", ran["id"])

    assert "the best 10 by max.accuracy of 13 children" in shown.err
    assert [row[-7] if row[0] == "*" else row[0] for row in rows(shown.out)[1:]][1:4] == ["11", "10", "9"]


def test_show_draws_what_runs_have_submitted_as_a_tree(mlfn):
    sweep = mlfn("sweep", "jobs.py::outer", "--grid", "n=1,12", "--json").document["id"]

    short, whole = mlfn("show", sweep).out, mlfn("show", sweep, "--tree").out

    assert re.search(r"^├─ 1  \w{8}  succeeded  outer  n=1$", whole, re.MULTILINE)
    assert re.search(r"^│     └─ 1  \w{8}  succeeded  inner  x=0$", whole, re.MULTILINE)
    assert re.search(r"^      └─ 12  \w{8}  succeeded  inner  x=11$", whole, re.MULTILINE)
    assert "└─ ... 2 more; --tree shows all" in short


def test_rerun_of_a_sweep_is_refused_and_of_a_child_is_not(mlfn):
    ran = mlfn(*GRID, "--json").document

    refused = mlfn("rerun", ran["id"])
    again = mlfn("rerun", ran["family"]["children"][0]["id"], "--lr", "1")

    assert refused.code == 2
    assert "mlfn sweep resume" in refused.err
    assert (again.code, "accuracy  4" in again.out) == (0, True)


def test_resume_begins_anew_what_failed_and_takes_over_what_succeeded(mlfn):
    failed = mlfn("sweep", "jobs.py::train", "{}", "--grid", "depth=1,13", "--max-failures", "1", "--json").document
    plain = mlfn("run", "jobs.py::inner", "3", "--json").document

    again = mlfn("sweep", "resume", failed["id"][:8], "--json")
    no_sweep = mlfn("sweep", "resume", plain["id"])

    assert f"after {failed['id'][:8]}, which was failed" in again.err
    assert again.document["family"]["children"][0]["reused"] == failed["family"]["children"][0]["id"]
    assert (no_sweep.code, "is no sweep" in no_sweep.err) == (2, True)


# -- as a shell sees it: processes and signals


@pytest.fixture
def shell() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    begun: list[subprocess.Popen[str]] = []
    Path("jobs.py").write_text(JOBS)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))

    def start(*args: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlfn", *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "MLFN_HEARTBEAT": "0.3"},
            start_new_session=True,
        )
        begun.append(process)
        return process

    yield start
    for process in begun:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=30)


def answer(process: subprocess.Popen[str]) -> Answer:
    out, err = process.communicate(timeout=60)
    return Answer(process.returncode, out, err)


def until(path: Path) -> None:
    limit = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < limit, f"{path} never came"
        time.sleep(0.02)


def begun(shell: Any, tmp_path: Path) -> tuple[subprocess.Popen[str], str]:
    """Start a sweep whose first child ends and whose second waits; return it and its id."""
    process = shell(
        "sweep",
        "jobs.py::gated",
        "--folder",
        str(tmp_path),
        "--grid",
        "x=1,2,3",
        "--parallel",
        "2",
        "--select",
        "return",
    )
    until(tmp_path / "begun-3")  # so the first has ended
    return process, answer(shell("runs", "--json")).document[0]["id"]


def test_ctrl_c_cancels_a_sweep_and_its_children(shell, tmp_path):
    process, sweep = begun(shell, tmp_path)

    process.send_signal(signal.SIGINT)
    ended = answer(process)
    shown = answer(shell("show", sweep, "--json")).document

    assert ended.code == 130
    assert "(ctrl-C again leaves it behind)" in ended.err
    assert (shown["state"], shown["family"]["counts"]) == ("cancelled", {"cancelled": 2, "succeeded": 1})


def test_a_second_ctrl_c_leaves_a_sweep_behind_for_whoever_asks(shell, tmp_path):
    process = shell("sweep", "jobs.py::stubborn", "--folder", str(tmp_path), "--grid", "x=1,2", "--parallel", "1")
    until(tmp_path / "begun-1")
    assert "of stubborn on local" in process.stderr.readline()  # from here on it is ctrl-C to what waits for the sweep
    process.send_signal(signal.SIGINT)
    sweep = answer(shell("runs", "--json")).document[0]["id"]
    while "cancel requested" not in answer(shell("show", sweep)).out:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)

    left = answer(process)
    assert left.code == 130
    assert f"left {sweep[:8]} behind; `mlfn wait {sweep[:8]}`" in left.err
    (tmp_path / "gate").touch()
    assert answer(shell("wait", sweep)).code == 4  # it goes on with what it was told: to end


def test_cancel_from_another_terminal_ends_the_children(shell, tmp_path):
    process, sweep = begun(shell, tmp_path)

    cancelled = answer(shell("cancel", sweep))

    assert (cancelled.code, answer(process).code) == (0, 4)
    assert answer(shell("show", sweep, "--json")).document["family"]["counts"] == {"cancelled": 2, "succeeded": 1}


@pytest.mark.parametrize("command", [("wait",), ("sweep", "resume"), ("sweep", "--resume")])
def test_a_sweep_whose_process_was_killed_is_carried_on(shell, tmp_path, command):
    process, sweep = begun(shell, tmp_path)
    while not re.search(rf"^{sweep[:8]}  running +1/3 ", answer(shell("runs")).out, re.MULTILINE):
        assert process.poll() is None
    process.kill()
    process.wait()
    assert "the process that submitted it is gone" in answer(shell("show", sweep)).out

    carried = shell(*command, sweep)
    (tmp_path / "gate").touch()

    assert answer(carried).code == 0
    shown = answer(shell("show", sweep, "--json")).document
    assert (shown["state"], shown["family"]["best"]["iteration"]) == ("succeeded", 3)
    assert shown["family"]["counts"] == {"succeeded": 3}


def test_a_sweep_whose_process_was_killed_can_be_cancelled(shell, tmp_path):
    process, sweep = begun(shell, tmp_path)
    process.kill()
    process.wait()

    assert answer(shell("cancel", sweep)).code == 0
    assert answer(shell("show", sweep, "--json")).document["family"]["counts"] == {"cancelled": 2, "succeeded": 1}


def test_resume_of_a_sweep_that_is_driven_says_who_drives_it(shell, tmp_path):
    process, sweep = begun(shell, tmp_path)

    held = answer(shell("sweep", "resume", sweep))
    (tmp_path / "gate").touch()  # else its workers would outlive the test
    assert answer(process).code == 0

    assert (held.code, f"driven by process {process.pid}" in held.err) == (2, True)
