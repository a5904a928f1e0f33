"""The command line as a shell sees it: processes, pipes, signals and exit codes."""

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

import pytest

from tests.architecture.source import ROOT

TRAIN = '''
from __future__ import annotations

import os
import time
from typing import Literal

import mlfn


@mlfn.function
@mlfn.handler(outputs=["rounds", "what"])
def train(data: dict, depth: int = 8, opt: Literal["adam", "sgd"] = "adam", verbose: bool = False):
    """Train a model.

    It says how deep.
    """
    print("depth is", depth)
    return depth * len(data), {"opt": opt, "verbose": verbose}


@mlfn.function
def fail(word: str):
    raise LookupError(f"no {word}")


@mlfn.function
def endless(mark: str):
    try:
        print("begun", flush=True)
        open(mark, "w").close()
        while True:
            time.sleep(0.02)
    finally:
        print("cleaned up", flush=True)


@mlfn.function
def stubborn(mark: str):
    while True:
        try:
            open(mark, "w").close()
            while True:
                time.sleep(0.02)
        except BaseException:
            pass


@mlfn.function
def take_a_while(seconds: float = 0.9):
    time.sleep(seconds)


@mlfn.function
def give_up():
    os.kill(os.getpid(), 9)


def plain(x):
    return x
'''

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def mlfn() -> Run:
    Path("train.py").write_text(TRAIN)

    def run(*args: str, stdin: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mlfn", *args],
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**environment(), **variables},
        )

    return run


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command line in a process group of its own, as a shell does, and clear up after it."""
    begun: list[subprocess.Popen[str]] = []

    def start(*args: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlfn", *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            start_new_session=True,
        )
        begun.append(process)
        return process

    yield start
    for process in begun:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=30)


def until(path: Path) -> None:
    limit = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < limit, f"{path} never came"
        time.sleep(0.02)


def heard(process: subprocess.Popen[str], words: str) -> None:
    """Read stderr up to the line with these words."""
    assert process.stderr is not None
    lines = []
    while line := process.stderr.readline():  # an empty one is the end: the process has gone another way
        lines.append(line)
        if words in line:
            return
    raise AssertionError(f"{words!r} was never said, but {''.join(lines)!r}")


def only_run(mlfn: Run) -> dict[str, object]:
    (run,) = json.loads(mlfn("runs", "--json").stdout)
    return run


def test_a_run_prints_its_id_state_and_results_and_succeeds(mlfn):
    done = mlfn("run", "train.py::train", '{"a": 1, "b": 2}', "--depth", "4", "--opt", "sgd", "--verbose")

    assert done.returncode == 0, done.stderr
    facts = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert re.fullmatch(r"[0-9a-f]{32}", facts["run"])
    assert facts["state"].startswith("succeeded")
    assert facts["rounds"] == "8"
    assert facts["what"] == '{"opt": "sgd", "verbose": true}'
    assert Path(facts["log"]).read_text() == "depth is 4\n"


def test_json_is_alone_on_stdout(mlfn):
    done = mlfn("--json", "run", "train.py::train", '{"a": 1}', "--follow")

    document = json.loads(done.stdout)
    assert document["outputs"]["rounds"]["value"] == 8
    assert "depth is 8" in done.stderr


def test_follow_shows_what_the_run_writes(mlfn):
    assert "depth is 3\n" in mlfn("run", "train.py::train", "{}", "3", "-f").stdout


def test_a_failed_run_exits_with_1_and_shows_the_users_frames(mlfn):
    done = mlfn("run", "train.py::fail", "luck")

    assert done.returncode == 1
    assert "LookupError: no luck" in done.stderr
    assert "mlfn/" not in done.stderr


def test_a_killed_worker_is_told(mlfn):
    done = mlfn("run", "train.py::give_up")

    assert done.returncode == 1
    assert "SIGKILL" in done.stderr


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["run", "train.py::train"], 2, "lacks 'data'"),
        (["run", "train.py::train", "{}", "--depth", "deep"], 2, "--depth = 'deep' does not fit"),
        (["run", "train.py::train", "{}", "--opt", "adma"], 2, "did you mean 'adam'"),
        (["run", "train.py::train", "{}", "--dpeth", "3"], 2, "did you mean '--depth'"),
        (["run", "train.py::plain", "3"], 2, "put @mlfn.function above it"),
        (["run", "train.py::trian", "3"], 2, "did you mean 'train'"),
        (["run", "train.py"], 2, "train.py::train or train.py::fail"),
        (["run", "trian.py::train"], 3, "did you mean 'train.py'"),
        (["run", "nowhere.at.all:train"], 3, "no module 'nowhere.at.all'"),
        (["run", "train.py::train", "{}", "--on", "mars"], 2, "on = 'mars' (from --on) does not fit"),
        (["run", "train.py::train", "{}", "-o", "cpus=2"], 2, "did you mean 'cpu'"),
        (["--max-workers", "many", "runs"], 2, "max_workers = 'many' (from --max-workers)"),
        (["show", "abcdef"], 3, "No run 'abcdef'"),
        (["show", "xyz"], 3, "its first digits"),
        (["canecl"], 2, "did you mean 'cancel'"),
        (["runs", "--state", "failing"], 2, "did you mean 'failed'"),
        (["diff", "abcd", "1234"], 3, "No function version 'abcd'"),
        (["gc", "--older-than", "soon"], 2, "--older-than='soon'"),
        (["secret", "remove", "absent"], 3, "no secret 'absent'"),
    ],
)
def test_bad_input_ends_with_its_code_and_one_sentence(mlfn, args, code, words):
    done = mlfn(*args)

    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_store_exits_with_5(mlfn, tmp_path):
    (tmp_path / "mlfn.db").write_bytes(b"no database at all, but long enough to be looked at" * 100)

    done = mlfn("runs", "--data", str(tmp_path))

    assert done.returncode == 5
    assert "is damaged" in done.stderr


def test_a_file_that_does_not_import_shows_the_users_frames_alone(mlfn):
    Path("broken.py").write_text("import mlfn\n\nx = undefined\n")

    done = mlfn("run", "broken.py::f")

    assert done.returncode == 2
    assert 'broken.py", line 3' in done.stderr
    assert "importlib" not in done.stderr
    assert "mlfn/cli" not in done.stderr


def test_ctrl_c_cancels_the_run_and_waits_until_it_is_gone(mlfn, started, tmp_path):
    process = started("run", "train.py::endless", str(tmp_path / "mark"))
    heard(process, "of endless on local")  # before that, ctrl-C ends the submitting
    until(tmp_path / "mark")

    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)

    assert process.returncode == 130, err
    assert "cancelled" in out
    assert only_run(mlfn)["state"] == "cancelled"
    assert mlfn("logs", str(only_run(mlfn)["id"])[:8]).stdout == "begun\ncleaned up\n"


def test_a_second_ctrl_c_leaves_the_run_behind(mlfn, started, tmp_path):
    process = started("run", "train.py::stubborn", str(tmp_path / "mark"))
    heard(process, "of stubborn on local")
    until(tmp_path / "mark")

    os.killpg(process.pid, signal.SIGINT)
    heard(process, "cancelling")
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)

    assert process.returncode == 130
    assert "behind" in err
    assert mlfn("cancel", "--grace", "0.1", str(only_run(mlfn)["id"])).stdout.split()[1] == "cancelled"


def test_a_run_inside_another_process_cannot_be_asked_to_end(mlfn, started, tmp_path):
    process = started("run", "train.py::endless", str(tmp_path / "mark"), "--on", "inline")
    until(tmp_path / "mark")

    refused = mlfn("cancel", str(only_run(mlfn)["id"]))
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=30)

    assert refused.returncode == 2
    assert "press ctrl-C there" in refused.stderr
    assert process.returncode == 130


def test_another_process_can_cancel_and_the_waiting_one_exits_with_4(mlfn, started, tmp_path):
    process = started("run", "train.py::endless", str(tmp_path / "mark"))
    until(tmp_path / "mark")

    done = mlfn("cancel", str(only_run(mlfn)["id"]))
    process.communicate(timeout=30)

    assert done.returncode == 0
    assert done.stdout.split()[1] == "cancelled"
    assert process.returncode == 4


def test_wait_carries_on_a_run_whose_client_was_killed(mlfn, started, tmp_path):
    process = started("run", "train.py::endless", str(tmp_path / "mark"))
    until(tmp_path / "mark")
    process.kill()
    process.wait()
    run = str(only_run(mlfn)["id"])

    waited = mlfn("wait", "--timeout", "0.2", run)
    cancelled = mlfn("cancel", run)
    again = mlfn("wait", run)

    assert waited.returncode == 124
    assert cancelled.returncode == 0, cancelled.stderr
    assert again.returncode == 4


def test_ctrl_c_ends_the_waiting_and_not_the_run(mlfn, started, tmp_path):
    process = started("run", "train.py::endless", str(tmp_path / "mark"))
    until(tmp_path / "mark")
    run = str(only_run(mlfn)["id"])
    follower = started("logs", "-f", run)
    assert follower.stdout is not None
    assert follower.stdout.readline() == "begun\n"

    os.killpg(follower.pid, signal.SIGINT)

    assert follower.wait(timeout=30) == 130
    assert process.poll() is None
    assert only_run(mlfn)["state"] == "running"
    mlfn("cancel", run)


def test_colours_are_off_when_piped_and_on_when_asked_for(mlfn):
    mlfn("run", "train.py::fail", "x")

    assert "\x1b" not in mlfn("runs").stdout
    assert "\x1b[31m" in mlfn("runs", "--color", "always").stdout
    assert "\x1b[31m" in mlfn("runs", MLFN_COLOR="always").stdout
    assert "\x1b" not in mlfn("runs", "--color", "never", MLFN_COLOR="always").stdout


def in_terminal(*args: str, **variables: str) -> tuple[int, str]:
    """Run the command line in a pseudo-terminal; return its exit code and all that it wrote."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "mlfn", *args],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**environment(), "TERM": "xterm", "COLUMNS": "100", "CI": "", **variables},
        start_new_session=True,
    )
    os.close(theirs)
    written = b""
    try:
        while data := os.read(ours, 65536):
            written += data
    except OSError:  # Linux says so when the other side is closed
        pass
    finally:
        os.close(ours)
    return process.wait(timeout=60), written.decode()


