"""Each command in this very process: what it prints for people, and what it prints for machines."""

from __future__ import annotations

import io
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

import click
import pytest

from mlfn.dispatch import session as client
from mlfn.dispatch.session import current_session
from mlfn.errors import harmless
from mlfn.host.identity import identify
from mlfn.settings import current as settings
from mlfn.store.changes import Claimed, ExecutionCreated, Submitted
from mlfn.ui.cli.app import run_command_line
from mlfn.ui.text import shown_value
from mlfn.ui.views.values import plain, readable

JOBS = '''
import mlfn

print("loading jobs")


@mlfn.function(labels={"team": "risk"}, cpu=1)
@mlfn.handler(outputs=["score", "table"])
def fit(depth: int = 8, name: str = "x", context=None):
    """Fit deep."""
    context.log_metric("loss", 1 / depth, step=1)
    context.log_metric("loss", 0.5 / depth, step=2)
    context.log_artifact("note", "text")
    return depth / 10, list(range(9000))


@mlfn.function
def fail(text: str):
    raise ValueError(text)


@mlfn.function
def chatter(lines: int):
    for line in range(lines):
        print("line", line)


@mlfn.function
def odd():
    return float("nan"), {1, 2}, b"bytes", 2**70, "\\x1b[31m"
'''


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


def ids(mlfn: Command) -> list[str]:
    return [run["id"] for run in mlfn("runs", "--json").document]


def test_run_and_show_say_what_there_is(mlfn):
    ran = mlfn("run", "jobs.py::fit", "--depth", "4")
    shown = mlfn("show", ids(mlfn)[0][:6])

    assert (ran.code, shown.code) == (0, 0)
    assert "loading jobs" in ran.err
    assert "score      0.4" in ran.out
    for words in (
        "name   fit",
        "team=risk",
        "depth  4",
        'name   "x"  (default)',
        "loss  0.125",
        "project    default",
        "submitted",
        "list, ",
    ):
        assert words in shown.out


def test_show_for_machines_has_everything(mlfn):
    mlfn("run", "jobs.py::fit", "4", "--name", "y")

    shown = mlfn("show", "--json", ids(mlfn)[0]).document

    assert shown["params"]["name"] == {"packer": "json", "value": "y"}
    assert shown["defaults"] == {}
    assert shown["outputs"]["score"]["value"] == 0.4
    assert "value" not in shown["outputs"]["table"]
    assert Path(shown["outputs"]["table"]["path"]).is_file()
    assert shown["metrics"] == {"loss": 0.125}
    assert [attempt["state"] for attempt in shown["attempts"]] == ["succeeded"]
    assert [event["what"] for event in shown["events"]] == ["submitted", "claimed", "succeeded"]
    assert shown["error"] is None


def test_runs_are_filtered_ordered_and_limited(mlfn):
    for depth in ("2", "6", "4"):
        mlfn("run", "jobs.py::fit", depth, "-o", f"labels.depth={depth}")
    mlfn("run", "jobs.py::fail", "no", "-o", "project=other")

    def scores(*args: str) -> list[Any]:
        return [run["params"]["depth"]["value"] for run in mlfn("runs", "--name", "fit", "--json", *args).document]

    assert scores() == [4, 6, 2]
    assert scores("--order", "oldest") == [2, 6, 4]
    assert scores("--order", "max.score") == [6, 4, 2]
    assert scores("--order", "min.loss", "--limit", "1") == [6]
    assert scores("--label", "team=risk", "--label", "depth=4") == [4]
    assert len(mlfn("runs", "--project", "other", "--json").document) == 1
    assert mlfn("runs", "--state", "failed").out.count("\n") == 2
    assert mlfn("runs", "--state", "running").err == "mlfn: no run matches.\n"
    unknown = mlfn("runs", "--project", "othr")
    assert unknown.err.startswith("mlfn: no project is called 'othr': did you mean 'other'? There are: other, ")
    assert unknown.code == 0 and mlfn("runs", "--project", "othr", "--json").document == []
    assert "the first 2 alone" in mlfn("runs", "--limit", "2").err
    assert "score" in mlfn("runs", "--order", "max.score").out
    assert "depth=6" in mlfn("runs").out and "PARAMETERS" in mlfn("runs").out
    assert len(mlfn("runs", "--since", "1h", "--json").document) == 4
    assert mlfn("runs", "--since", "2999-01-01").err == "mlfn: no run matches.\n"
    assert mlfn("runs", "--label", "team").code == 2


