"""Reading is cheap: what `mlfn show` and `mlfn runs` load."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import mlfn
from tests.architecture.source import ROOT

MOST_MODULES = {"show": 55, "runs": 54}
# Dispatcher, capture, payload and workers; and libraries that plain text does without.
HEAVY = (
    *("mlfn.dispatch.dispatcher.", "mlfn.dispatch.session.", "mlfn.code.", "mlfn.worker."),
    *("mlfn.backends.registry.", "mlfn.backends.places.", "mlfn.backends.kinds."),
    *("mlfn.handles.run.", "mlfn.sweep.", "cloudpickle.", "fsspec.", "jinja2.", "pydantic.", "rich."),
)
REPORT = "import sys; from mlfn.ui.cli.app import run_command_line; run_command_line(sys.argv[1:]); print(*sys.modules)"


@mlfn.function
def double(x: int) -> int:
    return 2 * x


@pytest.fixture
def run():
    return double.on("inline").submit(2)


def loaded(*args: str) -> set[str]:
    """Run a command in a fresh interpreter and return the modules that it loaded."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    path = os.pathsep.join(filter(None, [str(ROOT), clean.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-c", REPORT, *args],
        capture_output=True,
        text=True,
        check=True,
        env={**clean, "PYTHONPATH": path},
    )
    return set(done.stdout.splitlines()[-1].split())


def test_a_silent_run_loads_no_place() -> None:
    run = double.on("local").submit(2)
    assert run.result() == 4

    assert [name for name in loaded("logs", run.id) if name.startswith("mlfn.backends.places.local")] == []


@pytest.mark.parametrize("command", MOST_MODULES)
def test_reading_loads_store_settings_and_views_alone(run, command):
    modules = loaded(command, *([run.id] if command == "show" else []))

    assert [name for name in modules if f"{name}.".startswith(HEAVY)] == []
    assert len([name for name in modules if name.partition(".")[0] == "mlfn"]) <= MOST_MODULES[command]
