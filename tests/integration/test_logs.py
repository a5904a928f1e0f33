"""stdout and stderr of a run: from whatever writes, whole, in order, live, and of this run alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import mlfn


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.005)


def test_one_log_has_all_writers_in_order(local):
    @mlfn.function
    def speak() -> None:
        print("python")
        os.write(1, b"c code\n")
        subprocess.run(
            [sys.executable, "-c", "import sys; print('child'); sys.stderr.write('child error\\n')"], check=True
        )
        subprocess.run(["sh", "-c", "echo shell; echo shell error >&2"], check=True)
        print("error", file=sys.stderr)
        os.write(2, b"c error\n")
        print("last, without a newline", end="")

    run = speak.submit()
    run.result(timeout=30)

    lines = run.logs().split("\n")
    # A child's own buffering decides about the order of its two.
    assert lines[:2] == ["python", "c code"] and set(lines[2:4]) == {"child", "child error"}
    assert lines[4:] == ["shell", "shell error", "error", "c error", "last, without a newline"]


def test_lines_of_both_streams_keep_their_order(local):
    @mlfn.function
    def alternate() -> None:
        for i in range(200):
            print(i, file=sys.stderr if i % 2 else sys.stdout)

    run = alternate.submit()
    run.result(timeout=30)

    assert run.logs().split() == [str(i) for i in range(200)]


def test_a_line_is_visible_at_once(local, tmp_path):
    @mlfn.function
    def step(go: str) -> None:
        print("first")
        wait_for(Path(go))
        print("second")

    run = step.submit(str(tmp_path / "go"))
    chunks = run.logs(follow=True)

    assert next(chunks) == "first\n"
    assert run.state == "running"
    (tmp_path / "go").touch()
    assert "".join(chunks) == "second\n"


def test_the_log_is_complete_before_the_result(local):
    @mlfn.function
    def speak(i: int) -> None:
        print(f"line {i}")

    for i in range(30):
        run = speak.submit(i)
        run.result(timeout=30)
        assert run.logs() == f"line {i}\n"


def test_runs_side_by_side_never_mix(local, tmp_path):
    @mlfn.function
    def chatter(name: str, other: str, folder: str) -> None:
        for i in range(300):
            print(f"{name} {i}")
            os.write(2, f"{name} {i}\n".encode())
            if i == 100:
                Path(folder, name).touch()
                wait_for(Path(folder, other))

    place = chatter.on("local", max_workers=2)
    runs = {"a": place.submit("a", "b", str(tmp_path)), "b": place.submit("b", "a", str(tmp_path))}

    for name, run in runs.items():
        run.result(timeout=30)
        assert run.logs().splitlines() == [f"{name} {i}" for i in range(300) for _ in range(2)]


def test_the_callers_streams_and_environment_are_untouched(local, capfd):
    @mlfn.function(env={"ONLY_THERE": "1"})
    def meddle() -> str:
        os.chdir("/")
        os.environ["MEDDLED"] = "1"
        print("loud")
        return os.environ["ONLY_THERE"]

    before = (os.getcwd(), dict(os.environ), sys.stdout, os.fstat(1).st_ino)

    assert meddle.submit().result(timeout=30) == "1"

    assert (os.getcwd(), dict(os.environ), sys.stdout, os.fstat(1).st_ino) == before
    assert capfd.readouterr().out == ""


def test_bytes_that_are_no_text_are_kept(local):
    @mlfn.function
    def speak() -> None:
        os.write(1, b"\xff\xfe before \r progress \r\n")

    run = speak.submit()
    run.result(timeout=30)

    assert run.logs() == "\ufffd\ufffd before \r progress \r\n"
    assert run.log_path().read_bytes() == b"\xff\xfe before \r progress \r\n"


def test_a_silent_run_has_no_log_file(local):
    @mlfn.function
    def silent() -> None:
        pass

    run = silent.submit()
    run.result(timeout=30)

    assert run.logs() == ""
    assert run.log_path() is None