def test_an_unknown_flag_is_told_those_with_a_name_like_it(mlfn):
    for args in (["runs", "--foo"], ["--foo"]):
        refused = mlfn(*args)
        assert refused.code == 2 and "--foo" in refused.err
        assert "--on" not in refused.err and "--color" not in refused.err
    assert "--limit" in mlfn("runs", "--limt", "3").err
    assert "--color" in mlfn("--colour", "never", "runs").err


def test_no_runs_are_an_empty_list(mlfn):
    assert mlfn("runs", "--json").document == []
    assert "no runs here" in mlfn("runs").err


def test_a_failed_run_is_shown_with_its_error(mlfn):
    assert mlfn("run", "jobs.py::fail", "ouch").code == 1

    shown = mlfn("show", ids(mlfn)[0])
    document = mlfn("--json", "show", ids(mlfn)[0]).document

    assert "ValueError: ouch" in shown.out
    assert document["error"]["type"] == "ValueError"
    assert 'jobs.py", line' in document["error"]["traceback"]
    assert document["reason"] == "error"


def test_what_each_attempt_failed_with_is_shown(mlfn):
    Path("again.py").write_text(
        "import mlfn\n@mlfn.function(retry=mlfn.Retry(1, delay=0))\n"
        "def again(ctx: mlfn.Context):\n    if ctx.attempt == 1:\n        raise ConnectionError('first try')\n"
    )
    mlfn("run", "again.py::again")

    shown = mlfn("show", ids(mlfn)[0])
    document = mlfn("--json", "show", ids(mlfn)[0]).document

    assert "ConnectionError: first try" in shown.out
    assert [attempt["failure"] for attempt in document["attempts"]] == ["ConnectionError: first try", None]


def test_a_run_cannot_steer_the_terminal_that_shows_it(mlfn):
    mlfn("run", "jobs.py::fail", "\x1b]0;title\x07")

    shown = mlfn("show", ids(mlfn)[0]).out

    assert "\x1b" not in shown
    assert "\\x1b]0;title\\x07" in shown


def test_values_that_json_lacks_are_still_json(mlfn):
    mlfn("run", "jobs.py::odd")

    answer = mlfn("show", "--json", ids(mlfn)[0])

    assert answer.document["outputs"]["return"]["value"] == ["nan", [1, 2], "b'bytes'", hex(2**70), "\x1b[31m"]


def test_options_are_changed_and_removed(mlfn):
    mlfn("run", "-o", "cpu=", "jobs.py::fit", "-o", "env.MODE=1", "-o", "requirements=click,rich", "-o", "timeout=10m")
    run = current_session().store.get_run(ids(mlfn)[0])
    spec = current_session().store.get_function(run.function)

    assert "resources" not in spec
    assert spec["env"] == {"MODE": "1"}
    assert spec["requirements"] == ["click", "rich"]
    assert spec["timeout"] == 600
    assert mlfn("run", "-o", "cpu", "jobs.py::fit").code == 2
    assert mlfn("run", "-o", 'requirements=["click"]', "-o", "labels.team=", "jobs.py::fit").code == 0


def test_a_module_is_a_target_too(mlfn):
    assert mlfn("run", "jobs:fit").code == 0
    assert mlfn("run", "jobs::fit").code == 0


def test_a_file_in_a_package_is_imported_as_its_part(mlfn):
    Path("pack").mkdir()
    Path("pack/__init__.py").write_text("")
    Path("pack/base.py").write_text("depth = 3\n")
    Path("pack/work.py").write_text(
        "import mlfn\nfrom .base import depth\n\n@mlfn.function\ndef f():\n    return depth\n"
    )

    assert "return  3" in mlfn("run", "pack/work.py::f").out


