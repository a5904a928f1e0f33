"""The kind spark: what its options may be, what they become, and what a machine must have. No Spark is needed here."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path
from typing import Any

import pytest

import mlfn
from mlfn.errors import MissingExtraError, MlfnError, OptionError, PlaceError
from mlfn.handles import finders

CAUSE = """An error occurred while calling o41.collect.
: org.apache.spark.SparkException: Job aborted due to stage failure
\tat org.apache.spark.Scheduler.run(Scheduler.scala:1)
Caused by: org.apache.spark.api.python.PythonException: Traceback (most recent call last):
  File "jobs.py", line 8, in price
    raise ValueError("no price")
ValueError: no price

\tat org.apache.spark.api.python.Runner.read(Runner.scala:2)
"""
JAVA_CAUSE = """An error occurred while calling o41.parquet.
: org.apache.spark.SparkException: Job aborted.
\tat org.apache.spark.Scheduler.run(Scheduler.scala:1)
Caused by: java.io.IOException: No space left on device
\tat java.base/java.io.FileOutputStream.write(FileOutputStream.java:3)
"""


def made(**options: Any) -> dict[str, Any]:
    @mlfn.function(kind=mlfn.Spark(**options), cpu=options.pop("cpu", None))
    def etl(n: int) -> int:
        return n

    return etl.__mlfn_plan__((1,), {})["creates"]["worker"]


def submitted(**options: Any) -> str:
    return str(made(**options)["env"]["PYSPARK_SUBMIT_ARGS"])


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let PySpark be installed."""
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "4.0.1" if name == "pyspark" else version(name))


def java(folder: Path, version: str | None) -> Path:
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    if version is not None:
        (folder / "release").write_text(f'IMPLEMENTOR="Anybody"\nJAVA_VERSION="{version}"\n')
    return folder


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"executors": 0}, r"Spark\(executors=0\): a whole number, 1 or more"),
        ({"executor_cores": True}, r"Spark\(executor_cores=True\)"),
        ({"driver_memory": "4 GB"}, r"Spark\(driver_memory='4 GB'\): a text such as '512m' or '4g'"),
        ({"executor_memory": 4}, r"Spark\(executor_memory=4\)"),
        ({"jars": [1]}, r"Spark\(jars=\[1\]\): a list of texts"),
        ({"conf": ["spark.a"]}, r"Spark\(conf=\['spark.a'\]\): a mapping"),
        ({"conf": {"sql.shuffle": 4}}, r"'sql.shuffle'.*begin with 'spark\.'"),
        ({"conf": {"spark.a": None}}, r"'spark.a': None.*a text, a number, True or False"),
        ({"dynamic_allocation": (4, 1)}, r"Spark\(dynamic_allocation=\(4, 1\)\): the fewest and the most"),
        ({"share": "yes"}, r"Spark\(share='yes'\): True or False"),
        ({"executer_memory": "4g"}, "did you mean 'executor_memory'"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        mlfn.Spark(**options)


def test_options_become_properties() -> None:
    kind = mlfn.Spark(
        executors=10,
        executor_memory="4Gi",
        executor_cores=2,
        driver_memory="512M",
        dynamic_allocation=(1, 10),
        jars=["a.jar", "b.jar"],
        packages="org.apache.spark:spark-avro_2.13:4.0.0",
        py_files=["lib.zip"],
        conf={"spark.sql.shuffle.partitions": 400, "spark.sql.ansi.enabled": False},
    )

    assert kind.properties() == {
        "spark.executor.instances": "10",
        "spark.executor.memory": "4g",
        "spark.executor.cores": "2",
        "spark.driver.memory": "512m",
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.shuffleTracking.enabled": "true",
        "spark.dynamicAllocation.minExecutors": "1",
        "spark.dynamicAllocation.maxExecutors": "10",
        "spark.jars": "a.jar,b.jar",
        "spark.jars.packages": "org.apache.spark:spark-avro_2.13:4.0.0",
        "spark.submit.pyFiles": "lib.zip",
        "spark.sql.shuffle.partitions": "400",
        "spark.sql.ansi.enabled": "false",
    }


def test_a_stored_kind_is_made_again() -> None:
    kind = mlfn.Spark(jars=["a.jar"], dynamic_allocation=(1, 2), conf={"spark.a": 1})

    assert mlfn.Spark(**vars(kind)) == kind


@pytest.mark.parametrize(
    ("options", "master"),
    [
        ({}, "local[*]"),
        ({"executors": 3}, "local[3]"),
        ({"executors": 3, "executor_cores": 2}, "local[6]"),
        ({"conf": {"spark.master": "spark://host:7077"}}, "spark://host:7077"),
    ],
)
def test_the_application_is_local_unless_its_conf_says_otherwise(options: dict[str, Any], master: str) -> None:
    assert f"spark.master={master}" in submitted(**options)


def test_the_cores_of_a_function_are_its_threads() -> None:
    @mlfn.function(kind=mlfn.Spark(executors=8), cpu=1.5)
    def etl() -> None: ...

    assert "spark.master=local[2]" in etl.plan()


def test_only_a_local_application_listens_to_this_machine_alone() -> None:
    assert made()["env"]["SPARK_LOCAL_IP"] == "127.0.0.1"
    assert "SPARK_LOCAL_IP" not in made(conf={"spark.master": "spark://host:7077"})["env"]


def test_the_users_options_of_java_come_last() -> None:
    sent = submitted(conf={"spark.driver.extraJavaOptions": "-Xss4m"})

    assert "spark-log4j2.properties -Xss4m'" in sent


def test_a_shared_application_takes_no_process_of_its_own() -> None:
    assert made()["fresh"] is True
    assert made(share=True)["fresh"] is False


def test_another_place_refuses_it() -> None:
    @mlfn.function(kind="spark")
    def etl() -> None: ...

    with pytest.raises(OptionError, match=r"kind='spark'.*on='inline'.*on='kubernetes' or on='local'"):
        etl.on("inline").submit()


def test_pyspark_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)

    with pytest.raises(MissingExtraError, match=r"pip install 'mlfn\[spark\]'"):
        mlfn.Spark().check_machine({})


