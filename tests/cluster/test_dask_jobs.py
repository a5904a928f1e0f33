"""A Dask cluster of its own for each run, by the real operator."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import mlfn
from mlfn.backends.kinds import daskjob
from mlfn.backends.places.kubernetes import words
from tests.cluster.api import Namespace
from tests.ledger import wait_until

if TYPE_CHECKING:
    import dask.dataframe

IMAGE = "mlfn.test/dask:1"


pytestmark = [pytest.mark.timeout(500), pytest.mark.usefixtures("reach")]


def square(n: int) -> tuple[int, str]:
    import socket

    return n * n, socket.gethostname()


@mlfn.function(image=IMAGE, kind=mlfn.Dask(workers=2), env={"SCALE": "3"})
def add_squares(n: int, ctx: mlfn.Context) -> dict[str, Any]:
    import os
    import socket

    print("works with", len(ctx.dask_client.scheduler_info()["workers"]) > 0, flush=True)
    found = ctx.dask_client.gather(ctx.dask_client.map(square, range(n)))
    hosts = {host for _, host in found}
    return {"sum": sum(value for value, _ in found), "here": socket.gethostname() in hosts, "env": os.environ["SCALE"]}


@mlfn.function(image=IMAGE, kind=mlfn.Dask(workers=1))
def fail(n: int, ctx: mlfn.Context) -> None:
    ctx.dask_client.submit(lambda: 1 // n).result()


@mlfn.function(image=IMAGE, kind=mlfn.Dask(workers=1))
def make_frame(n: int) -> dask.dataframe.DataFrame:
    import dask.dataframe
    import pandas

    return dask.dataframe.from_pandas(pandas.DataFrame({"n": range(n)}), npartitions=2)


@mlfn.function(image=IMAGE, kind=mlfn.Dask(workers=1))
def add_up(frame: dask.dataframe.DataFrame) -> int:
    return int(frame["n"].sum().compute())


@mlfn.function(image=IMAGE, kind=mlfn.Dask(adaptive=(1, 2)))
def grow(ctx: mlfn.Context) -> tuple[int, int]:
    """Return how many workers there were, and how many once there was work for more."""
    import time

    def count() -> int:
        return len(ctx.dask_client.scheduler_info(n_workers=-1)["workers"])

    first, until = count(), time.monotonic() + 100
    tasks = ctx.dask_client.map(lambda _: time.sleep(0.5), range(1000), pure=False)
    while count() < 2 and time.monotonic() < until:
        time.sleep(0.2)
    ctx.dask_client.cancel(tasks, force=True)
    return first, count()


@mlfn.function(image=IMAGE, kind=mlfn.Dask(workers=1, reuse="team"))
def which_cluster(ctx: mlfn.Context) -> str:
    import socket

    found = ctx.dask_client.submit(socket.gethostname, pure=False).result()
    return f"{ctx.dask_client.scheduler_info()['id']} {found}"


@mlfn.function(image=IMAGE, kind=mlfn.Dask(workers=1))
def wait_at_a_worker(ctx: mlfn.Context) -> str:
    """Return where a task ran that says when it has begun."""
    import socket
    import time

    from distributed import Event

    def work() -> str:
        Event("begun").set()
        Event("go").wait()
        return socket.gethostname()

    task = ctx.dask_client.submit(work)
    while not Event("begun", client=ctx.dask_client).is_set():
        time.sleep(0.1)
    ctx.log_metric("begun", 1)
    time.sleep(3)
    Event("go", client=ctx.dask_client).set()
    return str(task.result())


def part(namespace: Namespace, role: str) -> str:
    """Return the name of a pod beside the run's."""
    [pod] = namespace.items("pods", labelSelector=f"mlfn.io/role={role}")
    return str(pod["metadata"]["name"])


def delete(namespace: Namespace, kind: str, name: str) -> None:
    namespace.api.delete(f"{namespace.path(kind)}/{name}", {"gracePeriodSeconds": 0})


def at_work() -> mlfn.Run[str]:
    """Return a run whose task has begun at a worker."""
    run = wait_at_a_worker.on("kubernetes").submit()
    wait_until(lambda: run.metrics or run.done(), timeout=300)
    assert run.metrics, run.exception()
    return run


def gone(namespace: Namespace, *kinds: str) -> bool:
    kinds = kinds or ("daskjobs", "daskclusters", "daskautoscalers", "pods")
    until = time.monotonic() + 60
    while found := [item for kind in kinds for item in namespace.items(kind)]:
        if time.monotonic() > until:
            raise AssertionError([(item.get("kind"), item["metadata"]) for item in found])
        time.sleep(0.2)
    return True


