"""Real applications of Spark: what they give back, how they fail, and what is left of them."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from pyspark.errors import AnalysisException, PythonException

import mlfn
from mlfn.errors import RunLostError, WorkerDiedError
from tests.ledger import wait_until
from tests.spark import jobs
from tests.spark.jobs import PATIENCE


def javas(home: Path) -> list[str]:
    """Return the processes of Java that a test has started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_java = (process / "comm").read_text().strip() == "java"
            if is_java and f"HOME={home}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append(process.name)
    return found


def test_runs_of_a_shared_application_follow_one_another(home: Path) -> None:
    first, *others = (jobs.total.submit(3).result(PATIENCE) for _ in range(3))

    assert first[0] == 30
    assert others == [first, first], "another application, or another process"
    assert len(javas(home)) == 1


def test_a_sweep_takes_place_in_one_application() -> None:
    sweep = jobs.total.grid(items=[1, 2, 3]).submit()

    assert sweep.wait(PATIENCE)
    results = [child.result() for child in sweep.children]
    assert [result[0] for result in results] == [0, 10, 30]
    assert len({application for _, application, _ in results}) == 1


def test_a_run_leaves_nothing_to_the_next() -> None:
    for _ in range(2):
        assert jobs.leaves_much.submit(5).result(PATIENCE) == ([], "200", True)


def test_the_cause_in_an_executor_comes_first(home: Path) -> None:
    failed = jobs.total.submit(5)

    with pytest.raises(PythonException, match=r"^tests.spark.jobs.NoPriceError: item [34] has no price\n") as caught:
        failed.result(PATIENCE)
    assert "in price" in str(failed.error) and "\tat org.apache" not in str(caught.value)
    assert jobs.total.submit(3).result(PATIENCE)[0] == 30, "the application goes on"
    assert len(javas(home)) == 1


def test_what_spark_refuses_is_said_without_javas_stack() -> None:
    run = jobs.unresolved.submit()

    with pytest.raises(AnalysisException, match=r"^\[UNRESOLVED_COLUMN"):
        run.result(PATIENCE)
    assert "\tat org.apache" not in str(run.error)


def test_a_frame_is_a_folder_of_parquet_wherever_it_is_read(home: Path, tmp_path: Path) -> None:
    run = jobs.price_list.submit(3)

    prices, master = run.result(PATIENCE)
    assert (sorted(prices["price"]), master) == ([0, 10, 20], "local[2]")
    folder = run.outputs.prices.path
    assert {path.suffix for path in folder.iterdir()} == {".parquet"} and len(list(folder.iterdir())) > 1
    assert run.logs() == "in the driver\n"
    assert jobs.in_pandas.submit(run.outputs.prices).result(PATIENCE) == [0, 10, 20]

    is_spark, rows, frame = jobs.describe.submit(run.outputs.prices).result(PATIENCE)
    assert (is_spark, rows) == (True, [(0, 0), (1, 10), (2, 20)])
    pd.testing.assert_frame_equal(frame, pd.DataFrame({"id": [0, 1, 2], "price": [0, 10, 20]}))
    of_pandas = jobs.describe.submit(getattr(jobs.pandas_prices.submit().outputs, "return"))
    assert of_pandas.result(PATIENCE)[:2] == (True, [(7, 70)])
    (tmp_path / "prices.csv").write_text("id,price\n5,50\n")
    assert jobs.describe.submit(str(tmp_path / "prices.csv")).result(PATIENCE)[1] == [(5, 50)]
    assert len(javas(home)) == 1, "the application of the first run has ended"


def test_an_executor_that_is_killed_is_replaced(home: Path, tmp_path: Path) -> None:
    run = jobs.in_executors.submit(str(tmp_path))
    wait_until(lambda: len(list(tmp_path.glob("begun-*"))) == 2, timeout=PATIENCE)

    executors = [
        pid for pid in javas(home) if b"CoarseGrainedExecutorBackend" in Path("/proc", pid, "cmdline").read_bytes()
    ]
    assert len(executors) == 2
    os.kill(int(executors[0]), signal.SIGKILL)
    wait_until(lambda: len(list(tmp_path.glob("begun-*"))) == 3, timeout=PATIENCE)
    (tmp_path / "over").touch()

    assert run.result(PATIENCE) == [0, 1, 2, 3]
    wait_until(lambda: not javas(home), timeout=PATIENCE)


def test_a_java_that_is_killed_under_a_run_is_named(home: Path, tmp_path: Path) -> None:
    run = jobs.in_executors.submit(str(tmp_path))
    wait_until(lambda: list(tmp_path.glob("begun-*")), timeout=PATIENCE)

    [driver] = [pid for pid in javas(home) if b"SparkSubmit" in Path("/proc", pid, "cmdline").read_bytes()]
    os.kill(int(driver), signal.SIGKILL)

    with pytest.raises(RunLostError, match=r"the Java process of its application ended \(signal 9, SIGKILL\)"):
        run.result(PATIENCE)
    assert run.record.reason == "lost"
    wait_until(lambda: not javas(home), timeout=PATIENCE)


def test_a_driver_that_is_killed_takes_its_application_along(home: Path, tmp_path: Path) -> None:
    run = jobs.waits.submit(str(tmp_path))
    wait_until((tmp_path / "begun").exists, timeout=PATIENCE)

    os.kill(int((tmp_path / "begun").read_text()), signal.SIGKILL)

    with pytest.raises(WorkerDiedError, match="signal 9, SIGKILL"):
        run.result(PATIENCE)
    wait_until(lambda: not javas(home), timeout=PATIENCE)


def test_cancelling_ends_the_application(home: Path, tmp_path: Path) -> None:
    run = jobs.waits.submit(str(tmp_path))
    wait_until((tmp_path / "begun").exists, timeout=PATIENCE)

    assert run.cancel()

    assert run.state == "cancelled"
    wait_until(lambda: not javas(home), timeout=PATIENCE)


def test_a_plain_call_takes_a_session_as_given() -> None:
    with pytest.raises(TypeError, match="spark"):
        jobs.total(items=3)
    with pytest.raises(mlfn.errors.ParameterError, match=r"total\(spark=\.\.\.\) is filled in by the run"):
        jobs.total.submit(3, spark="a session")
