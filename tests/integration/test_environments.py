"""`requirements=`: a function that asks for a package that the caller lacks just runs."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mlfn
from mlfn import settings
from mlfn.errors import EnvironmentBuildError
from mlfn.library.cleanup import JUST_USED, find_garbage, remove_garbage
from mlfn.places import local as local_place
from mlfn.places.environments import Environments, build, names_in_use
from tests.ledger import ROOT, wait_until

# Small, pure Python, and depended on by nothing that the tests install.
PACKAGE = "roman==5.0"


@mlfn.function(requirements=[PACKAGE])
def to_roman(number: int) -> tuple[str, str]:
    import sys

    import roman

    print("written by the run")
    return roman.toRoman(number), sys.prefix


@mlfn.function(requirements=["a-package-that-nobody-would-publish==0.0.1"])
def impossible() -> None: ...


def test_a_package_that_the_caller_lacks_is_installed_once_and_kept(caplog):
    assert importlib.util.find_spec("roman") is None

    first, prefix = to_roman.submit(14).result(timeout=300)
    second, again = to_roman.submit(9).result(timeout=30)

    assert (first, second) == ("XIV", "IX")
    assert prefix == again != sys.prefix
    assert sum("building an environment" in record.message for record in caplog.records) == 1


def test_the_callers_own_packages_are_there_too():
    @mlfn.function(requirements=[PACKAGE])
    def both() -> str:
        import numpy
        import roman

        return roman.toRoman(int(numpy.int64(3)))

    assert both.submit().result(timeout=300) == "III"


def test_an_environment_goes_once_nothing_runs_in_it_and_is_built_again_when_it_is_wanted(local, tmp_path, monkeypatch):
    monkeypatch.setattr(local_place, "_IDLE_SECONDS", 0.5)  # what forks its workers runs in it too

    @mlfn.function(requirements=[PACKAGE], kind=mlfn.Job(fresh=True))
    def waits(sign: str) -> str:
        import time

        import roman

        Path(sign).touch()
        while not Path(sign + ".go").exists():
            time.sleep(0.005)
        return roman.toRoman(2)

    from mlfn.client import current_client

    def clean() -> list[str]:
        found = find_garbage([current_client().store], local, now=time.time() + JUST_USED + 1, all_environments=True)
        gone = remove_garbage(current_client().store, local, found, now=time.time() + JUST_USED + 1)
        return [item.name for item in gone if item.kind == "environment"]

    sign = tmp_path / "sign"
    run = waits.submit(str(sign))
    wait_until(sign.exists, timeout=300)
    [target] = [path for path in (local / "environments").iterdir() if path.is_dir()]

    assert clean() == [], "a worker runs in it"
    Path(f"{sign}.go").touch()
    assert run.result(timeout=30) == "II"
    wait_until(lambda: not list(names_in_use(local / "environments")))
    assert clean() == [f"environments/{target.name}"]
    assert not target.exists()
    assert waits.submit(str(sign)).result(timeout=300) == "II"
    assert target.exists()


def test_two_processes_that_want_the_same_environment_build_it_once(tmp_path):
    code = "import sys; from pathlib import Path; from mlfn.places.environments import build; build(Path(sys.argv[1]), sys.argv[2:])"
    command = [sys.executable, "-c", code, str(tmp_path / "env"), PACKAGE]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) for _ in range(2)]

    assert [process.communicate(timeout=300)[1] for process in both] == ["", ""]
    assert [process.returncode for process in both] == [0, 0]
    assert list(tmp_path.glob("env/lib/python3*/site-packages/roman*"))


def test_a_requirement_that_cannot_be_had_fails_the_run_in_the_installers_words():
    run = impossible.submit()

    with pytest.raises(EnvironmentBuildError, match=r"a-package-that-nobody-would-publish.*could not be installed"):
        run.result(timeout=300)
    assert run.state == "failed"
    folder = settings.data_folder(settings.current()) / "environments"
    assert [path.name for path in folder.iterdir() if path.is_dir() and not (path / "complete").exists()] == []


@pytest.mark.parametrize("with_uv", [True, False], ids=["uv", "venv and pip"])
def test_both_installers_build_one(tmp_path, monkeypatch, with_uv):
    if with_uv:
        assert shutil.which("uv"), "uv is a requirement of the tests: pip install uv"
    else:
        monkeypatch.setattr(shutil, "which", lambda name: None)

    build(tmp_path / "env", (PACKAGE,))

    assert (tmp_path / "env" / "complete").read_text() == PACKAGE
    assert list(tmp_path.glob("env/lib/python3*/site-packages/roman*"))


def test_what_the_caller_has_already_needs_no_environment(tmp_path):
    environments = Environments(tmp_path, lambda: None)

    assert environments.python_for(()) == sys.executable
    assert environments.python_for(("cloudpickle",)) == sys.executable
    assert not list(tmp_path.iterdir())


def test_a_half_built_environment_is_built_anew(tmp_path):
    half = tmp_path / "env"
    half.mkdir()
    (half / "rubbish").touch()

    build(half, (PACKAGE,))

    assert not (half / "rubbish").exists()
    assert Path(half / "bin" / "python").exists()
