"""Workers that start while the first submit still loads what it needs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mlfn.worker import launch as launching

SCRIPT = """
import mlfn
from mlfn.errors import ParameterError

@mlfn.function
def fit(x):
    return x

try:
    fit.grid(x=[1, 2, 3]).with_options(parallel={parallel}).submit(nonsense=1)
except ParameterError:
    from mlfn.worker.launch import _spares
    print(len(_spares))
"""


@pytest.fixture
def no_spares():
    launching.discard_spares()
    yield
    launching.discard_spares()


def test_spares_are_started_up_to_a_number_and_taken_one_by_one(no_spares):
    launching.launch_spares(2)
    launching.launch_spares(2)
    pids = {spare.popen.pid for spare in launching._spares}

    taken = [launching.launch(sys.executable) for _ in range(2)]

    assert len(pids) == 2
    assert {spare.popen.pid for spare in taken} == pids
    assert launching._spares == []
    for spare in taken:
        launching.discard(spare)


@pytest.mark.parametrize(
    ("parallel", "bound", "started"),
    [(2, "", 2), (1, "", 1), (50, "2", 2), (50, "", min(3, 2 * len(os.sched_getaffinity(0))))],
    ids=["as many as run at a time", "one", "no more than the settings allow", "no more than there are children"],
)
def test_a_first_sweep_starts_its_workers_before_it_loads_the_rest(tmp_path, parallel, bound, started):
    environ = {**os.environ, "MLFN_DATA": str(tmp_path / "data"), **({"MLFN_MAX_WORKERS": bound} if bound else {})}
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(parallel=parallel))

    done = subprocess.run([sys.executable, str(script)], env=environ, capture_output=True, text=True, check=True)

    assert done.stdout.split() == [str(started)]
