"""What a worker imports works where there is the standard library and cloudpickle, and nothing else."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import PACKAGE, modules

# What travels to a worker, folders with all that is in them; what these stand on comes along by import.
TRAVELS = ("artifacts", "code", "worker")

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

    assert set(TRAVELS) <= rooms


def test_each_module_can_be_imported_alone(bare_python):
    for name in ["mlfn", *travelling()]:
        done = _run(bare_python, f"import {name}")

        assert done.returncode == 0, f"import {name}\n{done.stderr}"


def test_a_users_module_can_declare_functions_there(bare_python):
    done = _run(bare_python, DECLARES)

    assert done.returncode == 0, done.stderr


JOBS = """
import sys
from dataclasses import dataclass

import mlfn

OTHER_PEOPLES = ("click", "fsspec", "jinja2", "numpy", "pandas", "pydantic", "rich")


@dataclass
class Point:
    x: int


class Refused(Exception):
    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


@mlfn.function(kind=mlfn.Job(fresh=True), retry=mlfn.Retry(3, delay=0), secrets=[mlfn.Secret("x")], labels={"a": "b"})
@mlfn.handler(outputs=["point", "where"])
def everything(ctx: mlfn.Context, point: Point, text: str, *rest: float, **more: int):
    print("printed", ctx.secret("x"))
    ctx.logger.info("logged")
    for i in ctx.progress(range(2), text="steps"):
        ctx.log_metric("loss", 1 / (i + 1), step=i)
    ctx.log_result("falsy", 0)
    ctx.log_artifact("report", "fine")
    with ctx.child(point=point) as child:
        child.log_result("x", point.x)
        child.mark_best()
    if ctx.attempt < 2:
        raise ValueError("once more")
    loaded = [name for name in OTHER_PEOPLES if name in sys.modules]
    return Point(point.x + 1), (sys.prefix, loaded, inner(3), rest, more, text, mlfn.context() is ctx)


@mlfn.function(cpu=1)
def inner(x: int) -> int:
    return 2 * x


@mlfn.function(kind="job", timeout="1m", node=mlfn.Node(spot="allow"), env={"MODE": "bare"})
async def refuse():
    raise Refused(7, "not now")
"""


@pytest.fixture
def jobs(bare_python, tmp_path, monkeypatch):
    """Import a user's module whose functions run in workers of the bare environment."""
    from mlfn.backends.places.local import place

    monkeypatch.setattr(place, "PYTHON", str(bare_python))
    monkeypatch.setenv("x", "sesame-sesame")
    (tmp_path / "bare_jobs.py").write_text(JOBS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("bare_jobs")
    del sys.modules["bare_jobs"]


def test_a_real_task_runs_there_from_end_to_end(jobs, bare_python):
    run = jobs.everything.submit(jobs.Point(1), "text", 0.5, 1, a=2)

    point, (prefix, loaded, doubled, *passed) = run.result(timeout=60)

    assert point == jobs.Point(2) and type(point) is jobs.Point
    assert (Path(prefix), loaded, doubled) == (bare_python.parents[1], [], 6)
    assert passed == [(0.5, 1), {"a": 2}, "text", True]
    assert [attempt.state for attempt in run.attempts] == ["failed", "succeeded"]
    assert run.metrics.history("loss") == [(0, 1.0), (1, 0.5)]
    assert run.outputs["falsy"] == 0 and run.outputs.report.path.read_text() == "fine"
    assert run.progress == {"done": 2, "total": 2, "text": "steps"}
    assert [(child.state, child.params["point"]) for child in run.children] == [("succeeded", jobs.Point(1))] * 2
    assert (run.outputs["best_iteration"], run.outputs["x"]) == (2, 1)
    assert "printed ***" in run.logs() and "INFO logged" in run.logs()


def test_a_failure_comes_back_from_there_as_itself(jobs):
    run = jobs.refuse.submit()

    with pytest.raises(jobs.Refused, match="not now") as caught:
        run.result(timeout=60)

    assert caught.value.code == 7
    assert "in refuse" in run.error and "asyncio" not in run.error
