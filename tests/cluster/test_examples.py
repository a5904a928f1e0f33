"""The examples run unchanged with MLFN_ON=kubernetes, in an image that has what they import."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.source import ROOT
from tests.cluster.api import Namespace

IMAGE = "mlfn.test/examples:1"
"""A plain Python with scikit-learn and pandas."""
HOST = os.environ.get("CLUSTER_HOST", "")
INDEX = os.environ.get("CLUSTER_PIP_INDEX_URL", "")  # where it is set, pods reach no other
SAYS = {
    "01_train": "accuracy 0.9",
    "02_chain": "ParentFailedError: ",
    "03_robust": "after 3 attempts",
    "04_context": "a package that the caller lacks: hypotheses",
    "06_grid": "the best is child",
    "10_map": "a second time, taken over: 3 of 3",
}
"""What each prints that runs here."""
NOT_HERE = {
    "07_search": "two dozen pods one after the other: the suite of kind x place has a search",
    "08_pareto": "as many: its place is nothing that it speaks of",
    "09_conditional": "a dozen pods, which differ from those of 06_grid by their parameters alone",
    "11_resume": "its children write a file of this machine",
    "12_mpi": "it needs an image with Open MPI: test_ranks.py has its kind",
    "13_dask": "it needs an image with Dask: test_dask_jobs.py has its kind, and it reads partitions from this machine's disk",
    "14_serve": "its service needs another image than its run: test_services.py has services",
    "15_one_function": "each of its kinds needs an image of its own",
    "16_events": "it has no run: its events are tried without a server",
    "17_backfill": "its service needs another image: test_services.py has runs that a service executes",
}


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    made = Namespace(restricted=True)
    made.make_secret("tracker-token", value="correct-horse-battery")
    yield made
    made.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("example", SAYS)
def test_an_example_runs_in_pods(namespace: Namespace, tmp_path: Path, example: str) -> None:
    environ = {
        **os.environ,
        "KUBECONFIG": str(namespace.write_kubeconfig(tmp_path / "kubeconfig")),
        "PYTHONPATH": str(ROOT),
        "MLFN_ON": "kubernetes",
        "MLFN_IMAGE": IMAGE,
        **({"MLFN_PACKAGE_INDEX": INDEX, "MLFN_TRUSTED_HOST": HOST} if INDEX else {}),
    }
    program = ROOT / "examples" / f"{example}.py"

    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, env=environ, timeout=280, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert SAYS[example] in done.stdout


def test_each_example_runs_in_pods_or_has_a_reason() -> None:
    assert {path.stem for path in (ROOT / "examples").glob("[0-9]*.py")} == {*SAYS, *NOT_HERE}
