"""Bad input gets a leaf of MlfnError that says what failed, the value, what is allowed and what to do; nothing is lost."""

from __future__ import annotations

import ctypes
import json
import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import mlfn
from mlfn import errors
from tests.architecture.source import ROOT

STORE = "mlfn.db"


@mlfn.function
def total(frame: pd.DataFrame, depth: int = 3) -> int:
    return depth * len(frame)


@mlfn.function
def double(x: int) -> int:
    return 2 * x


@mlfn.function
def keeping_nothing(ctx: mlfn.Context) -> None:
    ctx.log_artifact("model", Path("nonexist.bin"))


def data() -> Path:
    from mlfn.settings.current import current, data_folder

    return data_folder(current())


@dataclass(frozen=True)
class Case:
    """What a user does, and what the error that he gets must say."""

    name: str
    do: Callable[[], Any]
    error: type[errors.MlfnError]
    says: tuple[str, ...]


def unpicklable() -> Any:
    class Config:
        def __init__(self) -> None:
            self.logger = {"lock": threading.Lock()}

    config = Config()

    @mlfn.function
    def train() -> Any:
        return config.logger

    return train.submit()


def missing_input() -> Any:
    Path("iris.csv").write_text("a\n1\n")
    return total.submit("iris.cvs")


def newer_store() -> Any:
    double.on("inline").submit(1)
    changed("UPDATE meta SET version = 999")
    return in_a_new_process("import mlfn; mlfn.runs()")


def corrupted_row() -> Any:
    run = double.on("inline").submit(1)
    changed("UPDATE runs SET params = '{\"x\": '")
    return mlfn.run(run.id)


def flipped_bit() -> Any:
    double.submit(1).result(timeout=60)
    (payload,) = (path for path in (data() / "payloads").iterdir() if not path.name.startswith("."))
    bits = bytearray(payload.read_bytes())
    bits[-10] ^= 4
    payload.write_bytes(bits)
    # Another place is another plan of the same code, and its worker reads the file anew.
    return double.on("local", max_workers=1).submit(1).result(timeout=60)


def other_minor() -> Any:
    from mlfn.code import envelope

    here = envelope._python_minor
    envelope._python_minor = lambda: "3.99"
    try:
        run = double.submit(1)
    finally:
        envelope._python_minor = here
    return run.result(timeout=60)


def damaged_store() -> Any:
    in_a_new_process("import mlfn; mlfn.function(len).on('inline').submit('a')")
    for path in data().glob(f"{STORE}*"):
        path.write_bytes(b"no database at all" * 1000)
    return in_a_new_process("import mlfn; mlfn.runs()")