def test_a_terminal_gets_colours_a_progress_line_and_none_of_them_with_no_color(mlfn):
    code, shown = in_terminal("run", "train.py::take_a_while")
    _, listed = in_terminal("runs")
    _, bare = in_terminal("runs", NO_COLOR="1")

    assert code == 0
    assert "\x1b[32msucceeded" in shown
    assert "\x1b[?25l" in shown  # the cursor is hidden while the line is redrawn
    assert "\x1b[32msucceeded" in listed
    assert "\x1b[32m" not in bare
    assert "succeeded" in bare


def test_a_reader_that_leaves_early_is_no_error(mlfn):
    command = f"{sys.executable} -m mlfn doctor | true; echo ${{PIPESTATUS[0]}}"

    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment(), check=False)

    assert (done.stdout, done.stderr) == ("141\n", "")


def test_a_secrets_value_comes_from_stdin_and_is_never_shown(mlfn):
    assert mlfn("secret", "set", "TOKEN", stdin="s3cret-value\n").returncode == 0
    assert mlfn("secret", "set", "pair", "--key", "left", stdin="left-value").returncode == 0

    listed = mlfn("secret", "list", "--json")

    assert json.loads(listed.stdout) == ["TOKEN", "pair"]
    kept = json.loads((Path(os.environ["XDG_CONFIG_HOME"]) / "mlfn" / "secrets.json").read_text())
    assert kept == {"TOKEN": "s3cret-value", "pair": {"left": "left-value"}}
    assert mlfn("secret", "set", "EMPTY", stdin="").returncode == 2
    assert mlfn("secret", "remove", "TOKEN").returncode == 0
    assert json.loads(mlfn("secret", "list", "--json").stdout) == ["pair"]