def test_java_that_is_missing_is_named_before_anything_is_stored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    @mlfn.function(kind="spark")
    def etl() -> None: ...

    with pytest.raises(PlaceError, match=r"no java on PATH.*apt install default-jre-headless.*JAVA_HOME"):
        etl.submit()
    assert len(finders.runs()) == 0


def test_a_wrong_java_home_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlaceError, match=r"JAVA_HOME='.*' has no bin/java"):
        mlfn.Spark().check_machine({"JAVA_HOME": str(tmp_path)})


@pytest.mark.parametrize("version", ["11.0.2", "1.8.0_372"])
def test_a_java_that_is_too_old_is_named(tmp_path: Path, version: str) -> None:
    home = java(tmp_path / "jdk", version)

    with pytest.raises(PlaceError, match=r"PySpark 4\.0\.1 needs Java 17 or newer, and .*bin/java is Java (11|8):"):
        mlfn.Spark().check_machine({"JAVA_HOME": str(home)})


@pytest.mark.parametrize("version", ["17.0.15", "21", None])
def test_a_java_that_may_do_is_left_to_spark(tmp_path: Path, version: str | None) -> None:
    home = java(tmp_path / "jdk", version)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").symlink_to(home / "bin" / "java")

    mlfn.Spark().check_machine({"PATH": os.fspath(tmp_path / "bin")})


@pytest.mark.parametrize(
    ("text", "first"), [(CAUSE, "ValueError: no price"), (JAVA_CAUSE, "java.io.IOException: No space left on device")]
)
def test_the_cause_comes_before_the_stack_of_java(text: str, first: str) -> None:
    from mlfn.backends.kinds.spark import _say_cause_first

    error = type("Py4JJavaError", (Exception,), {"__module__": "py4j.protocol"})(text)
    _say_cause_first(error)

    assert str(error) == f"{first}\n{text}"
    assert f"{type(error).__module__}.{type(error).__qualname__}" == "py4j.protocol.Py4JJavaError"


def test_an_error_that_is_not_sparks_keeps_its_text() -> None:
    from mlfn.backends.kinds.spark import _say_cause_first

    error = MlfnError(CAUSE)
    _say_cause_first(error)

    assert str(error) == CAUSE and type(error) is MlfnError