def test_a_script_does_not_take_the_place_of_a_module_of_its_name(mlfn):
    Path("json.py").write_text("import mlfn\n\n@mlfn.function\ndef f():\n    return 1\n")

    assert mlfn("run", "json.py::f").code == 0
    assert sys.modules["json"] is json


def test_the_same_function_has_the_same_version_from_the_command_line_and_from_a_script(mlfn, tmp_path):
    planned = mlfn("plan", "--json", "jobs.py::fit").document

    import jobs

    assert planned["function"]["hash"] == jobs.fit.hash


def test_plan_creates_nothing(mlfn):
    planned = mlfn("plan", "jobs.py::fit", "--depth", "3", "--on", "local")

    assert "name: fit" in planned.out
    assert "name: local" in planned.out
    assert "depth: 3" in planned.out
    assert ids(mlfn) == []


def test_rerun_changes_what_is_named_and_keeps_the_rest(mlfn):
    mlfn("run", "jobs.py::fit", "4", "kept")
    old = ids(mlfn)[0]

    again = mlfn("rerun", old[:8], "--depth", "6", "--json")

    assert again.code == 0
    assert again.document["id"] != old
    assert {name: param["value"] for name, param in again.document["params"].items()} == {"depth": 6, "name": "kept"}
    assert mlfn("rerun", old, "--depth", "deep").code == 2
    assert mlfn("rerun", old, "6").code == 2
    assert "--depth INTEGER" in mlfn("rerun", old, "--help").out


def test_rerun_says_where_a_parameter_stands(mlfn):
    refused = mlfn("rerun", "--depht", "6", "last")

    assert refused.code == 2
    assert "mlfn rerun RUN --depht VALUE" in refused.err


def test_rerun_says_which_parameter_was_meant(mlfn):
    mlfn("run", "jobs.py:fit", "--json")

    assert "did you mean '--depth'" in mlfn("rerun", "last", "--depht", "6").err


def test_rerun_says_when_the_code_is_gone(mlfn):
    mlfn("run", "jobs.py::fit")
    for payload in (current_session().folder / "payloads").iterdir():
        payload.unlink()

    assert "cannot be read again" in mlfn("rerun", ids(mlfn)[0]).err


def test_wait_and_cancel_of_what_is_over(mlfn):
    mlfn("run", "jobs.py::fit")
    mlfn("run", "jobs.py::fail", "x")
    failed, fine = ids(mlfn)

    assert mlfn("wait", fine).code == 0
    assert mlfn("wait", fine, failed).code == 1
    assert [run["state"] for run in mlfn("wait", "--json", fine, failed).document] == ["succeeded", "failed"]
    cancelled = mlfn("cancel", fine)
    assert cancelled.code == 0
    assert "had ended before: succeeded" in cancelled.err


def test_logs_of_the_local_place(mlfn):
    Path("loud.py").write_text("import mlfn\n\n@mlfn.function\ndef f():\n    print('one')\n    print('two')\n")
    mlfn("run", "loud.py::f", "--on", "local")
    run = ids(mlfn)[0]

    assert mlfn("logs", run).out == "one\ntwo\n"
    assert mlfn("logs", "-f", run).out == "one\ntwo\n"
    assert mlfn("logs", "--json", run).document == {"id": run, "attempt": 1, "log": "one\ntwo\n"}
    assert mlfn("logs", "--attempt", "2", run).code == 3
    assert mlfn("logs", "--rank", "0", run).out == mlfn("logs", "-f", "--rank", "0", run).out == "one\ntwo\n"
    assert "rank=1 has no log: 0, its only one, is allowed for f" in mlfn("logs", "--rank", "1", run).err


