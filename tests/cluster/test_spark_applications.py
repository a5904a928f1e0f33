"""A Spark application of its own for each run, by the real operator: the main pod is its driver."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

import mlfn
from mlfn.backends.places.kubernetes import words
from tests.cluster.api import Namespace
from tests.ledger import wait_until

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

KIND = mlfn.Spark(
    executors=1,
    driver_memory="512m",
    executor_memory="512m",
    conf={
        "spark.kubernetes.driver.request.cores": "100m",
        "spark.kubernetes.executor.request.cores": "100m",
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        "spark.ui.enabled": False,
    },
)
IMAGE = "mlfn.test/spark:1"


@pytest.fixture(scope="module", autouse=True)
def drivers(namespace: Namespace) -> None:
    namespace.permit_drivers()


pytestmark = [pytest.mark.timeout(400), pytest.mark.usefixtures("reach")]


def where(rows: Iterator[Any]) -> Iterator[tuple[str, int]]:
    import socket

    yield socket.gethostname(), sum(row.id for row in rows)


@mlfn.function(image=IMAGE, kind=KIND)
def count(n: int, spark: SparkSession) -> dict[str, Any]:
    import socket

    print("counts", n, flush=True)
    found = spark.range(n).rdd.mapPartitions(where).collect()
    return {"sum": sum(part for _, part in found), "elsewhere": socket.gethostname() not in {host for host, _ in found}}


@mlfn.function(image=IMAGE, kind=KIND)
def fail(spark: SparkSession) -> None:
    spark.range(3).rdd.map(lambda row: 1 // row.id).collect()


@mlfn.function(image=IMAGE, kind=KIND)
def make(n: int, spark: SparkSession) -> DataFrame:
    return spark.range(n)


@mlfn.function(image=IMAGE, kind=KIND)
def add_up(frame: DataFrame, spark: SparkSession) -> int:
    return int(frame.groupBy().sum("id").collect()[0][0])


@mlfn.function(image=IMAGE, kind=KIND)
def work_on(spark: SparkSession, ctx: mlfn.Context) -> int:
    """Have an executor at work for some seconds."""
    import time

    def slowly(rows: Iterator[Any]) -> Iterator[int]:
        time.sleep(5)
        yield sum(row.id for row in rows)

    spark.range(3).count()  # an executor is there
    ctx.log_metric("begun", 1)
    return int(sum(spark.range(10).rdd.mapPartitions(slowly).collect()))


def at_work() -> mlfn.Run[int]:
    """Return a run whose executor is there."""
    run = work_on.on("kubernetes").submit()
    wait_until(lambda: run.metrics or run.done(), timeout=200)
    assert run.metrics, run.exception()
    return run


def kill(namespace: Namespace, role: str) -> None:
    [pod] = namespace.items("pods", labelSelector=f"spark-role={role}")
    namespace.api.delete(f"{namespace.path('pods')}/{pod['metadata']['name']}", {"gracePeriodSeconds": 0})


def test_the_tasks_of_a_killed_executor_run_again_at_another(namespace: Namespace) -> None:
    run = at_work()

    kill(namespace, "executor")

    assert run.result(timeout=200) == 45
    assert len(run.attempts) == 1


def test_a_driver_that_is_killed_is_named(namespace: Namespace) -> None:
    run = at_work()

    kill(namespace, "driver")

    assert run.exception(100) is not None and run.record.reason == "lost", run.exception()
    wait_until(lambda: not namespace.items("sparkapplications") + namespace.items("pods"), timeout=60)


def test_an_image_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "LIMITS", {**words.LIMITS, "image": 3.0})
    monkeypatch.setattr("mlfn.backends.places.kubernetes.place.LIMITS", words.LIMITS)

    error = count.with_options(image="registry.invalid/none:1").on("kubernetes").submit(1).exception(120)

    assert "waited 3 s for its image: " in str(error)


def test_a_handler_drives_executors_in_pods(namespace: Namespace) -> None:
    run = count.on("kubernetes").submit(10)

    assert run.result(timeout=300) == {"sum": 45, "elsewhere": True}
    assert "counts 10\n" in run.logs()
    until = time.monotonic() + 60
    while namespace.items("sparkapplications") + namespace.items("pods") and time.monotonic() < until:
        time.sleep(0.2)
    assert not namespace.items("sparkapplications") + namespace.items("pods")


def test_an_exception_in_an_executor_is_the_runs() -> None:
    error = fail.on("kubernetes").submit().exception(300)

    assert ": ZeroDivisionError: " in str(error).splitlines()[0], "the cause comes before what Java says of it"


def test_frames_come_back_and_go_in() -> None:
    run = make.on("kubernetes").submit(10)

    assert add_up.on("kubernetes").submit(getattr(run.outputs, "return")).result(timeout=300) == 45
