"""The progress line of a wait, in a real pseudo-terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from tests.architecture.source import ROOT

SCRIPT = """
import pathlib, sys, time
import mlfn

@mlfn.function
def train(gate: str, ctx: mlfn.Context):
    for step in ctx.progress(range(4), text="epochs"):
        while step == 1 and gate and not pathlib.Path(gate).exists():
            time.sleep(0.01)
    return 42

if __name__ == "__main__":
    run = train.submit(sys.argv[1])
    print("result", run.result(), flush=True)
"""


@contextmanager
def terminal(command, **variables):
    """Start a command in a terminal of its own; give it and the terminal's other end."""
    ours, theirs = pty.openpty()
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100", **variables}
    environ = {name: value for name, value in environ.items() if value is not None}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ)
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_until(ours, words, limit=60.0):
    """Return what the terminal got until `words` came, or until its programs ended."""
    got = b""
    end = time.monotonic() + limit
    while words not in got and time.monotonic() < end:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                part = os.read(ours, 65536)
            except OSError:  # all of its programs have ended
                break
            if not part:
                break
            got += part
    return got.decode("utf-8", "replace")


def left_on_screen(written):
    """Return the lines that are left of what was written: `CR` and `erase line` are obeyed, colours dropped."""
    lines, row = [""], 0
    for part in re.split(r"(\r|\n|\x1b\[[0-9;?]*[A-Za-z])", written):
        if part == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif part == "\x1b[2K":
            lines[row] = ""
        elif part == "\x1b[1A":
            row = max(0, row - 1)
        elif part != "\r" and not part.startswith("\x1b["):
            lines[row] += part
    return [line for line in lines if line]


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


def test_a_wait_shows_a_line_that_is_gone_afterwards(script, tmp_path):
    gate = tmp_path / "gate"

    with terminal([sys.executable, str(script), str(gate)], CI=None) as (process, ours):
        during = read_until(ours, b"epochs")
        gate.touch()
        after = read_until(ours, b"never")
        assert process.wait(30) == 0

    assert "train" in during
    assert "running" in during
    assert left_on_screen(during + after) == ["result 42"]
    assert (during + after).count("\x1b[?25h") >= 1  # the cursor is shown again


@pytest.mark.parametrize(
    "variables", [{"CI": "true"}, {"TERM": "dumb", "CI": None}, {"MLFN_COLOR": "never", "CI": None}]
)
def test_where_no_line_is_wanted_there_is_none(script, tmp_path, variables):
    gate = tmp_path / "gate"

    with terminal([sys.executable, str(script), str(gate)], **variables) as (process, ours):
        # Longer than the wait stays silent anyway.
        first = read_until(ours, b"epochs", limit=1.5)
        gate.touch()
        rest = read_until(ours, b"never")
        assert process.wait(30) == 0

    assert first + rest == "result 42\r\n"


def test_a_short_wait_shows_nothing(script):
    with terminal([sys.executable, str(script), ""], CI=None) as (process, ours):
        written = read_until(ours, b"never")
        assert process.wait(30) == 0

    assert left_on_screen(written) == ["result 42"]


def test_a_pipe_gets_the_result_alone(script, tmp_path):
    gate = tmp_path / "gate"
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    command = [sys.executable, str(script), str(gate)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.2)
        gate.touch()
        out, err = process.communicate(timeout=30)

    assert (out, err) == ("result 42\n", "")


def test_ctrl_c_leaves_no_line_behind(script, tmp_path):
    gate = tmp_path / "gate"

    with terminal([sys.executable, str(script), str(gate)], CI=None) as (process, ours):
        during = read_until(ours, b"epochs")
        process.send_signal(2)
        after = read_until(ours, b"never")
        process.wait(30)

    screen = left_on_screen(during + after)
    assert [line.strip() for line in screen[-2:]] == ["KeyboardInterrupt", "mlfn: cancelled 1 run"]
    assert not any("epochs" in line for line in screen if "for step" not in line)


SWEEP = """
import pathlib, sys, time
import mlfn

@mlfn.function
def train(x: int, gate: str, ctx: mlfn.Context):
    ctx.log_metric("score", x)
    while x > 7 and not pathlib.Path(gate).exists():
        time.sleep(0.01)
    if x == 3:
        raise ValueError

if __name__ == "__main__":
    sweep = train.grid(x=range(10)).with_options(select="max.score", parallel=2).submit(gate=sys.argv[1])
    sweep.wait()
    print("result", sweep.best_iteration, flush=True)
"""


def test_a_sweep_shows_how_far_it_is_and_the_best_so_far(tmp_path):
    gate, path = tmp_path / "gate", tmp_path / "sweep.py"
    path.write_text(SWEEP)

    with terminal([sys.executable, str(path), str(gate)], CI=None, COLUMNS="140") as (process, ours):
        during = read_until(ours, b"best score = 7: child 8, x=7")
        gate.touch()
        after = read_until(ours, b"never")
        assert process.wait(30) == 0

    assert "8 of 10 children" in during
    assert "1 failed" in during
    assert "2 running" in during
    assert left_on_screen(during + after) == ["result 10"]