def test_doctor_names_every_setting_with_its_source_and_starts_a_worker(mlfn):
    done = mlfn("doctor", "--json", "--grace", "3", MLFN_PROJECT="fraud")

    report = json.loads(done.stdout)
    sources = {item["name"]: (item["value"], item["source"]) for item in report["settings"]}
    verdicts = {check["name"]: check["verdict"] for check in report["checks"]}
    assert done.returncode == 0, done.stdout
    assert sources["project"] == ("fraud", "MLFN_PROJECT")
    assert sources["grace"] == ("3.0", "--grace")
    assert sources["heartbeat"] == ("5.0", "default")
    assert {verdicts[name] for name in ("worker", "store", "data folder", "signing key")} == {"ok"}
    assert json.loads(mlfn("runs", "--json").stdout) == []


def test_help_loads_nothing_that_it_does_not_need(mlfn):
    code = (
        "import sys; from mlfn.ui.cli.app import run_command_line as run; code = run(['--help']); "
        "print(code, sorted({'pydantic', 'cloudpickle', 'rich', 'fsspec', 'sqlite3', 'pandas'} & set(sys.modules)))"
    )
    clean = {key: value for key, value in environment().items() if not key.startswith("COVERAGE_")}

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean, check=True)

    assert done.stdout.splitlines()[-1] == "0 []"


