"""The options of the kind dask, and what of its engine needs no cluster."""

from __future__ import annotations

import json
import types
from typing import Any

import pytest

import mlfn
from mlfn.backends.places.base import Terminated
from mlfn.backends.places.dask import place as dask_place
from mlfn.backends.places.dask.connection import _by_value, _check_versions, _look
from mlfn.backends.places.dask.place import Batch, DaskPlace, Execution, Posted, TaskEnded, Unit, WorkerGone, cluster_of
from mlfn.errors import OptionError, PlaceError, SkewError
from mlfn.worker.task import Task


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"workers": 0}, r"Dask\(workers=0\): a whole number, 1 or more"),
        ({"threads": True}, r"Dask\(threads=True\): a whole number"),
        ({"mem": "much"}, r"Dask\(mem=...\)='much' is no size"),
        ({"adaptive": (3, 1)}, r"Dask\(adaptive=\(3, 1\)\): the fewest and the most"),
        ({"adaptive": 3}, r"Dask\(adaptive=3\): the fewest and the most"),
        ({"workers": 2, "adaptive": (1, 2)}, r"Dask\(workers=2, adaptive=\(1, 2\)\): give one of them"),
        ({"nanny": 1}, r"Dask\(nanny=1\): True or False"),
        ({"address": "10.0.0.1"}, r"Dask\(address='10.0.0.1'\): the address of a scheduler"),
        ({"address": "inproc://1"}, r"that other processes reach"),
        ({"address": object()}, r"Dask\(address='object'\)"),
        ({"address": "tcp://10.0.0.1:8786", "workers": 2}, r"the cluster there has its workers; leave workers=2 out"),
        ({"reuse": "Team"}, r"Dask\(reuse='Team'\): a name is allowed of small letters"),
        ({"reuse": "a" * 54}, "53 at most"),
        ({"idle_timeout": 60}, r"Dask\(idle_timeout=60\): a cluster that is not kept ends with its run"),
        ({"reuse": "team", "idle_timeout": "soon"}, r"Dask\(idle_timeout=...\)='soon' is no duration"),
        ({"address": "tcp://10.0.0.1:8786", "reuse": "team"}, "leave reuse='team' out"),
        ({"worker": 2}, r"Dask has no option 'worker' \(value 2\)"),
    ],
)
def test_a_misfitting_option_is_refused(options, said):
    with pytest.raises(OptionError, match=said):
        mlfn.Dask(**options)


def test_a_cluster_has_as_many_workers_as_cores():
    assert cluster_of({}, 3).workers == 3
    assert cluster_of({"workers": 2, "threads": 4, "mem": "1Gi"}, 3).width == 8


def test_an_adaptive_cluster_begins_small():
    found = cluster_of({"adaptive": [0, 5]}, 3)

    assert (found.workers, found.width) == (0, 5)


class Versions:
    """A client of which only the versions matter."""

    def __init__(self, **of_worker: str) -> None:
        here = {"distributed": "2026.8.0", "cloudpickle": "3.1.3"}
        python = of_worker.pop("python", "3.11.7.final.0")
        side = {"host": {"python": "3.11.7.final.0"}, "packages": here}
        worker = {"host": {"python": python}, "packages": {**here, **of_worker}}
        self._found = {"client": side, "scheduler": side, "workers": {"tcp://w": worker}}

    def get_versions(self) -> object:
        return self._found


def test_what_both_sides_need_is_compared():
    _check_versions(Versions(), "tcp://s")
    _check_versions(Versions(python="3.11.2.final.0"), "tcp://s")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"python": "3.12.1.final.0"}, r"its worker tcp://w has python 3.12, and here is python 3.11"),
        ({"distributed": "2025.1.0"}, r"has distributed 2025.1.0, and here is distributed 2026.8.0"),
        ({"cloudpickle": "2.0.0"}, r"has cloudpickle 2.0.0"),
    ],
)
def test_a_difference_names_both_sides(other, said):
    with pytest.raises(SkewError, match=said):
        _check_versions(Versions(**other), "tcp://s")


def test_what_looks_around_travels_as_code(tmp_path):
    import cloudpickle

    function = cloudpickle.loads(cloudpickle.dumps(_by_value(_look)))

    assert b"mlfn.backends" not in cloudpickle.dumps(_by_value(_look))
    assert function(str(tmp_path)) == (mlfn.__version__, True)
    assert function(str(tmp_path / "missing"))[1] is False


def test_a_scheduler_that_does_not_listen_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlfn.backends.kinds.dask._REACHED_SECONDS", 0.1)

    with pytest.raises(PlaceError, match=r"No scheduler answers at tcp://127.0.0.1:1: "):
        mlfn.Dask(address="tcp://127.0.0.1:1").activate(Task("a" * 32, 1, {})).__enter__()


def with_one_task() -> DaskPlace:
    """Return a place with one task, which has begun at a worker."""
    config: Any = types.SimpleNamespace(max_workers=1, grace=1.0)
    plan: Any = types.SimpleNamespace(hash="h", name="train")
    made = DaskPlace(config)
    made._connection = types.SimpleNamespace(is_alive=True)  # type: ignore[assignment]
    execution = Execution("e", plan, b"", None)
    unit = Unit(execution, Task("a" * 32, 1, {}), began=1.0)
    unit.batch = batch = Batch(execution, "key", [unit], worker="tcp://w")
    execution.units[unit.task.run] = unit
    execution.batches["key"] = made._batches["key"] = batch
    made._executions["e"] = execution
    return made


def ends(place: DaskPlace, *messages: Any) -> list[tuple[str, str]]:
    """Return how runs end when these messages come one after the other, and a look between them."""
    found = [report for message in messages for report in (*place._take(message), *place._look_at_all())]
    return [(str(report.reason), report.message) for report in found if isinstance(report, Terminated)]


FINISHED, RETIRED = TaskEnded("key", "finished", None), WorkerGone("tcp://w", is_expected=True)
INTERRUPTED = Posted(
    "tcp://w",
    "key",
    json.dumps([["a" * 32, 1, 1, [{"event": "finished", "run": "a" * 32, "state": "cancelled", "time": 2.0}]]]),
)


@pytest.mark.parametrize(
    "messages",
    [(FINISHED, RETIRED), (RETIRED, FINISHED), (INTERRUPTED, FINISHED, RETIRED), (INTERRUPTED, RETIRED, FINISHED)],
)
def test_a_worker_that_leaves_with_its_task_has_preempted_it(messages: tuple[Any, ...]) -> None:
    """It interrupts the function, whose task then returns, before or after the scheduler knows that the worker is gone."""
    assert ends(with_one_task(), *messages) == [("preempted", ": its worker (tcp://w) was retired.")]


def test_a_task_that_others_delete_says_so_however_its_function_ends() -> None:
    found = ends(with_one_task(), INTERRUPTED, TaskEnded("key", "cancelled", None))

    assert len(found) == 1 and found[0][0] == "lost" and "was deleted at the scheduler" in found[0][1]


def test_a_task_that_returns_without_an_outcome_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    place = with_one_task()
    assert ends(place, FINISHED) == []

    monkeypatch.setattr(dask_place, "_LEAVING", 0.0)
    assert ends(with_one_task(), FINISHED) == [("lost", ": its task ended without an outcome.")]
