from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlfn.dispatch.outbox import Outbox
from mlfn.errors import StorageError
from mlfn.spec.record import Outcome, RunState
from mlfn.store import open_store
from mlfn.store.changes import ChildStarted, Claimed, ExecutionCreated, Finished, Submitted
from mlfn.store.commands import Store
from mlfn.testing.store.base import point

SUCCEEDED = Outcome(RunState.SUCCEEDED, returns={"keys": ["return"]})
HUGE = 2**80  # a step that no column of whole numbers holds


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(None, tmp_path)
    yield store
    store.close()


@pytest.fixture
def outbox(store: Store) -> Outbox:
    return Outbox(store, "me", busy=lambda: (), replacement=lambda *_: None, usurped=lambda _: set())


def submitted(run: str) -> Submitted:
    return Submitted(run, "train", "fraud", "f", "p", "local", "me", {}, 1.0)


def claimed(run: str, execution: str | None = None) -> Claimed:
    return Claimed(run, "me", execution, 2.0)


def engaged(execution: str) -> ExecutionCreated:
    return ExecutionCreated(execution, "me", "local", "", {})


def fails_once(call: Callable[..., object]) -> Callable[..., object]:
    waiting = [StorageError("the disk is full")]

    def once(*args: object, **named: object) -> object:
        if waiting:
            raise waiting.pop()
        return call(*args, **named)

    return once


def test_nothing_is_recorded_and_nobody_told_before_the_flush(store, outbox):
    told: list[int] = []
    outbox.add(submitted("a"), told.append)
    assert outbox.has_pending
    assert (store.known_runs(["a"]), told) == (set(), [])
    outbox.flush()
    assert not outbox.has_pending
    assert (store.known_runs(["a"]), told) == ({"a"}, [1])


def test_each_is_told_its_own_answer_in_order_and_what_comes_afterwards_comes_last(outbox):
    told: list[tuple[str, int]] = []
    outbox.after_flush(lambda answer: told.append(("afterwards", answer)))
    outbox.add(submitted("a"), lambda answer: told.append(("submitted", answer)))
    outbox.add(claimed("a"), lambda answer: told.append(("claimed", answer)))
    outbox.add(claimed("b"), lambda answer: told.append(("unknown", answer)))
    outbox.flush()
    assert told == [("submitted", 1), ("claimed", 1), ("unknown", 0), ("afterwards", 0)]


def test_what_the_store_cannot_take_now_is_kept(store, outbox, monkeypatch):
    told: list[int] = []
    monkeypatch.setattr(store, "apply", fails_once(store.apply))
    outbox.add(submitted("a"), told.append)
    outbox.after_flush(told.append)
    with pytest.raises(StorageError):
        outbox.flush()
    assert outbox.has_pending
    assert told == []
    outbox.flush()
    assert told == [1, 0]


def test_an_action_that_meets_a_full_disk_is_done_again_and_those_after_it_wait(outbox):
    told: list[str] = []
    outbox.add(submitted("a"), fails_once(lambda _: told.append("a")))
    outbox.add(submitted("b"), lambda _: told.append("b"))
    with pytest.raises(StorageError):
        outbox.flush()
    assert told == []
    outbox.flush()
    assert told == ["a", "b"]


def test_an_action_that_fails_keeps_no_other_from_being_done(outbox, caplog):
    told: list[int] = []
    outbox.add(submitted("a"), lambda _: 1 / 0)
    outbox.add(submitted("b"), told.append)
    outbox.flush()
    assert told == [1]
    assert "a callback of a recorded change failed" in caplog.text


def test_what_no_store_can_take_holds_up_nothing_else(store, outbox, caplog):
    for run in ("a", "b"):
        outbox.add(submitted(run))
        outbox.add(claimed(run))
    outbox.flush()
    outbox.add(point("a", 1, "loss", HUGE, 0.5, 3.0))
    outbox.add(point("b", 1, "loss", 1, 0.5, 3.0))
    outbox.flush()
    outbox.flush()
    assert "the store cannot take" in caplog.text
    assert store.metric_names("a", 1) == []
    assert store.metric_names("b", 1) == ["loss"]


def test_another_change_may_stand_for_one_that_no_store_can_take(store):
    told: list[str] = []

    def instead(change: object, error: Exception) -> tuple[Finished, Callable[[int], None]]:
        return Finished("a", 1, SUCCEEDED, 3.0), lambda _: told.append(type(error).__name__)

    outbox = Outbox(store, "me", busy=lambda: (), replacement=instead, usurped=lambda _: set())
    outbox.add(submitted("a"))
    outbox.add(claimed("a"))
    outbox.add(point("a", 1, "loss", HUGE, 0.5, 3.0), lambda _: told.append("never"))
    outbox.flush()
    outbox.flush()
    assert store.get_run("a").state is RunState.SUCCEEDED
    assert told == ["OverflowError"]


def test_what_concerns_workers_that_another_client_reads_is_left_out(store):
    yielded: list[set[str]] = []
    told: list[str] = []

    def after_fork(gone):
        yielded.append(set(gone))
        outbox.after_flush(lambda _: told.append("left"))
        return {"a"}

    outbox = Outbox(store, "me", busy=lambda: ["taken", "silent"], replacement=lambda *_: None, usurped=after_fork)
    for run, worker in (("a", "taken"), ("b", "kept")):
        outbox.add(submitted(run))
        outbox.add(engaged(worker))
        outbox.add(claimed(run, worker))
    outbox.flush()
    assert store.adopt_execution("taken", client="other", former="me")

    outbox.add(engaged("new"))
    for run, worker in (("a", "taken"), ("b", "kept")):
        outbox.acknowledge(worker, "10")
        outbox.add(ChildStarted(f"{run}1", run, 1, {}, 2.5), execution=worker)
        outbox.add(Finished(run, 1, SUCCEEDED, 3.0))
    outbox.flush()
    assert outbox.has_pending
    outbox.flush()

    assert yielded == [{"taken", "silent"}]
    assert told == ["left"]
    assert store.get_run("a").state is RunState.RUNNING
    assert store.get_run("b").state is RunState.SUCCEEDED
    assert store.known_runs(["a1", "b1"]) == {"b1"}
    assert {row.id: row.cursor for row in store.executions("me")} == {"kept": "10", "new": None}