CASES = [
    Case(
        "option",
        lambda: mlfn.function(cpus=2),
        errors.OptionError,
        ("@function", "'cpus'", "(value 2)", "did you mean 'cpu'"),
    ),
    Case(
        "option of with_options",
        lambda: double.with_options(foo=1),
        errors.OptionError,
        ("double.with_options()", "'foo'", "(value 1)", "Allowed: cpu"),
    ),
    Case(
        "option that is the other decorator's",
        lambda: mlfn.function(outputs=["model"]),
        errors.OptionError,
        ("@function", "'outputs'", "(value ['model'])", "@mlfn.handler(outputs="),
    ),
    Case(
        "option of handler",
        lambda: mlfn.handler(output=["a"]),  # type: ignore[call-overload]
        errors.OptionError,
        ("@handler", "'output'", "(value ['a'])", "did you mean 'outputs'"),
    ),
    Case(
        "reason to retry",
        lambda: mlfn.Retry(on=["oomm"]),
        errors.OptionError,
        ("Retry(on='oomm')", "did you mean 'oom'", "'ValueError'", "package.module.MyError"),
    ),
    Case(
        "requirement",
        lambda: mlfn.function(requirements=["scikit-learn 1.5"]),
        errors.OptionError,
        ("requirements", "'scikit-learn 1.5'", "did you mean 'scikit-learn==1.5'", "one requirement"),
    ),
    Case(
        "value of an environment variable",
        lambda: mlfn.function(env={"K": "x\0"}),
        errors.OptionError,
        ("env['K']", "'x\\x00'", "NUL"),
    ),
    Case(
        "value of an option of a place",
        lambda: double.on("local", max_workers=-2),
        errors.OptionError,
        ("on('local', max_workers=-2)", "1 or more"),
    ),
    Case(
        "class of a kind",
        lambda: mlfn.function(kind=mlfn.Job),
        errors.OptionError,
        ("kind=mlfn.Job", "add ()", "mlfn.Job()"),
    ),
    Case(
        "output",
        lambda: mlfn.handler(outputs=["a b"]),
        errors.OptionError,
        ("outputs='a b'", "letters and digits of any script"),
    ),
    Case(
        "option of a kind",
        lambda: mlfn.Job(fresch=True),  # type: ignore[call-arg]
        errors.OptionError,
        ("Job", "'fresch'", "True", "'fresh'"),
    ),
    Case(
        "option of a place",
        lambda: double.on("local", workers=3),
        errors.OptionError,
        ("on('local')", "'workers'", "3", "max_workers"),
    ),
    Case("value of an option", lambda: mlfn.function(mem="4 gigs"), errors.OptionError, ("mem='4 gigs'", "'4Gi'")),
    Case(
        "parameter",
        lambda: total.submit(frame="iris.csv", dept=4),
        errors.ParameterError,
        ("total()", "'dept'", "4", "did you mean 'depth'"),
    ),
    Case("missing parameter", double.submit, errors.ParameterError, ("double()", "'x'", "int", "submit(x=")),
    Case("misfit", lambda: double.submit("3"), errors.ParameterError, ("double(x='3')", "int", "valid integer")),
    Case("kind", lambda: mlfn.function(kind="jobb"), errors.UnknownNameError, ("kind", "'jobb'", "did you mean 'job'")),
    Case("place", lambda: double.on("locl"), errors.UnknownNameError, ("place", "'locl'", "did you mean 'local'")),
    Case(
        "place in the settings",
        lambda: mlfn.init(on="locall"),
        errors.SettingsError,
        ("on = 'locall'", "init()", "did you mean 'local'", "the name of a place: inline, kubernetes, local"),
    ),
    Case(
        "project",
        lambda: mlfn.function(project="a/b"),
        errors.OptionError,
        ("project='a/b'", "letters and digits of any script"),
    ),
    Case("setting", lambda: mlfn.init(projct="fraud"), errors.SettingsError, ("projct", "project")),
    Case("closure", unpicklable, errors.UnpicklableError, ("train -> config.logger", "lock", "inside the function")),
    Case(
        "parameter that cannot travel",
        lambda: mlfn.function(lambda_().__wrapped__).submit(threading.Lock()),
        errors.UnpicklableError,
        ("any_(x=...)", "lock"),
    ),
    Case(
        "input", missing_input, errors.InputNotFoundError, ("total(frame=...)", "iris.cvs", "Did you mean 'iris.csv'")
    ),
    Case(
        "suffix of an input",
        lambda: (Path("job.py").touch(), total.submit("job.py")),
        errors.ParameterError,
        ("total(frame=...)", "job.py", "pandas.DataFrame", ".csv", "Rename it"),
    ),
    Case(
        "folder as an input",
        lambda: (Path("tables").mkdir(), total.submit("tables")),
        errors.ParameterError,
        ("total(frame=...)", "tables", "it is a folder", ".csv"),
    ),
    Case(
        "scheme of an input",
        lambda: total.submit("ftp://host/iris.csv"),
        errors.ParameterError,
        ("total(frame=...)", "'ftp://host/iris.csv'", "'ftp'", "file://"),
    ),
    Case(
        "scheme of the store",
        lambda: mlfn.init(store="mysql://host/db"),
        errors.SettingsError,
        ("mysql", "postgresql://"),
    ),
    Case(
        "name of a result",
        lambda: mlfn.context().log_result("a b/../c", 1),
        errors.ParameterError,
        ("'a b/../c'", "no name for an output", "letters and digits of any script", "as in 'a_b_.._c'"),
    ),
    Case(
        "path of an artifact",
        lambda: keeping_nothing.on("inline").submit().result(),
        errors.OutputError,
        ("log_artifact('model', ", "nonexist.bin", "no file or folder is there", "Write it first"),
    ),
    Case("id of a run", lambda: mlfn.run(3), errors.ParameterError, ("run(3)", "a text", "mlfn.runs()")),  # type: ignore[arg-type]
    Case(
        "several runs",
        lambda: mlfn.wait(double.on("inline").submit(1)),  # type: ignore[arg-type]
        errors.ParameterError,
        ("wait(<mlfn.Run ", "several runs", "mlfn.wait([run])"),
    ),
    Case(
        "one of several runs",
        lambda: mlfn.wait([3]),  # type: ignore[list-item]
        errors.ParameterError,
        ("wait(...)", "got 3 at 0", "submit()"),
    ),
    Case(
        "timeout of a wait",
        lambda: double.on("inline").submit(1).result(timeout="a"),  # type: ignore[arg-type]
        errors.ParameterError,
        ("result(timeout='a')", "number of seconds", "None"),
    ),
    Case(
        "option of a listing",
        lambda: mlfn.runs(statte="failed"),  # type: ignore[arg-type]
        errors.ParameterError,
        ("runs()", "'statte'", "(value 'failed')", "did you mean 'state'"),
    ),
    Case(
        "attempt of a log",
        lambda: double.on("inline").submit(1).logs(attempt=7),
        errors.NotFoundError,
        ("double (", "attempt 7", "it has had 1", "leave attempt= out"),
    ),
    Case(
        "parameter of a rerun",
        lambda: double.on("inline").submit(1).rerun(foo=3),
        errors.ParameterError,
        ("double()", "'foo'", "(value 3)", "Allowed: x"),
    ),
    Case("run", lambda: mlfn.run("3f2a91"), errors.NotFoundError, ("3f2a91",)),
    Case("newer store", newer_store, errors.StoreVersionError, (STORE, "999", "pip install -U mlfn")),
    Case(
        "corrupted row",
        corrupted_row,
        errors.StoreCorruptError,
        ("row of run", "runs.params", "restore the store", "mlfn gc --broken"),
    ),
    Case("damaged store", damaged_store, errors.StoreCorruptError, (STORE, "not a database", "keep a copy")),
    Case("flipped bit", flipped_bit, errors.SignatureError, ("'double'", "was changed", "Submit again")),
    Case("other Python", other_minor, errors.SkewError, ("'double'", "3.99", "submit from Python")),
]


