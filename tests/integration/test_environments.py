"""`requirements=`: a function that asks for a package that the caller lacks just runs."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

import mlfn
from mlfn.errors import EnvironmentBuildError
from mlfn.places.environments import Environments, build

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


def test_a_requirement_that_cannot_be_had_fails_the_run_in_the_installers_words():
    run = impossible.submit()

    with pytest.raises(EnvironmentBuildError, match=r"a-package-that-nobody-would-publish.*could not be installed"):
        run.result(timeout=300)
    assert run.state == "failed"


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
