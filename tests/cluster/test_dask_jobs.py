"""A Dask cluster of its own for each run, by the real operator."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

import mlfn
from mlfn import errors
from tests.cluster.api import Namespace

if TYPE_CHECKING:
    import dask.dataframe

IMAGE = "mlfn.test/dask:1"


pytestmark = pytest.mark.usefixtures("reach")


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


def gone(namespace: Namespace) -> bool:
    until = time.monotonic() + 60
    while found := namespace.items("daskjobs") + namespace.items("pods"):
        if time.monotonic() > until:
            raise AssertionError([item["metadata"]["name"] for item in found])
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


def test_workers_without_a_cluster_say_so() -> None:
    with pytest.raises(errors.OptionError, match="adaptive"):
        add_squares.with_options(kind=mlfn.Dask(adaptive=(1, 3))).on("kubernetes").submit(1)