def lambda_() -> Any:
    @mlfn.function
    def any_(x: Any) -> None: ...

    return any_


def changed(sql: str, *args: object) -> None:
    connection = sqlite3.connect(data() / STORE)
    with connection:
        assert connection.execute(sql, args).rowcount > 0, "nothing was changed"
    connection.close()


def in_a_new_process(code: str, **how: Any) -> None:
    """Run code in a process of its own, and raise here the MlfnError that ends it there."""
    guarded = f"""
import json, sys
try:
{textwrap.indent(textwrap.dedent(code), "    ")}
except Exception as error:
    print(json.dumps([type(error).__module__, type(error).__name__, str(error)]))
"""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **how.pop("env", {})}
    done = subprocess.run(
        [sys.executable, "-c", guarded], capture_output=True, text=True, check=False, env=environ, timeout=120, **how
    )
    assert done.returncode == 0, done.stderr
    if done.stdout.strip():
        module, name, text = json.loads(done.stdout.strip().splitlines()[-1])
        assert module == "mlfn.errors", (module, name, text)
        raise getattr(errors, name)(text)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_gets_a_clear_error(case: Case) -> None:
    with pytest.raises(case.error) as caught:
        case.do()

    assert type(caught.value) is case.error
    for part in case.says:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("params", "{"),
        ("params", "[1]"),
        ("params", '{"x": 3}'),
        ("created", "abc"),
        ("returns", "[]"),
        ("owner", b"me"),
    ],
)
def test_nothing_is_lost_with_a_corrupted_row(
    column: str, value: object, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlfn.store.rows._warned", set())
    runs = [double.on("inline").submit(x) for x in range(3)]
    changed(f"UPDATE runs SET {column} = ? WHERE id = '{runs[1].id}'", value)
    others = [runs[2], runs[0]]

    assert mlfn.run(runs[0].id).result() == 0
    assert mlfn.run(runs[2].id).result() == 4
    with pytest.raises(errors.StoreCorruptError, match=f"run '{runs[1].id}' .*mlfn gc --broken {runs[1].id}"):
        mlfn.run(runs[1].id)
    assert caplog.records == []
    for _ in range(2):
        assert list(mlfn.runs()) == others
        assert list(mlfn.runs(order="max.return", limit=2)) == others
        assert list(mlfn.runs(limit=2)) == others
        assert "2 runs" in repr(mlfn.runs())
    [warning] = caplog.records
    assert (warning.name, warning.levelname) == ("mlfn.store.rows", "WARNING")
    assert f"run '{runs[1].id}' cannot be read (runs.{column}: " in warning.getMessage()


def test_a_number_that_is_none_hurts_its_own_run_alone() -> None:
    @mlfn.function
    def logs(value: float, ctx: mlfn.Context) -> None:
        ctx.log_metric("l", value)

    first, second = (logs.on("inline").submit(value) for value in (1.0, 2.0))
    for table in ("scores", "metrics"):
        changed(f"UPDATE {table} SET value = ? WHERE run = (SELECT seq FROM runs WHERE id = ?)", "zz", second.id)

    assert mlfn.run(first.id).metrics == {"l": 1.0}
    best = mlfn.runs(order="max.l")
    assert (list(best), best.scores) == ([first], {first.id: 1.0})
    with pytest.raises(errors.StoreCorruptError, match=f"of run '{second.id}' cannot be read .*'zz' is not"):
        dict(mlfn.run(second.id).metrics)
    with pytest.raises(errors.StoreCorruptError, match=r"metrics\.value: 'zz' is not"):
        mlfn.run(second.id).metrics.history("l")


def test_nothing_is_lost_with_a_newer_store() -> None:
    run = double.on("inline").submit(2)
    changed("UPDATE meta SET version = 999")

    with pytest.raises(errors.StoreVersionError):
        in_a_new_process("import mlfn; mlfn.runs()")
    changed("UPDATE meta SET version = (SELECT MAX(1))")
    assert mlfn.run(run.id).result() == 4


def test_a_flipped_bit_runs_nothing_of_the_payload() -> None:
    with pytest.raises(errors.SignatureError):
        flipped_bit()

    newest, first = mlfn.runs()
    assert (newest.state, newest.record.reason) == ("failed", "storage")
    assert first.state == "succeeded"


# -- the machine refuses -----------------------------------------------------------------------------------------------

FILL = """
import resource, mlfn

@mlfn.function
def keep(text: str) -> int:
    return len(text)

first = keep.on("inline").submit("small")
# As on a full disk: from here on no file may grow past what is there.
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
{then}
"""


@pytest.mark.parametrize(
    "then",
    ["keep.on('inline').submit('x' * 5_000_000)", "[keep.on('inline').submit('y' * 9000) for _ in range(2000)]"],
    ids=["an artifact", "the store"],
)
def test_a_full_disk_is_a_storage_error_and_loses_nothing(then: str) -> None:
    with pytest.raises(errors.StorageError, match=r"free space|Free space|free some space"):
        in_a_new_process(FILL.format(limit=600_000, then=then))

    oldest = mlfn.runs(order="oldest")[0]
    assert oldest.result() == 5
    assert {run.state for run in mlfn.runs(limit=10_000)} <= {"succeeded", "failed"}


def without_rights() -> None:
    """Take from root, too, what lets it write where it may not."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None)
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP: holds from the next exec on


READ_ONLY = """
import mlfn

@mlfn.function
def double(x):
    return 2 * x

assert double(2) == 4 and double.plan(2) and double.hash
double.on("{place}").submit(1)
"""


@pytest.mark.parametrize("place", ["inline", "local"])
def test_a_read_only_home_is_a_storage_error_that_names_the_way_out(place: str, home: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    bare.chmod(0o500)
    environ = {"HOME": str(bare), "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""}

    with pytest.raises(errors.StorageError, match=r"(MLFN_DATA|XDG_CONFIG_HOME)") as caught:
        in_a_new_process(READ_ONLY.format(place=place), env=environ, preexec_fn=without_rights)

    assert str(bare) in str(caught.value)
    assert list(bare.iterdir()) == []


def test_a_read_only_home_does_with_folders_named_elsewhere(tmp_path: Path) -> None:
    bare, free = tmp_path / "bare", tmp_path / "free"
    bare.mkdir()
    free.mkdir()
    bare.chmod(0o500)
    environ = {
        "HOME": str(bare),
        "XDG_DATA_HOME": "",
        "XDG_CONFIG_HOME": str(free / "config"),
        "MLFN_DATA": str(free / "data"),
    }

    in_a_new_process(
        READ_ONLY.format(place="local") + "\nassert mlfn.runs()[0].result(60) == 2",
        env=environ,
        preexec_fn=without_rights,
    )


def test_processes_that_migrate_the_same_store_at_once_all_go_on() -> None:
    script = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import mlfn

def double(x):
    return 2 * x

sys.stdin.read()
print(mlfn.function(double).on("inline").submit(1).result())
"""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.close()  # all have imported what they need: now at once
        process.stdin = None
    ended = [process.communicate(timeout=60) for process in started]

    assert [out for out, _ in ended] == ["2\n"] * 6, ended
    assert len(mlfn.runs()) == 6
