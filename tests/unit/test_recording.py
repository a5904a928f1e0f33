from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlfn.errors import StorageError
from mlfn.identity import identify
from mlfn.recording import Recording
from mlfn.spec.record import Outcome, RunState
from mlfn.store import open_store
from mlfn.store.changes import ChildBegun, Claimed, Engaged, Finished, MetricLogged, Submitted
from mlfn.store.sql import SqlStore

SUCCEEDED = Outcome(RunState.SUCCEEDED, returns={"keys": ["return"]})
HUGE = 2**80  # a step that no column of whole numbers holds


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = open_store(None, tmp_path)
    yield store
    store.session.close()


@pytest.fixture
def recording(store: SqlStore) -> Recording:
    return Recording(store, "me", held=lambda: (), instead=lambda *_: None, yielded=lambda _: set())


def submitted(run: str) -> Submitted:
    return Submitted(run, "train", "fraud", "f", "p", "local", "me", {}, 1.0)


def claimed(run: str, worker: str | None = None) -> Claimed:
    return Claimed(run, "me", worker, None, 2.0)


def engaged(worker: str) -> Engaged:
    return Engaged(worker, "me", identify(1), "/folder")


def fails_once(call: Callable[..., object]) -> Callable[..., object]:
    waiting = [StorageError("the disk is full")]

    def once(*args: object, **named: object) -> object:
        if waiting:
            raise waiting.pop()
        return call(*args, **named)

    return once


def test_nothing_is_recorded_and_nobody_told_before_the_flush(store, recording):
    told: list[int] = []
    recording.add(submitted("a"), told.append)
    assert recording.is_behind
    assert (store.known_runs(["a"]), told) == (set(), [])
    recording.flush()
    assert not recording.is_behind
    assert (store.known_runs(["a"]), told) == ({"a"}, [1])


def test_each_is_told_its_own_answer_in_order_and_what_comes_afterwards_comes_last(recording):
    told: list[tuple[str, int]] = []
    recording.afterwards(lambda answer: told.append(("afterwards", answer)))
    recording.add(submitted("a"), lambda answer: told.append(("submitted", answer)))
    recording.add(claimed("a"), lambda answer: told.append(("claimed", answer)))
    recording.add(claimed("b"), lambda answer: told.append(("unknown", answer)))
    recording.flush()
    assert told == [("submitted", 1), ("claimed", 1), ("unknown", 0), ("afterwards", 0)]


def test_what_the_store_cannot_take_now_is_kept(store, recording, monkeypatch):
    told: list[int] = []
    monkeypatch.setattr(store, "apply", fails_once(store.apply))
    recording.add(submitted("a"), told.append)
    recording.afterwards(told.append)
    with pytest.raises(StorageError):
        recording.flush()
    assert recording.is_behind
    assert told == []
    recording.flush()
    assert told == [1, 0]


def test_an_action_that_meets_a_full_disk_is_done_again_and_those_after_it_wait(recording):
    told: list[str] = []
    recording.add(submitted("a"), fails_once(lambda _: told.append("a")))
    recording.add(submitted("b"), lambda _: told.append("b"))
    with pytest.raises(StorageError):
        recording.flush()
    assert told == []
    recording.flush()
    assert told == ["a", "b"]


def test_an_action_that_fails_keeps_no_other_from_being_done(recording, caplog):
    told: list[int] = []
    recording.add(submitted("a"), lambda _: 1 / 0)
    recording.add(submitted("b"), told.append)
    recording.flush()
    assert told == [1]
    assert "could not be acted on" in caplog.text


def test_what_no_store_can_take_holds_up_nothing_else(store, recording, caplog):
    for run in ("a", "b"):
        recording.add(submitted(run))
        recording.add(claimed(run))
    recording.flush()
    recording.add(MetricLogged("a", 1, "loss", HUGE, 0.5, 3.0))
    recording.add(MetricLogged("b", 1, "loss", 1, 0.5, 3.0))
    recording.flush()
    recording.flush()
    assert "the store cannot take" in caplog.text
    assert store.metric_names("a", 1) == []
    assert store.metric_names("b", 1) == ["loss"]


def test_another_change_may_stand_for_one_that_no_store_can_take(store):
    told: list[str] = []

    def instead(change: object, error: Exception) -> tuple[Finished, Callable[[int], None]]:
        return Finished("a", 1, SUCCEEDED, 3.0), lambda _: told.append(type(error).__name__)

    recording = Recording(store, "me", held=lambda: (), instead=instead, yielded=lambda _: set())
    recording.add(submitted("a"))
    recording.add(claimed("a"))
    recording.add(MetricLogged("a", 1, "loss", HUGE, 0.5, 3.0), lambda _: told.append("never"))
    recording.flush()
    recording.flush()
    assert store.get_run("a").state is RunState.SUCCEEDED
    assert told == ["OverflowError"]


def test_what_concerns_workers_that_another_client_reads_is_left_out(store):
    yielded: list[set[str]] = []
    told: list[str] = []

    def let_go(gone):
        yielded.append(set(gone))
        recording.afterwards(lambda _: told.append("left"))
        return {"a"}

    recording = Recording(store, "me", held=lambda: ["taken", "silent"], instead=lambda *_: None, yielded=let_go)
    for run, worker in (("a", "taken"), ("b", "kept")):
        recording.add(submitted(run))
        recording.add(engaged(worker))
        recording.add(claimed(run, worker))
    recording.flush()
    assert store.take_worker("taken", client="other", former="me")

    recording.add(engaged("new"))
    for run, worker in (("a", "taken"), ("b", "kept")):
        recording.read(worker, 10)
        recording.add(ChildBegun(f"{run}1", run, 1, {}, 2.5), said_by=worker)
        recording.add(Finished(run, 1, SUCCEEDED, 3.0))
    recording.flush()
    assert recording.is_behind
    recording.flush()

    assert yielded == [{"taken", "silent"}]
    assert told == ["left"]
    assert store.get_run("a").state is RunState.RUNNING
    assert store.get_run("b").state is RunState.SUCCEEDED
    assert store.known_runs(["a1", "b1"]) == {"b1"}
    assert {row.id: row.consumed for row in store.workers("me")} == {"kept": 10, "new": 0}
