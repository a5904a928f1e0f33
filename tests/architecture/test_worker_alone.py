"""What a worker imports works where there is the standard library and cloudpickle, and nothing else."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import PACKAGE, modules

# What travels to a worker, folders with all that is in them; what these stand on comes along by import.
TRAVELS = ("artifacts", "execution", "packers", "payload", "user_context", "worker")

DECLARES = """
import mlfn

@mlfn.function(kind="job", image="python:3.11-slim", cpu=2, mem="4Gi")
@mlfn.handler(outputs=["double"])
def double(x: int) -> int:
    return 2 * x

assert double(21) == 42
"""


def travelling() -> list[str]:
    return [module.name for module in modules() if module.room in TRAVELS and not module.name.endswith(".__main__")]


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    """Make an environment whose site-packages hold cloudpickle alone, and return its interpreter."""
    root = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root], check=True)
    python = root / "bin" / "python"
    site = _run(python, "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
    source = importlib.util.find_spec("cloudpickle").submodule_search_locations[0]
    shutil.copytree(source, Path(site) / "cloudpickle")
    return python


def _run(python: Path, code: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PACKAGE.parent)}
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=False, env=environment)


def test_the_environment_has_nothing_else(bare_python):
    done = _run(bare_python, "import importlib.util as u; print(u.find_spec('pydantic'), u.find_spec('pip'))")

    assert done.stdout.split() == ["None", "None"], done.stderr


def test_the_list_names_what_is_there():
    rooms = {module.room for module in modules()}

    # The worker stands on all the others.
    assert "worker" not in rooms or set(TRAVELS) <= rooms


def test_each_module_can_be_imported_alone(bare_python):
    for name in ["mlfn", *travelling()]:
        done = _run(bare_python, f"import {name}")

        assert done.returncode == 0, f"import {name}\n{done.stderr}"


def test_a_users_module_can_declare_functions_there(bare_python):
    if (PACKAGE / "declaration.py").exists():
        done = _run(bare_python, DECLARES)

        assert done.returncode == 0, done.stderr