def test_logs_of_a_sweep_are_those_of_its_children(mlfn):
    Path("loud.py").write_text("import mlfn\n\n@mlfn.function\ndef f(x: int):\n    print('x is', x)\n")
    mlfn("sweep", "loud.py::f", "--grid", "x=5,6", "--on", "local")
    sweep = ids(mlfn)[0]

    assert mlfn("logs", sweep).out == "[1] x is 5\n[2] x is 6\n"
    assert mlfn("logs", "-f", sweep).out == "[1] x is 5\n[2] x is 6\n"
    assert mlfn("logs", "--json", sweep).document["log"] == "[1] x is 5\n[2] x is 6\n"
    assert "--attempt is of a child" in mlfn("logs", "--attempt", "2", sweep).err
    assert "--rank is of a child" in mlfn("logs", "--rank", "0", sweep).err


def test_a_log_elsewhere_is_not_read(mlfn, tmp_path):
    Path("loud.py").write_text("import mlfn\n\n@mlfn.function\ndef f():\n    print('one')\n")
    mlfn("run", "loud.py::f", "--on", "local")
    private = tmp_path / "private"
    private.write_text("not for you")
    with current_session().store.connection.writing() as engine:  # as an earlier version stored it
        engine.execute(
            "INSERT INTO attempts (run, attempt, started, state, log) SELECT seq, 1, begun, state, ? FROM runs",
            (str(private),),
        )

    answer = mlfn("logs", ids(mlfn)[0])

    assert (answer.code, answer.out) == (0, "one\n")


def test_a_log_of_another_data_folder_is_named(mlfn, tmp_path):
    Path("loud.py").write_text("import mlfn\n\n@mlfn.function\ndef f():\n    print('one')\n")
    mlfn("run", "loud.py::f", "--on", "local")
    session = current_session()
    (session.folder / "logs").rename(tmp_path / "elsewhere")

    answer = mlfn("logs", ids(mlfn)[0])

    assert (answer.code, answer.out) == (0, "")
    assert "it wrote nothing, or ran with another data folder" in answer.err


def test_the_log_of_a_run_that_failed_without_a_word_says_why_it_failed(mlfn):
    Path("silent.py").write_text("import mlfn\n\n@mlfn.function\ndef f():\n    raise ValueError('the reason')\n")
    mlfn("run", "silent.py::f", "--on", "local")

    answer = mlfn("logs", ids(mlfn)[0])

    assert (answer.code, answer.out) == (0, "")
    assert "f (" in answer.err and "wrote nothing before it failed: ValueError: the reason; `mlfn show " in answer.err


def test_diff_takes_hashes_and_functions(mlfn):
    mlfn("run", "jobs.py::fit")
    mlfn("run", "-o", "cpu=2", "jobs.py::fit")
    new, old = (run["function"] for run in mlfn("runs", "--json").document)

    assert mlfn("diff", old[:10], new[:10]).out == "resources.cpu: 1.0 -> 2.0\n"
    by_run = mlfn("diff", *(run[:8] for run in reversed(ids(mlfn))))
    assert by_run.out == "resources.cpu: 1.0 -> 2.0\n"
    assert "No function version 'abcdef'" in mlfn("diff", "abcdef", old).err
    assert mlfn("diff", "--json", old, "jobs.py::fit").document == {"a": old, "b": old, "differences": []}


def test_gc_lists_on_a_dry_run_what_it_then_removes(mlfn):
    mlfn("run", "jobs.py::fit")
    orphan = current_session().folder / "artifacts" / ("0" * 32)
    orphan.mkdir()
    os.utime(orphan, (time.time() - 7200,) * 2)

    dry = mlfn("gc", "--dry-run", "--json").document
    wet = mlfn("gc", "--json").document
    again = mlfn("gc")

    assert dry["removed"] == wet["removed"]
    assert [item["name"] for item in wet["removed"]] == [f"artifacts/{'0' * 32}"]
    assert not orphan.exists()
    assert "removed nothing from" in again.err


def test_gc_removes_old_runs_on_request(mlfn):
    mlfn("run", "jobs.py::fit")
    with current_session().store.connection.writing() as engine:
        engine.execute("UPDATE runs SET ended = ended - 864000")

    assert mlfn("gc", "--older-than", "30d").out == ""
    removed = mlfn("gc", "--older-than", "5d")
    assert removed.out.splitlines()[0].startswith("run ")
    assert "removed 1 run and 1 file or folder from" in removed.err
    assert ids(mlfn) == []


