"""`cpu`, `gpus` and `env` as the handler sees them."""

from __future__ import annotations

import os
import threading

import pytest

import mlfn
from mlfn.errors import OptionError
from mlfn.host.cores import usable_cores
from mlfn.host.gpus import visible_gpus


@mlfn.function
def environment(name: str) -> str | None:
    return os.environ.get(name)


@mlfn.function(gpus=1, kind=mlfn.Job(fresh=True))
def devices(gate: str) -> str:
    import pathlib
    import time

    while not pathlib.Path(gate).exists():
        time.sleep(0.01)
    return os.environ["CUDA_VISIBLE_DEVICES"]


def test_cpu_sets_the_thread_counts_of_numeric_libraries():
    two = environment.with_options(cpu=2)

    assert two.submit("OMP_NUM_THREADS").result(timeout=30) == "2"
    assert two.submit("OPENBLAS_NUM_THREADS").result(timeout=30) == "2"


def test_env_wins_over_the_thread_count():
    own = environment.with_options(cpu=2, env={"OMP_NUM_THREADS": "7", "MINE": "here"})

    assert own.submit("OMP_NUM_THREADS").result(timeout=30) == "7"
    assert own.submit("MINE").result(timeout=30) == "here"


def test_a_changed_environment_reaches_the_next_run(monkeypatch):
    assert environment.submit("LATER").result(timeout=30) is None

    monkeypatch.setenv("LATER", "now")

    assert environment.submit("LATER").result(timeout=30) == "now"


def test_runs_wait_for_free_gpus(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    gate = tmp_path / "open"
    runs = [devices.on("local", max_workers=3).submit(str(gate)) for _ in range(3)]
    running = threading.Event()
    while sum(run.state == "running" for run in runs) < 2:
        running.wait(0.01)
    assert [str(run.state) for run in runs].count("pending") == 1

    gate.touch()

    given = [run.result(timeout=30) for run in runs]
    assert {*given[:2]} == {"4", "6"}
    assert given[2] in ("4", "6")


def test_more_gpus_than_there_are_fail_at_once(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")

    with pytest.raises(OptionError, match=r"gpus=2: on='local' shows 1"):
        devices.with_options(gpus=2).on("local", max_workers=1).submit("").result(timeout=30)


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"cpu": 20_000}, r"cpu=20000: on='local' has \d+, of this machine"),
        ({"mem": "900Ti"}, r"mem=900Ti: on='local' has \d+\.\dGi"),
    ],
)
def test_more_than_the_machine_has_is_refused_before_anything_starts(wanted, says):
    with pytest.raises(OptionError, match=says):
        environment.with_options(**wanted).on("local").submit("HOME")
    with pytest.raises(OptionError, match=says):
        environment.with_options(**wanted).on("local").grid(name=["HOME"]).submit()

    assert list(mlfn.runs()) == []


def test_cores_may_be_given_out_twice_where_max_workers_says_so():
    run = environment.with_options(cpu=usable_cores() + 1).on("local", max_workers=usable_cores() + 1).submit("NOTHING")

    assert run.result(timeout=30) is None


def test_a_function_without_gpus_sees_none(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")

    assert environment.on("local", max_workers=2).submit("CUDA_VISIBLE_DEVICES").result(timeout=30) == ""


def test_the_variable_or_the_system_names_devices(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1, GPU-2")
    assert visible_gpus() == ["GPU-1", "GPU-2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert visible_gpus() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(os, "listdir", lambda _: ["nvidia1", "nvidia0", "nvidiactl", "null"])
    assert visible_gpus() == ["0", "1"]
