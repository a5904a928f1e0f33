"""A dispatcher at a place whose executions are created for their runs alone; the test is the engine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlfn.artifacts.codec import Codec
from mlfn.artifacts.store import ArtifactStore
from mlfn.backends.places.base import (
    Capabilities,
    EventsReceived,
    OneShot,
    Report,
    Slot,
    StoredExecution,
    Terminated,
    Unavailable,
)
from mlfn.dispatch.dispatcher import Dispatcher
from mlfn.errors import OptionError
from mlfn.spec.call_shape import CallShape
from mlfn.spec.plan import Plan, Selected, memory_of_each
from mlfn.spec.record import Outcome, Reason, RunRecord, RunState
from mlfn.spec.values import Retry
from mlfn.store import open_store
from mlfn.store.changes import Adopted, Submitted
from mlfn.store.commands import Store
from mlfn.worker.task import Task

PLAN = Plan(
    "p", "f", "train", "default", Selected("job"), Selected("scripted"), "0", CallShape(), accepts=(), timeout=5.0
)


class ScriptedPlace(OneShot):
    CAPABILITIES = Capabilities(deadline="place")

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.started: list[Task] = []
        self.asked: list[int | None] = []  # bytes of memory, of each execution
        self.memory = 1 << 40
        self.removed: list[str] = []

    def reserve(
        self, plan: Plan, *, waiting: int, backlog: int, parallel: int | None, failures: int | None
    ) -> Slot | Unavailable:
        self.asked.append(plan.mem)
        return Slot(f"e{len(self.asked)}" if len(self.asked) > 1 else "e", {})

    def check_plan(self, plan: Plan) -> None:  # type: ignore[override]
        if (plan.mem or 0) > self.memory:
            raise OptionError(f"mem={plan.mem}: ask for less.")

    def start(self, execution: str, tasks: Sequence[Task]) -> None:
        self.started += tasks

    def attach(self, stored: StoredExecution) -> None: ...

    def collect(self, timeout: float) -> Sequence[Report]:
        found, self.reports = self.reports, []
        return found

    def wake(self) -> None: ...

    def stop(self, execution: str, run: str) -> None: ...

    def cleanup(self, execution: str) -> None:
        self.removed.append(execution)

    def close(self) -> Sequence[str]:
        return []

    def after_fork(self) -> None: ...


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store("", tmp_path)
    opened.add_function("f", project="default", name="train", spec="{}", time=1.0)
    opened.add_plan("p", function="f", body="{}")
    yield opened
    opened.close()


@pytest.fixture
def place() -> ScriptedPlace:
    return ScriptedPlace()


@pytest.fixture
def dispatcher(store: Store, place: ScriptedPlace, tmp_path: Path) -> Dispatcher:
    made = Dispatcher(
        store,
        place,
        name="scripted",
        target="",
        client="a",
        folder=tmp_path,
        resume_orphan=lambda _: None,
        codec=lambda _=None: Codec(b"k" * 32, ArtifactStore(tmp_path)),
    )
    made.run_by_turns()
    new = Submitted("r", "train", "default", "f", "p", "scripted", "a", {}, 1.0)
    made.submit([new], PLAN)
    made.turn()
    return made


def event(what: str, **facts: Any) -> dict[str, Any]:
    return {"event": what, "run": "r", "attempt": 1, "time": 2.0, **facts}


def unit_events(*events: dict[str, Any]) -> EventsReceived:
    return EventsReceived("e", events, "1", run="r", first=0)


SUCCEEDED = event("finished", **Outcome(RunState.SUCCEEDED, returns={"keys": []}).to_json())
CANCELLED = event("finished", **Outcome(RunState.CANCELLED).to_json())


def record(store: Store) -> RunRecord:
    return store.get_run("r")


def test_a_run_waits_claimed_until_it_starts(dispatcher: Dispatcher, place: ScriptedPlace, store: Store) -> None:
    assert [task.run for task in place.started] == ["r"]
    assert [row.id for row in store.executions("a")] == ["e"]


def test_the_row_stays_until_the_object_is_gone(dispatcher: Dispatcher, place: ScriptedPlace, store: Store) -> None:
    place.reports = [unit_events(event("started"), SUCCEEDED)]
    dispatcher.turn()
    assert (record(store).state, place.removed, len(store.executions())) == ("succeeded", ["e"], 1)

    place.reports = [Terminated("e", Reason.LOST, " is gone")]
    dispatcher.turn()

    assert store.executions() == []


def test_the_place_says_why_it_interrupted(dispatcher: Dispatcher, place: ScriptedPlace, store: Store) -> None:
    place.reports = [unit_events(event("started"), CANCELLED)]
    dispatcher.turn()
    assert record(store).state == "running"

    place.reports = [Terminated("e", Reason.TIMEOUT, " took too long", run="r", lines=2)]
    dispatcher.turn()

    assert (record(store).state, record(store).reason) == ("failed", "timeout")


@pytest.mark.parametrize(("deleted", "state"), [(True, "failed"), (False, "pending")])
def test_what_others_deleted_before_it_started_is_not_tried_again(
    dispatcher: Dispatcher, place: ScriptedPlace, store: Store, deleted: bool, state: str
) -> None:
    place.reports = [Terminated("e", Reason.LOST, " is gone", run="r", deleted=deleted)]

    dispatcher.turn()

    assert record(store).state == state


def test_an_end_waits_for_the_whole_journal(dispatcher: Dispatcher, place: ScriptedPlace, store: Store) -> None:
    place.reports = [Terminated("e", Reason.ERROR, " ended", run="r", lines=2)]
    dispatcher.turn()
    assert record(store).state != "failed"

    place.reports = [unit_events(event("started"), SUCCEEDED)]
    dispatcher.turn()

    assert record(store).state == "succeeded"


@pytest.fixture
def greedy(store: Store, place: ScriptedPlace, dispatcher: Dispatcher) -> Plan:
    """Have a run of memory 100 run out of it; the next attempt is asked for at once."""
    plan = replace(PLAN, hash="q", mem=100, retry=Retry(3, delay=0, on=["oom"], mem="x2"))
    store.add_plan("q", function="f", body=json.dumps({"retry": {"times": 3, "mem": "x2"}}))
    dispatcher.submit([Submitted("s", "train", "default", "f", "q", "scripted", "a", {}, 1.0)], plan)
    dispatcher.turn()
    run_out(dispatcher, place, "e2")
    return plan


def run_out(dispatcher: Dispatcher, place: ScriptedPlace, execution: str) -> None:
    place.reports = [Terminated(execution, Reason.OOM, " took more memory", run="s")]
    dispatcher.turn()
    dispatcher.turn()


def test_an_attempt_after_one_that_ran_out_of_memory_asks_for_more(
    greedy: Plan, dispatcher: Dispatcher, place: ScriptedPlace, store: Store
) -> None:
    run_out(dispatcher, place, "e3")

    assert place.asked == [None, 100, 200, 400]
    assert store.get_run("s").plan == "q", "the run is one of its version all the same"
    assert memory_of_each(greedy, store.attempts("s")) == {1: 100, 2: 200, 3: 400}


def test_a_client_that_takes_over_goes_on_with_the_memory(
    greedy: Plan, dispatcher: Dispatcher, place: ScriptedPlace, store: Store
) -> None:
    place.reports = [Terminated("e3", Reason.PREEMPTED, " was taken away", run="s")]
    dispatcher.turn()
    store.apply([Adopted("s", "a", "a", 3.0)])

    dispatcher.resume(replace(store.get_run("s"), not_before=0.0), greedy)
    dispatcher.turn()
    dispatcher.turn()

    assert place.asked == [None, 100, 200, 200]


def test_more_memory_than_there_is_ends_the_run_as_it_ran_out(
    greedy: Plan, dispatcher: Dispatcher, place: ScriptedPlace, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    place.memory = 300

    run_out(dispatcher, place, "e3")

    assert (store.get_run("s").state, store.get_run("s").reason) == ("failed", "oom")
    assert "is not tried again with more memory: mem=400: ask for less." in caplog.text


def test_late_doubled_and_replayed_lines_count_once(dispatcher: Dispatcher, place: ScriptedPlace, store: Store) -> None:
    lines = [event("started"), *(event("metrics", first=n, points=[["loss", n, n / 8, 2.0]]) for n in range(3))]
    place.reports = [
        EventsReceived("e", tuple(lines[2:]), "1", run="r", first=2),
        EventsReceived("e", tuple(lines[:2]), "1", run="r", first=0),
        EventsReceived("e", tuple(lines), "1", run="r", first=0),
        EventsReceived("e", (SUCCEEDED,), "1", run="r", first=4),
    ]

    dispatcher.turn()

    assert record(store).state == "succeeded"
    assert [value for _, value, _ in store.series("r", 1, "loss")] == [0.0, 0.125, 0.25]


@pytest.mark.parametrize(
    "report",
    [unit_events(event("started"), SUCCEEDED), Terminated("e", Reason.PREEMPTED, " was evicted", run="r")],
    ids=["events", "termination"],
)
def test_a_usurped_client_records_and_removes_nothing(
    dispatcher: Dispatcher, place: ScriptedPlace, store: Store, report: Report
) -> None:
    store.apply([Adopted("r", "b", "a", 2.0, "e")])

    place.reports = [report]
    dispatcher.turn()
    dispatcher.turn()
    place.reports = [Terminated("e", Reason.LOST, " is gone")]
    dispatcher.turn()

    assert (record(store).owner, record(store).is_claimed, record(store).attempt) == ("b", True, 1)
    assert [row.client for row in store.executions()] == ["b"]
    assert place.removed == []


def test_a_client_records_what_it_has_adopted_back(dispatcher: Dispatcher, place: ScriptedPlace, store: Store) -> None:
    store.apply([Adopted("r", "b", "a", 2.0, "e")])
    place.reports = [Terminated("e", Reason.PREEMPTED, " was evicted", run="r")]
    dispatcher.turn()
    dispatcher.turn()
    store.apply([Adopted("r", "a", "b", 3.0, "e")])

    dispatcher.adopt(store.executions("a")[0], [(record(store), PLAN)])
    dispatcher.turn()
    place.reports = [unit_events(event("started"), SUCCEEDED)]
    dispatcher.turn()

    assert record(store).state == "succeeded"
