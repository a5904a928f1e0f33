"""Ranks in several pods of an MPIJob, by the real operator."""

from __future__ import annotations

import time
from typing import Any

import pytest

import mlfn
from mlfn.backends.places.kubernetes import words
from tests.cluster.api import Namespace
from tests.ledger import wait_until

IMAGE = "mlfn.test/mpi:1"


pytestmark = pytest.mark.usefixtures("reach")


@mlfn.function(image=IMAGE, kind=mlfn.Mpi(replicas=2, slots=2))
def add_up(n: int, ctx: mlfn.Context) -> dict[str, Any]:
    import socket

    from mpi4py import MPI

    world: Any = MPI.COMM_WORLD
    print("works on", n + ctx.rank, flush=True)
    hosts = world.gather(socket.gethostname())
    return {
        "sum": world.allreduce(n + ctx.rank),
        "hosts": hosts,
        "place": [ctx.rank, ctx.size, ctx.local_rank],
    }


@mlfn.function(image=IMAGE, kind=mlfn.Mpi(replicas=2))
def fail_elsewhere(how: str, ctx: mlfn.Context) -> None:
    import os
    import signal
    import time

    if ctx.rank == 1 and how == "raises":
        raise LookupError("nothing is on rank 1")
    if ctx.rank == 1 and how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(120)


@mlfn.function(image=IMAGE, kind=mlfn.Mpi(replicas=2))
def wait(ctx: mlfn.Context) -> None:
    import time

    from mpi4py import MPI

    try:
        MPI.COMM_WORLD.Barrier()  # both are here
        ctx.log_metric("begun", 1)
        time.sleep(120)
    finally:
        print(f"rank {ctx.rank} cleans up", flush=True)


def test_ranks_of_two_pods_add_up() -> None:
    run = add_up.on("kubernetes").submit(10)

    found = run.result(timeout=120)

    assert found["sum"] == 10 + 11 + 12 + 13
    assert found["place"] == [0, 4, 0]
    assert len(set(found["hosts"])) == 2
    assert sorted(run.logs().splitlines()) == [f"[{rank}] works on {10 + rank}" for rank in range(4)]


@mlfn.function(image="mlfn.test/horovod:1", kind=mlfn.Horovod(replicas=2, autotune=True, timeline="/tmp/timeline.json"))
def mean_rank(ctx: mlfn.Context) -> dict[str, Any]:
    import os
    import socket

    import horovod.tensorflow as hvd
    import tensorflow as tf

    hvd.init()
    mean = float(hvd.allreduce(tf.constant([float(ctx.rank)]))[0])
    hosts = [bytes(item).decode() for item in hvd.allgather_object(socket.gethostname().encode())]
    return {"mean": mean, "hosts": hosts, "by_mpi": hvd.mpi_enabled(), "autotune": os.environ.get("HOROVOD_AUTOTUNE")}


@pytest.mark.timeout(500)  # TensorFlow is imported in both pods
def test_ranks_of_horovod_reduce_by_mpi_in_two_pods() -> None:
    found = mean_rank.on("kubernetes").submit().result(timeout=400)

    assert (found["mean"], found["by_mpi"], found["autotune"]) == (0.5, True, "1")
    assert len(set(found["hosts"])) == 2


def test_the_traceback_of_another_pod_arrives() -> None:
    begun = time.monotonic()
    run = fail_elsewhere.on("kubernetes").submit("raises")

    with pytest.raises(LookupError, match="nothing is on rank 1"):
        run.result(timeout=120)

    assert time.monotonic() - begun < 60


def test_a_rank_killed_in_another_pod_is_named() -> None:
    error = fail_elsewhere.on("kubernetes").submit("killed").exception(120)

    assert "rank 1 ended (signal 9, SIGKILL)" in str(error)


def test_cancel_reaches_the_ranks_of_all_pods(namespace: Namespace) -> None:
    run = wait.on("kubernetes").submit()
    while not run.metrics:
        time.sleep(0.1)

    run.cancel()
    run.wait(60)

    assert str(run.state) == "cancelled"
    assert {"[0] rank 0 cleans up", "[1] rank 1 cleans up"} <= set(run.logs().splitlines())
    until = time.monotonic() + 30
    while namespace.items("mpijobs") and time.monotonic() < until:
        time.sleep(0.2)
    assert not namespace.items("mpijobs")


@pytest.mark.parametrize("role", ["worker", "launcher"])
def test_a_pod_of_ranks_that_is_killed_is_named(namespace: Namespace, role: str) -> None:
    run = wait.on("kubernetes").submit()
    wait_until(lambda: run.metrics or run.done(), timeout=60)
    [pod] = namespace.items("pods", labelSelector=f"training.kubeflow.org/job-role={role}")

    begun = time.monotonic()
    namespace.api.delete(f"{namespace.path('pods')}/{pod['metadata']['name']}", {"gracePeriodSeconds": 0})
    error = run.exception(100)

    assert time.monotonic() - begun < 60, "the others do not wait for it"
    assert ("rank 1" if role == "worker" else "was deleted") in str(error)


def test_an_image_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "LIMITS", {**words.LIMITS, "image": 3.0})
    monkeypatch.setattr("mlfn.backends.places.kubernetes.place.LIMITS", words.LIMITS)

    error = add_up.with_options(image="registry.invalid/none:1").on("kubernetes").submit(1).exception(100)

    assert "waited 3 s for its image: " in str(error)


def test_an_image_without_ssh_is_named() -> None:
    run = add_up.with_options(image="python:3.11-slim").on("kubernetes").submit(1)

    assert "openssh-server" in str(run.exception(60))
    assert len(run.attempts) == 1, "another try would end alike"


def test_ranks_without_room_end_with_the_schedulers_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "LIMITS", {**words.LIMITS, "ranks": 3.0})
    monkeypatch.setattr("mlfn.backends.places.kubernetes.place.LIMITS", words.LIMITS)

    error = add_up.with_options(mem="900Gi").on("kubernetes").submit(1).exception(60)

    assert "waited 3 s for a node" in str(error) and "Insufficient memory" in str(error)


def test_a_grid_has_one_object_a_child(namespace: Namespace) -> None:
    sweep = (
        add_up.with_options(kind=mlfn.Mpi(replicas=2))
        .on("kubernetes")
        .grid(n=[1, 2, 3])
        .with_options(parallel=2)
        .submit()
    )

    sweep.wait(240)

    assert sorted(child.result()["sum"] for child in sweep.children) == [3, 5, 7]
