"""The progress line of a wait, in a real pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
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
def terminal(command, size=None, **variables):
    """Start a command in a terminal of its own, of (columns, lines); give it and the terminal's other end."""
    ours, theirs = pty.openpty()
    if size is not None:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
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


def read_screen(ours, holds, limit=60.0):
    """Return all that was written when the screen first satisfied `holds`, and that screen; asked between two drawings."""
    written, end = b"", time.monotonic() + limit
    while time.monotonic() < end:
        if select.select([ours], [], [], 0.05)[0]:
            written += os.read(ours, 65536)
            continue
        text = written.decode("utf-8", "replace")
        screen = [line.rstrip() for line in left_on_screen(text)]
        if screen and holds(screen):
            return text, screen
    raise AssertionError(f"it never came: {left_on_screen(written.decode('utf-8', 'replace'))}")


def test_a_sweep_shows_how_far_it_is_and_a_table(tmp_path):
    gate, path = tmp_path / "gate", tmp_path / "sweep.py"
    path.write_text(SWEEP)

    with terminal([sys.executable, str(path), str(gate)], CI=None, COLUMNS="140", LINES="24") as (process, ours):
        during, screen = read_screen(ours, lambda lines: "8 of 10" in lines[0] and len(lines) == 11)
        gate.touch()
        after = read_until(ours, b"never")
        assert process.wait(30) == 0

    assert "1 failed · 2 running" in screen[0]
    assert [line.split()[:5] for line in screen[1:]] == [
        ["child", "state", "x", "score", "time"],
        ["*", "8", "succeeded", "7", "7"],
        ["7", "succeeded", "6", "6", screen[3].split()[4]],
        ["6", "succeeded", "5", "5", screen[4].split()[4]],
        ["5", "succeeded", "4", "4", screen[5].split()[4]],
        ["3", "succeeded", "2", "2", screen[6].split()[4]],
        ["9", "running", "8", "8", screen[7].split()[4]],
        ["10", "running", "9", "9", screen[8].split()[4]],
        ["4", "failed", "3", "–", screen[9].split()[4]],
        ["ValueError:"],
    ]
    failed, result = left_on_screen(during + after)
    assert re.fullmatch(
        r"sweep train \(\w{8}\): 1 of 10 children failed with ValueError; `mlfn show \w{8}` shows child 4", failed
    )
    assert result == "result 10"
    assert "\x1b[1m  * 8" in during  # in bold


MANY = """
import pathlib, sys, time
import mlfn

@mlfn.function
def train(x: int, how: str, gate: str, ctx: mlfn.Context):
    ctx.log_metric("score", -x)
    while x >= 60 and not pathlib.Path(gate).exists():
        time.sleep(0.01)
    if x == 40:
        raise ValueError("no \x1b[2J\x07such way\\nand more")

if __name__ == "__main__":
    ways = ["a long text that a narrow terminal has no room for"]
    sweep = train.grid(x=range(10_000), how=ways).with_options(select="max.score", parallel=3).submit(gate=sys.argv[1])
    sweep.wait()
"""


@pytest.mark.parametrize(("columns", "lines", "most"), [(80, 24, 11), (40, 24, 11), (80, 6, 5), (40, 3, 2)])
def test_of_ten_thousand_children_as_many_are_shown_as_the_terminal_has_room_for(tmp_path, columns, lines, most):
    gate, path = tmp_path / "gate", tmp_path / "sweep.py"
    path.write_text(MANY)

    command = [sys.executable, str(path), str(gate)]
    with terminal(command, size=(columns, lines), CI=None, COLUMNS=None, LINES=None) as (process, ours):
        during, screen = read_screen(ours, lambda shown: "60 of 10,000" in shown[0] and len(shown) == most)
        process.send_signal(2)
        after = read_until(ours, b"never")
        process.wait(30)

    assert all(len(line) < columns for line in screen)
    assert screen[0].rstrip().split()[-1] in ("s", "left", "running")
    assert "\x1b[2J" not in during
    assert "\x07" not in during
    if most == 11:
        assert [line.split()[0] for line in screen[1:10]] == ["child", "*", "2", "3", "4", "61", "62", "63", "41"]
        assert screen[10].strip() == "ValueError: no �such way"
        assert [line.rpartition("  ")[0].split()[-1] for line in screen[2:6]] == ["0", "-1", "-2", "-3"]
    left = left_on_screen(during + after)
    assert left[0].startswith("Traceback")
    assert re.fullmatch(
        r"mlfn: cancelled the sweep train \((\w{8})\) after 59 of 10000 children; `mlfn sweep resume \1` goes on with the others",
        left[-1].strip(),
    )
    assert "\x1b[2J" not in after and "\x07" not in after
    assert not any("10,000" in line or line.startswith("child") for line in left)
