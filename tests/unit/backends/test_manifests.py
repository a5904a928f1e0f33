"""What operators are asked for, whole, as it is checked in; ``python -m tests.unit.backends.test_manifests`` writes it anew."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mlfn
from mlfn import errors
from mlfn.backends.places.kubernetes.objects import Wanted, execution
from mlfn.spec.yaml_text import from_yaml, to_yaml
from tests.unit.backends.test_kubernetes import PLAN

FOLDER = Path(__file__).with_name("manifests")
NODE = mlfn.Node(selector={"pool": "batch"}, priority="high")
OPTIONS: dict[str, Any] = {"image": "registry.example/team:4", "cpu": 0.5, "mem": "1Gi", "node": NODE}
KINDS: dict[str, Any] = {
    "job": mlfn.Job(),
    "mpijob": mlfn.Mpi(replicas=3, slots=2, mpi_args=["--mca", "btl", "tcp,self"]),
    "daskjob": mlfn.Dask(workers=3, threads=2, mem="2Gi"),
    "dask-adaptive": mlfn.Dask(adaptive=(0, 5)),
    "dask-kept": mlfn.Dask(adaptive=(2, 5), mem="2Gi", reuse="team", idle_timeout="10m"),
    "dask-address": mlfn.Dask(address="tcp://scheduler.ml:8786"),
    "sparkapplication": mlfn.Spark(
        executors=2,
        driver_memory="2g",
        executor_memory="4g",
        executor_cores=2,
        packages=["org.apache.spark:spark-avro_2.13:4.0.1"],
        py_files=["local:///opt/lib.zip"],
        conf={"spark.sql.shuffle.partitions": 400, "spark.executor.memoryOverhead": "512m"},
    ),
}


def manifest(kind: Any, **options: Any) -> dict[str, Any]:
    return manifests(kind, **options)[0]


def manifests(kind: Any, **options: Any) -> list[dict[str, Any]]:
    """Return what is created of a function, but for its Secret."""

    @mlfn.function(name="etl", kind=kind, **options)
    def etl(day: str) -> None: ...

    _, text = etl.on("kubernetes", namespace="ml").plan("today").split("---\n", 1)
    return [item for item in read(shortened(text)) if item["kind"] != "Secret"]


def of_a_grid() -> dict[str, Any]:
    """Return the Job of a grid of 12, 4 at a time, of which 3 may fail."""
    plan = replace(PLAN, image=OPTIONS["image"])
    wanted = Wanted("mlfn-run", "ml", plan, "", 10.0, units=12, parallel=4, failures=3, home="of-0123456789abcdef")
    [job] = read(shortened(to_yaml(execution(wanted, "mlfn-worker-0"))))
    return job


def shortened(text: str) -> str:
    # What differs by version of the function and of mlfn.
    text = re.sub(r"mlfn-worker-[^\s\"]+", "mlfn-worker", text)
    text = re.sub(r"(mlfn.io/hash: )\S+", r"\1hash", text)
    text = re.sub(r"(mlfn.io/version: )\S+", r"\1version", text)
    return re.sub(r"(sparkVersion: )\S+", r"\1version", text)


def read(text: str) -> list[dict[str, Any]]:
    return [from_yaml(document) for document in text.split("---\n")]


@pytest.mark.parametrize("name", KINDS)
def test_the_manifest_is_the_one_that_is_checked_in(name: str) -> None:
    assert manifests(KINDS[name], **OPTIONS) == read((FOLDER / f"{name}.yaml").read_text())


def test_the_manifest_of_a_grid_is_the_one_that_is_checked_in() -> None:
    assert of_a_grid() == from_yaml((FOLDER / "indexed-job.yaml").read_text())


def test_dynamic_allocation_takes_the_place_of_a_number_of_executors() -> None:
    spec = manifest(mlfn.Spark(dynamic_allocation=(1, 10)))["spec"]

    assert spec["dynamicAllocation"] == {
        "enabled": True,
        "initialExecutors": 1,
        "minExecutors": 1,
        "maxExecutors": 10,
    }
    assert "instances" not in spec["executor"]


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        (mlfn.Spark(share=True), {}, "leave share= out"),
        (mlfn.Spark(), {"gpus": 1}, "spark.executor.resource.gpu.amount"),
        (
            mlfn.Dask(reuse="team"),
            {"requirements": ["six"]},
            "the pods of a cluster that is kept have what their image has",
        ),
    ],
)
def test_what_pods_cannot_have_is_refused(kind: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(errors.OptionError, match=re.escape(said)):
        manifest(kind, **options)


def test_a_service_account_of_the_users_own_takes_the_place_of_spark() -> None:
    @mlfn.function(kind=mlfn.Spark())
    def etl() -> None: ...

    _, text, *_ = etl.on("kubernetes", pod={"serviceAccountName": "etl"}).plan().split("---\n")
    driver, executor = (from_yaml(text)["spec"][role]["template"]["spec"] for role in ("driver", "executor"))

    assert (driver["serviceAccountName"], driver["automountServiceAccountToken"]) == ("etl", True)
    assert executor["automountServiceAccountToken"] is False


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, kind in KINDS.items():
        (FOLDER / f"{name}.yaml").write_text("---\n".join(map(to_yaml, manifests(kind, **OPTIONS))))
    (FOLDER / "indexed-job.yaml").write_text(to_yaml(of_a_grid()))