def test_a_listing_never_unpickles(mlfn):
    Path("heavy.py").write_text(
        "import mlfn\n\nclass Model:\n    pass\n\n"
        "@mlfn.function\n@mlfn.handler(outputs=['model', 'score'])\n"
        "def fit(start=None):\n    print('fitting')\n    return Model(), 0.5\n\n"
        "@mlfn.function\ndef fail(model):\n    raise ValueError(model)\n"
    )
    assert mlfn("run", "heavy.py::fit").returncode == 0
    assert mlfn("run", "heavy.py::fail", "{}").returncode == 1  # its exception is kept as a pickle, too
    audited = (
        "import sys\n"
        "def forbid(event, args):\n"
        "    if event == 'pickle.find_class':\n"
        "        raise SystemExit(f'unpickled {args}')\n"
        "sys.addaudithook(forbid)\n"
        "from mlfn.ui.cli.app import main\n"
        "main()\n"
    )

    def listed(*args: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", audited, *args], capture_output=True, text=True, env=environment(), check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    ids = [run["id"] for run in json.loads(listed("runs", "--json"))]
    shown = [json.loads(listed("show", "--json", run)) for run in ids]
    assert listed("runs", "--order", "max.score").count("fit") == 1
    assert "heavy.Model" in listed("show", ids[1])
    assert listed("logs", ids[1]) == "fitting\n"
    model = shown[1]["outputs"]["model"]
    assert (model["packer"], model["type"]) == ("pickle", "heavy.Model")
    assert model["size"] > 0
    assert "value" not in model
    assert shown[1]["outputs"]["score"]["value"] == 0.5


def test_ctrl_c_ends_an_inline_run_and_the_script_that_called_it(tmp_path):
    script = tmp_path / "loop.py"
    script.write_text(
        "import os, time, mlfn\n"
        "@mlfn.function\n"
        "def endless():\n"
        "    os.mkdir('begun')\n"
        "    time.sleep(60)\n"
        "for _ in range(2):\n"
        "    endless.on('inline').submit()\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)], cwd=tmp_path, env=environment(), stderr=subprocess.DEVNULL
    )
    until(tmp_path / "begun")

    process.send_signal(signal.SIGINT)

    assert process.wait(timeout=30) != 0
    listed = subprocess.run(
        [sys.executable, "-m", "mlfn", "runs", "--json"], capture_output=True, text=True, env=environment(), check=True
    )
    assert [run["state"] for run in json.loads(listed.stdout)] == ["cancelled"]