def test_gc_removes_runs_by_name_and_size(mlfn):
    mlfn("run", "jobs.py::fit")
    mlfn("run", "jobs.py::chatter", "1")

    assert mlfn("gc", "--name", "chatter", "--larger-than", "1Mi").out == ""
    assert "removed 1 run" in mlfn("gc", "--name", "chatter").err
    assert mlfn("gc", "--larger-than", "much").code == 2
    assert "removed 1 run and 1 file or folder from" in mlfn("gc", "--larger-than", "10k").err
    assert ids(mlfn) == []


def test_rm_takes_runs_as_show_does_and_says_what_was_freed(mlfn):
    for name in ("fit", "chatter", "fit"):
        mlfn("run", f"jobs.py::{name}", "1")
    newest, _, oldest = ids(mlfn)

    gone = mlfn("rm", "last", "chatter", "--yes", "--json").document

    assert next(item["run"] for item in gone["removed"] if item["kind"] == "run") == newest
    assert gone["bytes"] == sum(item["size"] for item in gone["removed"]) > 10_000
    assert ids(mlfn) == [oldest]
    assert "removed 1 run and 1 file or folder from" in mlfn("rm", oldest[:6]).err
    assert (mlfn("rm", oldest).code, mlfn("rm", "last").code, mlfn("rm").code) == (3, 3, 2)
    assert not list((current_session().folder / "artifacts").iterdir())


def test_rm_of_a_sweep_takes_its_children_and_a_child_alone_is_refused(mlfn):
    mlfn("sweep", "jobs.py::fit", "--grid", "depth=1,2")
    sweep = ids(mlfn)[0]
    child = mlfn("runs", "--parent", sweep, "--json").document[0]["id"]

    refused = mlfn("rm", child)

    assert (refused.code, f"`mlfn rm {sweep[:8]}` removes the whole" in refused.err) == (2, True)
    assert "removed 3 runs" in mlfn("rm", sweep).err
    assert mlfn("show", child).code == 3


