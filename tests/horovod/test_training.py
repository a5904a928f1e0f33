"""Two ranks of the real Horovod: a small Keras model, what they reduce, and what becomes of both when one fails, dies or hangs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mlfn
from mlfn import errors
from mlfn.host.identity import identify
from tests.architecture.source import ROOT
from tests.ledger import wait_until

IMPORTED = 240  # seconds in which a busy machine has imported TensorFlow in both ranks
pytestmark = pytest.mark.timeout(2 * IMPORTED)


@mlfn.function(kind=mlfn.Horovod(replicas=2))
def mean_rank(ctx: mlfn.Context) -> tuple[float, int]:
    import horovod.tensorflow as hvd
    import tensorflow as tf

    hvd.init()
    assert (ctx.rank, ctx.size, ctx.local_rank) == (hvd.rank(), hvd.size(), hvd.local_rank())
    assert hvd.mpi_enabled() == ("OMPI_COMM_WORLD_RANK" in os.environ)
    return float(hvd.allreduce(tf.constant([float(hvd.rank())]))[0]), hvd.size()


@mlfn.function(kind=mlfn.Horovod(replicas=2))
def misses(ctx: mlfn.Context, folder: str, how: str) -> None:
    Path(folder, f"rank-{ctx.rank}").write_text(str(os.getpid()))
    if (ctx.rank, how) == (1, "hang"):
        time.sleep(600)
    import horovod.tensorflow as hvd
    import tensorflow as tf

    hvd.init()
    hvd.allreduce(tf.constant([1.0]))
    Path(folder, f"reduced-{ctx.rank}").touch()
    if ctx.rank == 1:
        ends(how, Path(folder, "reduced-0"))
    hvd.allreduce(tf.constant([1.0]), name="missed")


def ends(how: str, other: Path) -> None:
    while not other.exists():
        time.sleep(0.05)
    if how == "raise":
        raise ValueError("rank 1 has had enough")
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


def pids(folder: Path) -> list[int]:
    """Return the pids of both ranks, once they are there."""
    paths = [folder / "rank-0", folder / "rank-1"]
    wait_until(lambda: all(path.exists() and path.read_text() for path in paths), timeout=60)
    return [int(path.read_text()) for path in paths]


def are_gone(ranks: list[int]) -> bool:
    return all(identify(pid).state() == "gone" for pid in ranks)


def test_the_example_trains_to_equal_weights() -> None:
    script = ROOT / "examples" / "horovod" / "train.py"

    subprocess.run([sys.executable, str(script)], check=True)


def test_what_the_page_shows_trains(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "horovod.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^```py\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    program = tmp_path / "page.py"
    program.write_text(block)

    subprocess.run([sys.executable, str(program)], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_ranks_reduce_by_gloo_and_write_a_timeline(tmp_path: Path) -> None:
    timeline = tmp_path / "timeline.json"
    kind = mlfn.Horovod(timeline=str(timeline), autotune=True)

    assert mean_rank.with_options(kind=kind).submit().result(IMPORTED) == (0.5, 2)

    assert "GLOO_ALLREDUCE" in timeline.read_text()


def test_ranks_reduce_by_mpi_with_its_arguments() -> None:
    kind = mlfn.Horovod(mpi_args=["--mca", "orte_base_help_aggregate", "0"])

    assert mean_rank.with_options(kind=kind).submit().result(IMPORTED) == (0.5, 2)


def test_a_rank_that_raises_ends_the_other(tmp_path: Path) -> None:
    run = misses.submit(str(tmp_path), "raise")
    ranks = pids(tmp_path)

    with pytest.raises(ValueError, match="rank 1 has had enough"):
        run.result(IMPORTED)

    wait_until(lambda: are_gone(ranks), timeout=10)
    assert "in ends" in str(run.error)


def test_a_rank_that_is_killed_is_named(tmp_path: Path) -> None:
    run = misses.submit(str(tmp_path), "kill")
    ranks = pids(tmp_path)

    with pytest.raises(errors.WorkerDiedError, match=r"rank 1 ended \(signal 9, SIGKILL\) before it reported"):
        run.result(IMPORTED)

    wait_until(lambda: are_gone(ranks), timeout=10)


def test_a_timeout_ends_a_rank_that_hangs(tmp_path: Path) -> None:
    run = misses.with_options(timeout=20).submit(str(tmp_path), "hang")
    ranks = pids(tmp_path)

    with pytest.raises(errors.RunTimeoutError, match="within its timeout of 20 s"):
        run.result(120)

    wait_until(lambda: are_gone(ranks), timeout=10)
    assert "rank 1 was stopped here" in str(run.error) and "in misses" in str(run.error)


def test_cancelling_ends_ranks_that_wait_for_each_other(tmp_path: Path) -> None:
    run = misses.submit(str(tmp_path), "sleep")
    ranks = pids(tmp_path)
    wait_until(lambda: len(list(tmp_path.glob("reduced-*"))) == 2, timeout=IMPORTED)

    assert run.cancel()

    assert run.state == "cancelled"
    wait_until(lambda: are_gone(ranks), timeout=10)
