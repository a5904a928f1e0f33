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
from mlfn.backends.places.local import servers
from mlfn.backends.places.local.environments import Environments, build, names_in_use
from mlfn.dispatch.garbage import JUST_USED
from mlfn.dispatch.garbage_collection import find_garbage, remove_garbage
from mlfn.errors import EnvironmentBuildError
from mlfn.settings import current as settings
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


def test_a_missing_package_is_installed_once(caplog):
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


def test_an_unused_environment_is_removed_and_rebuilt(local, tmp_path, monkeypatch):
    monkeypatch.setattr(servers, "IDLE_SECONDS", 0.5)  # the fork server runs in the environment too

    @mlfn.function(requirements=[PACKAGE], kind=mlfn.Job(fresh=True))
    def waits(sign: str) -> str:
        import time

        import roman

        Path(sign).touch()
        while not Path(sign + ".go").exists():
            time.sleep(0.005)
        return roman.toRoman(2)

    from mlfn.dispatch.session import current_session

    def clean() -> list[str]:
        found = find_garbage([current_session().store], local, now=time.time() + JUST_USED + 1, all_environments=True)
        gone = remove_garbage(current_session().store, local, found, now=time.time() + JUST_USED + 1)
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


def test_concurrent_processes_build_an_environment_once(tmp_path):
    code = "import sys; from pathlib import Path; from mlfn.backends.places.local.environments import build; build(Path(sys.argv[1]), sys.argv[2:])"
    command = [sys.executable, "-c", code, str(tmp_path / "env"), PACKAGE]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) for _ in range(2)]

    assert [process.communicate(timeout=300)[1] for process in both] == ["", ""]
    assert [process.returncode for process in both] == [0, 0]
    assert list(tmp_path.glob("env/lib/python3*/site-packages/roman*"))


def test_a_failed_install_quotes_the_installer():
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