@pytest.mark.parametrize(("typed", "kept"), [("n\n", 1), ("y\n", 0)])
def test_rm_asks_a_terminal_first(mlfn, monkeypatch, typed, kept):
    mlfn("run", "jobs.py::chatter", "1")
    stdin = io.StringIO(typed)
    monkeypatch.setattr(stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", stdin)

    answer = mlfn("rm", "last")

    assert (answer.code, len(ids(mlfn))) == (0, kept)
    assert "chatter" in answer.err and "Remove it? [y/N]" in answer.err
    assert ("nothing was removed" in answer.err) == bool(kept)


@pytest.mark.parametrize("point", ["removal.rows", "removal.item:1", "removal.item:2", "removal.item:3"])
def test_rm_that_is_killed_leaves_no_run_without_its_files(mlfn, point):
    mlfn("sweep", "jobs.py::fit", "--grid", "depth=1,2")
    mlfn("run", "jobs.py::fit")
    kept, sweep = ids(mlfn)

    command = [sys.executable, "-m", "mlfn", "rm", sweep]
    killed = subprocess.run(command, check=False, env={**os.environ, "MLFN_FAILPOINT": point}, capture_output=True)

    assert killed.returncode == -signal.SIGKILL
    assert ids(mlfn) == [kept]
    assert Path(mlfn("show", kept, "--json").document["outputs"]["table"]["path"]).is_file()
    artifacts = current_session().folder / "artifacts"
    for path in artifacts.rglob("*"):
        os.utime(path, (time.time() - 7200,) * 2)
    mlfn("gc")
    assert [path.name for path in artifacts.iterdir()] == [kept]


@pytest.mark.parametrize("age", ["30", " 30 ", "1.5"])
def test_gc_asks_for_the_unit_of_an_age(mlfn, age):
    mlfn("run", "jobs.py::fit")
    with current_session().store.connection.writing() as engine:
        engine.execute("UPDATE runs SET ended = ended - 86400")

    answer = mlfn("gc", "--older-than", age)

    assert answer.code == 2
    assert f"write the unit, as in {age.strip()}d for days" in answer.err
    assert len(ids(mlfn)) == 1


def test_gc_removes_environments_on_request_and_doctor_knows_their_size(mlfn):
    target = settings.data_folder(settings.current()) / "environments" / ("a" * 24)
    (target / "bin").mkdir(parents=True)
    (target / "bin" / "tool").write_bytes(b"x" * 5000)
    (target / "complete").write_text("roman==5.0")
    os.utime(target / "complete", (time.time() - 3600,) * 2)

    assert "1 of requirements=, 5.01 kB" in mlfn("doctor").out
    assert "removed nothing from" in mlfn("gc").err
    assert mlfn("gc", "--environments").out == f"environment environments/{'a' * 24}  5.01 kB\n"
    assert not target.exists()


def test_gc_spares_what_the_folders_own_store_claims(mlfn, tmp_path):
    mlfn("run", "jobs.py::fit")
    folder = current_session().folder
    for path in [folder / "artifacts" / ids(mlfn)[0], *(folder / "artifacts").rglob("*")]:
        os.utime(path, (time.time() - 7200,) * 2)

    assert "removed nothing from" in mlfn("gc", "--store", f"sqlite:///{tmp_path}/other.db", "--data", str(folder)).err


def used(answer: Answer) -> dict[str, int]:
    return {part["name"]: part["bytes"] for part in answer.document["disk"]}


def test_doctor_says_what_takes_room(mlfn, tmp_path, monkeypatch):
    mlfn("run", "jobs.py::fit")
    monkeypatch.setenv("MLFN_ARTIFACTS", str(tmp_path / "chosen"))
    mlfn("run", "jobs.py::fit")

    shown, found = mlfn("doctor"), used(mlfn("doctor", "--json"))

    assert all(found[name] > 0 for name in ("store", "artifacts", "payloads", "artifact root"))
    assert found["workers"] == found["environments"] == 0
    lines = shown.out.partition("USED BY")[2].splitlines()[1:]
    assert [line.partition("  ")[0] for line in lines] == list(found)


def test_doctor_walks_no_further_than_it_can_in_a_moment(mlfn, monkeypatch):
    for _ in range(2):
        mlfn("run", "jobs.py::fit")
    monkeypatch.setattr("mlfn.host.disk._MOST_FILES", 1)

    assert re.search(r"^artifacts +over \d", mlfn("doctor").out, flags=re.MULTILINE)


@pytest.mark.parametrize(("cores", "verdict"), [(3, "note"), (4, "ok")])
def test_doctor_warns_of_more_workers_than_cores(mlfn, monkeypatch, cores, verdict):
    monkeypatch.setattr("mlfn.ui.cli.diagnosis.usable_cores", lambda: cores)
    store, processes = current_session().store, {"a" * 32: os.getpid(), "b" * 32: os.getppid()}
    for owner, pid in processes.items():
        store.register_client(owner, identify(pid), time=time.time())
        for number in range(2):
            run, execution = f"{owner[:-1]}{number}", f"{number}{owner[1:]}"
            store.apply(
                [
                    ExecutionCreated(execution, owner, "local", "", {}),
                    Submitted(run, "f", "p", "fn", "plan", "local", owner, {}, 0.0),
                    Claimed(run, owner, execution, 0.0),
                ]
            )

    [check] = [check for check in mlfn("doctor", "--json").document["checks"] if check["name"] == "cores"]

    assert check["verdict"] == verdict
    assert "4 workers at work" in check["text"] and all(
        f"2 of process {pid}" in check["text"] for pid in processes.values()
    )
    assert ("MLFN_MAX_WORKERS" in check["text"]) == (verdict == "note")


def test_doctor_says_what_is_not_in_order(mlfn, tmp_path):
    (tmp_path / "mlfn.db").write_bytes(b"no database at all, but long enough to be looked at" * 100)

    answer = mlfn("doctor", "--data", str(tmp_path))

    assert answer.code == 5
    assert "fails  store" in answer.out
    assert "not in order: store." in answer.err


def test_a_misfitting_setting_is_named_with_its_source(mlfn, monkeypatch):
    monkeypatch.setenv("MLFN_GRACE", "soon")

    answer = mlfn("doctor")

    assert answer.code == 2
    assert "from MLFN_GRACE" in answer.err


def test_a_bug_of_ours_is_called_one(mlfn, monkeypatch):
    monkeypatch.setattr("mlfn.ui.views.listing.find_runs", lambda *_: 1 / 0)

    answer = mlfn("runs")

    assert answer.code == 70
    assert "ZeroDivisionError" in answer.err
    assert "a bug in mlfn" in answer.err


def test_an_interruption_is_told(mlfn, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mlfn.ui.views.listing.find_runs", interrupted)
    monkeypatch.delattr(sys, "last_type", raising=False)

    assert mlfn("runs").code == 130
    monkeypatch.delattr(sys, "last_type")


def test_a_prompt_hides_the_value(mlfn, monkeypatch):
    monkeypatch.setattr("mlfn.ui.cli.keeping.is_terminal", lambda stream: True)
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(click, "prompt", lambda text, **how: asked.append(how) or "typed-value")

    answer = mlfn("secret", "set", "TOKEN")

    assert answer.code == 0
    assert asked[0]["hide_input"]
    assert "typed-value" not in answer.out + answer.err


def test_help_is_printed_once(mlfn):
    for args in ((), ("show",), ("secret",)):
        answer = mlfn(*args)

        assert answer.code == 2
        assert (answer.out + answer.err).count("Usage:") == 1 and "Try:" not in answer.err


def test_the_version_is_printed(mlfn):
    assert mlfn("--version").out.startswith("mlfn 0")


def test_words_for_people():
    assert shown_value({"value": "x" * 200}).endswith("...")
    assert shown_value({"packer": "pickle", "path": "/a", "size": 3, "type": "m.C", "shown": "C(lr=1)"}) == "C(lr=1)"
    assert shown_value({"packer": "pickle", "type": "m.C", "shown": None}) == "m.C"
    assert shown_value({"output": {"run": "a" * 32, "key": "k"}}) == "output 'k' of run aaaaaaaa"
    assert harmless("a\tb\n\x07") == "a\tb\n\\x07"
    assert readable({"!": "nonsense", "v": 1}) == "<unreadable>"
    assert plain({"a": (1.0, float("inf")), 2: None}) == {"a": [1.0, "inf"], "2": None}
    assert plain("\ud800") == "\\ud800"


def test_a_run_is_named_by_its_function_or_as_the_last(mlfn):
    mlfn("run", "jobs.py::fit", "4")
    first = ids(mlfn)[0]

    for named in ("fit", "last", first[:8]):
        assert mlfn("show", named, "--json").document["id"] == first
    assert mlfn("wait", "last").code == 0
    assert mlfn("show", "fitt").code == 3


def test_the_last_lines_of_a_log(mlfn):
    mlfn("run", "--on", "local", "jobs.py::chatter", "300")

    whole = mlfn("logs", "last").out
    assert len(whole.splitlines()) == 300
    for args in (("--tail", "2"), ("-n", "2"), ("-f", "-n", "2")):
        assert mlfn("logs", "last", *args).out == "line 298\nline 299\n"
    assert mlfn("logs", "last", "-n", "1000").out == whole
    assert mlfn("logs", "last", "-n", "0").out == ""
    assert mlfn("logs", "last", "-n", "1", "--json").document["log"] == "line 299\n"


def test_a_listing_takes_its_limit_as_n(mlfn):
    for depth in ("2", "3"):
        mlfn("run", "jobs.py::fit", depth)

    assert len(mlfn("runs", "-n", "1", "--json").document) == 1


def test_runs_are_filtered_by_a_condition(mlfn):
    for depth in ("4", "8"):
        mlfn("run", "jobs.py::fit", depth)

    shown = mlfn("runs", "--where", "depth > 5", "--json").document
    assert [run["params"]["depth"]["value"] for run in shown] == [8]
    assert mlfn("runs", "--where", "depth > 9").err.endswith("no run matches.\n")
    assert "where: depth is a number" in mlfn("runs", "--where", "depth").err