def test_a_handler_fans_out_over_the_workers_pods(namespace: Namespace) -> None:
    run = add_squares.on("kubernetes").submit(10)

    assert run.result(timeout=120) == {"sum": 285, "here": False, "env": "3"}
    assert run.logs() == "works with True\n"
    assert gone(namespace)


def test_an_exception_of_a_task_is_the_runs() -> None:
    with pytest.raises(ZeroDivisionError):
        fail.on("kubernetes").submit(0).result(timeout=120)


def test_frames_come_back_and_go_in() -> None:
    run = make_frame.on("kubernetes").submit(10)

    assert add_up.on("kubernetes").submit(getattr(run.outputs, "return")).result(timeout=180) == 45
    assert len(run.result().compute()) == 10


def test_a_cluster_grows_with_its_work_and_ends_with_the_run(namespace: Namespace) -> None:
    assert grow.on("kubernetes").submit().result(timeout=240) == (1, 2)
    assert gone(namespace)


def test_a_cluster_is_kept_by_its_name_for_runs_of_any_client(
    namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = which_cluster.on("kubernetes").submit().result(timeout=180)
    mlfn.shutdown()
    monkeypatch.setenv("MLFN_DATA", str(tmp_path / "other"))

    assert which_cluster.on("kubernetes").submit().result(timeout=180) == first
    other = which_cluster.with_options(kind=mlfn.Dask(workers=2, reuse="team")).on("kubernetes").submit()
    assert "was made with workers=1, and this run asks for workers=2" in str(other.exception(60))

    delete(namespace, "daskclusters", "team")
    assert gone(namespace, "daskclusters", "pods")


def test_a_kept_cluster_goes_once_it_was_idle_for_long(namespace: Namespace) -> None:
    kind = mlfn.Dask(workers=1, reuse="idle", idle_timeout=25)

    assert which_cluster.with_options(kind=kind).on("kubernetes").submit().result(timeout=180)

    [kept] = namespace.items("daskclusters")
    assert kept["spec"]["idleTimeout"] == 25
    assert gone(namespace, "daskclusters", "pods")


def test_a_cluster_of_others_is_not_taken(namespace: Namespace) -> None:
    pods = {"spec": {"containers": [{"name": "main", "image": IMAGE}]}}
    spec = {
        "scheduler": {**pods, "service": {"ports": [{"port": 8786}], "type": "ClusterIP"}},
        "worker": {**pods, "replicas": 0},
    }
    namespace.api.post(
        namespace.path("daskclusters"),
        {
            "apiVersion": "kubernetes.dask.org/v1",
            "kind": "DaskCluster",
            "metadata": {"name": "theirs"},
            "spec": spec,
        },
    )

    error = which_cluster.with_options(kind=mlfn.Dask(reuse="theirs")).on("kubernetes").submit().exception(60)
    delete(namespace, "daskclusters", "theirs")

    assert "and mlfn has not made it: choose another name" in str(error)


def test_a_task_of_a_killed_worker_pod_runs_again_at_another(namespace: Namespace) -> None:
    run = at_work()
    before = part(namespace, "worker")

    delete(namespace, "pods", before)

    assert run.result(timeout=120) not in ("", before)
    assert len(run.attempts) == 1


@pytest.mark.parametrize("killed", ["scheduler", "cluster"])
def test_a_scheduler_that_is_gone_is_named(namespace: Namespace, killed: str) -> None:
    run = at_work()

    if killed == "scheduler":
        delete(namespace, "pods", part(namespace, "scheduler"))
    else:
        [cluster] = namespace.items("daskclusters")
        delete(namespace, "daskclusters", cluster["metadata"]["name"])

    error = run.exception(120)
    assert "the scheduler of its Dask cluster is gone" in str(error)
    assert run.record.reason == "lost"


@pytest.mark.parametrize(
    ("options", "sort", "said"),
    [
        ({"kind": mlfn.Dask(workers=1, mem="900Gi")}, "ranks", "Insufficient memory"),
        ({"image": "registry.invalid/none:1"}, "image", "registry.invalid/none:1"),
    ],
)
def test_what_keeps_a_cluster_from_beginning_is_said(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], sort: str, said: str
) -> None:
    monkeypatch.setattr(words, "LIMITS", {**words.LIMITS, sort: 3.0})
    monkeypatch.setattr("mlfn.backends.places.kubernetes.place.LIMITS", words.LIMITS)

    error = add_squares.with_options(**options).on("kubernetes").submit(1).exception(120)

    assert "waited 3 s for " in str(error) and said in str(error)


def test_an_operator_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daskjob, "_API", "kubernetes.dask.org/v9")  # which this cluster does not know

    error = add_squares.on("kubernetes").submit(1).exception(60)

    assert "it knows no DaskJob of kubernetes.dask.org/v9" in str(error)
    assert "helm install" in str(error)
