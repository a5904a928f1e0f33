"""What every store must do, by whichever engine: fences, batches, listings, refusals."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mlfn.errors import NotFoundError, SettingsError, StorageError, StoreCorruptError, StoreError, StoreVersionError
from mlfn.identity import identify
from mlfn.spec.record import TRANSITIONS, Outcome, Output, Reason, RemoteFailure, RunState
from mlfn.store import damage, open_store, rows
from mlfn.store.changes import (
    NAMES,
    Adopted,
    BestMarked,
    CancelRequested,
    ChildBegun,
    Claimed,
    Engaged,
    Finished,
    MetricLogged,
    OutputLogged,
    Progressed,
    Requeued,
    Reused,
    Started,
    Submitted,
    SweepClosed,
    SweepSubmitted,
    TakenBack,
    Withdrawn,
)
from mlfn.store.reading import RunFilter
from mlfn.store.sql import SqlStore, UsurpedError
from tests.ledger import ROOT

SUCCEEDED = Outcome(RunState.SUCCEEDED, returns={"keys": ["return"]})
CANCELLED = Outcome(RunState.CANCELLED)
FAILED = Outcome(
    RunState.FAILED, Reason.ERROR, RemoteFailure("builtins.ValueError", "no", "trace", ("builtins.ValueError",))
)


def submitted(run: str, **changed: object) -> Submitted:
    values = {
        "run": run,
        "name": "train",
        "project": "fraud",
        "function": "f" * 64,
        "plan": "p" * 64,
        "place": "local",
        "owner": "me",
        "params": {"n": {"packer": "json", "inline": 1}},
        "time": 1.0,
        **changed,
    }
    return Submitted(**values)  # type: ignore[arg-type]


def claimed(run: str, owner: str = "me", worker: str | None = None) -> Claimed:
    return Claimed(run, owner, worker, "/log", 2.0)


def output(key: str, inline: object = None, **changed: object) -> Output:
    return Output(key, "result", "json", "int", inline=inline, **changed)  # type: ignore[arg-type]


class StoreContract:
    """Subclass it, and let `url` be a fixture that gives an empty store's URL."""

    @pytest.fixture
    def store(self, url: str, tmp_path: Path):
        store = open_store(url, tmp_path / "data")
        yield store
        store.session.close()

    @pytest.fixture
    def another(self, url: str, tmp_path: Path):
        """A second connection to the same store."""
        store = open_store(url, tmp_path / "data")
        yield store
        store.session.close()

    @pytest.fixture
    def running(self, store: SqlStore) -> str:
        assert store.apply([submitted("a"), claimed("a")]) == [1, 1]
        return "a"

    def state(self, store: SqlStore, run: str = "a") -> str:
        return str(store.get_run(run).state)

    def events(self, store: SqlStore, run: str = "a") -> list[str]:
        return [what for _, _, what, _ in store.events(run)]

    # -- sweeps ----------------------------------------------------------------------------------------------------

    def sweep(self, run: str = "s", name: str | None = "nightly", **changed: object) -> SweepSubmitted:
        return SweepSubmitted(submitted(run, **changed), name, {"strategy": {"kind": "grid"}})

    def child(self, iteration: int, *, driver: int | None = 1, **changed: object) -> Submitted:
        values = {"parent": "s", "iteration": iteration, "driver": driver, "point": {"n": iteration}, **changed}
        return submitted(f"c{iteration}", **values)

    def test_a_sweep_keeps_its_description_and_its_children_their_numbers(self, store):
        assert store.apply([self.sweep(), claimed("s"), self.child(2), self.child(1)]) == [1, 1, 1, 1]

        assert store.get_run("s").sweep
        assert store.sweep_body("s") == {"strategy": {"kind": "grid"}}
        assert [(row.run, row.iteration, row.point) for row in store.children("s")] == [
            ("c1", 1, {"n": 1}),
            ("c2", 2, {"n": 2}),
        ]
        assert (store.get_run("c2").iteration, store.get_run("c2").parent) == (2, "s")
        assert store.child_counts("s") == {RunState.PENDING: 2}

    def test_one_name_has_one_sweep_at_a_time(self, store):
        assert store.apply([self.sweep(), claimed("s")]) == [1, 1]
        assert store.apply([self.sweep("t"), claimed("t")]) == [0, 0]
        assert store.apply([self.sweep("u", project="other")]) == [1]

        store.apply([Finished("s", 1, SUCCEEDED, 3.0), SweepClosed("s")])

        assert store.apply([self.sweep("v")]) == [1]
        assert store.find_sweep("fraud", "nightly") == "v"
        assert store.find_sweep("fraud", "weekly") is None

    def test_a_sweep_that_runs_keeps_its_name(self, store):
        store.apply([self.sweep(), claimed("s")])

        assert store.apply([SweepClosed("s"), self.sweep("t")]) == [0, 0]

    def test_a_driver_that_was_replaced_adds_no_children(self, store):
        store.apply([self.sweep(), claimed("s"), self.child(1)])
        store.apply([Requeued("s", 1, Reason.LOST, None, 3.0, 3.0, counts=False), claimed("s")])

        assert store.apply([self.child(2, driver=1)]) == [0]
        assert store.apply([self.child(2, driver=2)]) == [1]

    def test_who_claims_a_sweep_may_change_its_description_and_nobody_else(self, store):
        store.apply([self.sweep(), claimed("s")])
        changed = {"strategy": {"kind": "grid"}, "parallel": 4}

        assert store.apply([Claimed("s", "me", None, None, 2.0, body=changed)]) == [0]
        assert store.sweep_body("s") == {"strategy": {"kind": "grid"}}
        store.apply([Requeued("s", 1, Reason.LOST, None, 3.0, 3.0, counts=False)])
        assert store.apply([Claimed("s", "you", None, None, 3.5, body=changed)]) == [0]
        assert store.sweep_body("s") == {"strategy": {"kind": "grid"}}

        assert store.apply([Claimed("s", "me", None, None, 4.0, body=changed), claimed("s")]) == [2, 0]
        assert store.sweep_body("s") == changed

    def test_a_number_is_given_once(self, store):
        store.apply([self.sweep(), claimed("s"), self.child(1)])

        assert store.apply([submitted("other", parent="s", iteration=1, driver=1)]) == [0]
        assert store.apply([submitted("x", parent="s"), submitted("y", parent="s")]) == [1, 1]

    def test_a_page_of_a_sweeps_children_is_read_without_the_others(self, store):
        store.apply([self.sweep(), claimed("s"), *(self.child(number) for number in range(1, 8))])
        for number, value in ((1, 0.5), (2, math.inf), (3, 0.9), (4, 0.9), (5, 0.1)):
            run = f"c{number}"
            outcome = Outcome(RunState.SUCCEEDED, outputs=(output("score", value),))
            store.apply([claimed(run), Finished(run, 1, outcome, 10.0 - number)])
        store.apply([claimed("c6"), submitted("apart"), claimed("apart")])

        assert store.best_children("s", "score", highest=True, limit=3) == [3, 4, 1]
        assert store.best_children("s", "score", highest=False, limit=2) == [5, 1]
        assert store.best_children("s", "other", highest=True, limit=2) == []
        assert store.values_as_ended("s", "score") == [0.1, 0.9, 0.9, math.inf, 0.5]
        assert [row.run for row in store.children_at("s", [5, 1, 99])] == ["c5", "c1"]
        assert store.children_at("s", []) == []
        assert [row.iteration for row in store.children("s", states=(RunState.SUCCEEDED,), last=2)] == [4, 5]
        owner = store.get_run("c6").owner
        assert [row.run for row in store.children_at_work("s", owner, limit=5)[1]] == ["c6"]
        assert store.children_at_work("s", owner, limit=0) == (1, [])
        assert store.children_at_work("s", "nobody", limit=5) == (0, [])

    def test_a_finished_run_is_found_again_and_its_outcome_copied(self, store):
        outcome = Outcome(RunState.SUCCEEDED, None, None, {"keys": ["n"]}, (output("n", 5),))
        store.apply([submitted("a", memo="m"), claimed("a"), MetricLogged("a", 1, "loss", 0, 0.5, 2.5)])
        assert store.find_finished("f" * 64, "m") is None
        store.apply([Finished("a", 1, outcome, 3.0)])
        assert store.find_finished("f" * 64, "m") == "a"
        assert store.find_finished("g" * 64, "m") is None

        assert store.apply([submitted("b", memo="m"), Reused("b", "a", 4.0)]) == [1, 1]

        record = store.get_run("b")
        assert (record.state, record.reused, record.returns) == (RunState.SUCCEEDED, "a", {"keys": ["n"]})
        assert [item.inline for item in store.outputs("b", record.attempt)] == [5]
        assert store.scores("b") == {"n": 5.0, "loss": 0.5}
        assert store.series("b", 1, "loss") == [(0, 0.5, 2.5)]
        assert store.find_finished("f" * 64, "m") == "a"
        assert self.events(store, "b") == ["submitted", "reused"]

    def test_nothing_is_copied_from_a_run_that_did_not_succeed(self, store):
        store.apply([submitted("a"), claimed("a"), Finished("a", 1, FAILED, 3.0), submitted("b")])

        assert store.apply([Reused("b", "a", 4.0), Reused("b", "nowhere", 4.0)]) == [0, 0]
        assert self.state(store, "b") == "pending"

    def test_metrics_of_many_children_are_read_at_once(self, store):
        store.apply([self.sweep(), claimed("s")])
        for number in (1, 2, 3):
            store.apply([self.child(number), claimed(f"c{number}")])
        logged = [("c1", 0, 3.0), ("c1", 1, 1.0), ("c1", 2, 2.0), ("c2", 0, 5.0), ("c2", 1, math.nan)]
        store.apply([MetricLogged(run, 1, "loss", step, value, 3.0 + step) for run, step, value in logged])
        store.apply([OutputLogged("c1", 1, Output("mem", "constraint", "json", "float", inline=-0.5))])
        children = ["c1", "c2", "c3"]

        assert store.family_scores("s") == store.scores_among(children) == {"c1": {"loss": 2.0, "mem": -0.5}}
        assert store.extremes_among(children, "loss") == {"c1": (1.0, 3.0), "c2": (5.0, 5.0)}
        assert store.series_among(children, "loss")["c1"] == [(0, 3.0), (1, 1.0), (2, 2.0)]
        assert math.isnan(store.series_among(children, "loss")["c2"][-1][1])
        assert store.constraints_among(children) == {"c1": {"mem": -0.5}}

    def test_runs_on_top_are_those_without_a_parent(self, store):
        store.apply([self.sweep(), claimed("s"), self.child(1)])

        assert [record.id for record in store.list_runs(RunFilter(on_top=True), limit=9)] == ["s"]
        assert [record.id for record in store.list_runs(RunFilter(parent="s"), limit=9)] == ["c1"]

    # -- children that a handler opens -----------------------------------------------------------------------------

    def begun(self, run: str, parent: str = "a", attempt: int = 1, **changed: object) -> ChildBegun:
        params = {"n": {"packer": "json", "inline": 1}}
        return ChildBegun(run, parent, attempt, params, 2.5, **changed)  # type: ignore[arg-type]

    def test_a_child_is_a_run_like_its_parent_that_runs_at_once(self, store):
        store.apply([submitted("a", labels={"x": "y"}), claimed("a", worker="w")])

        assert store.apply([self.begun("b"), self.begun("c"), self.begun("d", "c")]) == [1, 1, 1]

        record = store.get_run("c")
        assert (record.state, record.attempt, record.iteration, record.parent, record.part_of) == (
            RunState.RUNNING, 1, 2, "a", "a",
        )  # fmt: skip
        assert (record.name, record.owner, record.worker, record.started) == ("train", "me", "w", 2.5)
        assert record.params == record.point == {"n": {"packer": "json", "inline": 1}}
        assert (store.get_run("d").parent, store.get_run("d").part_of, store.get_run("d").iteration) == ("c", "a", 1)
        assert [row.run for row in store.children("a")] == ["b", "c"] and store.last_child("a") == 2
        assert self.ids(store.list_runs(RunFilter(labels={"x": "y"}), limit=9)) == "dcba"
        assert self.ids(store.unfinished("me")) == "a"
        assert [(a.attempt, a.worker, a.state) for a in store.attempts("c")] == [(1, "w", "running")]
        assert self.events(store, "c") == ["submitted", "claimed"]

    def test_a_child_is_opened_within_the_attempt_that_runs_alone(self, store, running):
        assert store.apply([self.begun("b", attempt=2), self.begun("b", attempt=0), self.begun("b", "x")]) == [0] * 3
        store.apply([Requeued("a", 1, Reason.ERROR, None, 9.0, 3.0)])
        assert store.apply([self.begun("b")]) == [0]
        store.apply([claimed("a"), self.begun("b", attempt=2), Finished("b", 1, SUCCEEDED, 3.0)])
        assert store.apply([self.begun("c", "b")]) == [0]
        store.apply([Finished("a", 2, SUCCEEDED, 3.0)])
        assert store.apply([self.begun("d", attempt=2)]) == [0]

    @pytest.mark.parametrize(
        ("end", "state", "reason"),
        [
            (SUCCEEDED, "failed", "lost"),
            (FAILED, "failed", "lost"),
            (Outcome(RunState.FAILED, Reason.TIMEOUT), "failed", "timeout"),
            (Outcome(RunState.PRUNED), "failed", "lost"),
            (CANCELLED, "cancelled", None),
        ],
    )
    def test_with_an_attempt_all_that_is_open_within_it_ends(self, store, running, end, state, reason):
        store.apply([self.begun("b"), self.begun("c", "b"), self.begun("d", "c"), self.begun("e")])
        store.apply([Finished("e", 1, SUCCEEDED, 3.0), submitted("f", parent="a"), Finished("a", 1, end, 4.0)])

        for run in "bcd":
            record = store.get_run(run)
            assert (record.state, record.reason, record.ended) == (state, reason, 4.0)
            assert self.events(store, run) == ["submitted", "claimed", state]
            assert [a.state for a in store.attempts(run)] == [state]
        assert (self.state(store, "e"), self.state(store, "f")) == ("succeeded", "pending")

    def test_an_attempt_that_is_tried_again_ends_its_children_and_the_numbers_go_on(self, store, running):
        store.apply([self.begun("b"), self.begun("c"), Finished("b", 1, SUCCEEDED, 3.0), BestMarked("b", "a", 1)])
        store.apply([Requeued("a", 1, Reason.LOST, None, 9.0, 4.0), claimed("a"), self.begun("d", attempt=2)])

        assert [(row.run, row.iteration, row.state) for row in store.children("a")] == [
            ("b", 1, "succeeded"), ("c", 2, "failed"), ("d", 3, "running"),
        ]  # fmt: skip
        assert store.get_run("c").reason is Reason.LOST
        assert store.apply([Finished("c", 1, SUCCEEDED, 5.0), MetricLogged("c", 1, "loss", 1, 0.5, 3.0)]) == [0, 0]
        store.apply([Finished("a", 2, SUCCEEDED, 6.0)])
        assert store.outputs("a", 2) == [], "what an earlier attempt took for the best is none of this one's"

    def test_the_best_childs_outputs_are_its_parents(self, store, running):
        store.apply([self.begun("b"), self.begun("c"), self.begun("d")])
        for run, value in (("b", 5), ("c", 7)):
            store.apply([OutputLogged(run, 1, output("n", value)), OutputLogged(run, 1, output("own", value))])
        store.apply([MetricLogged("c", 1, "loss", 1, 0.5, 3.0), OutputLogged("c", 1, output("text", "x"))])
        store.apply([OutputLogged("a", 1, output("own", 1)), Finished("c", 1, SUCCEEDED, 3.0)])
        marks = [BestMarked("c", "a", 1), BestMarked("b", "a", 1), BestMarked("c", "a", 2), BestMarked("c", "d", 1)]

        assert store.apply(marks) == [1, 0, 0, 0]
        store.apply([Finished("a", 1, Outcome(RunState.SUCCEEDED, outputs=(output("r", 2),)), 4.0)])

        found = {item.key: item.inline for item in store.outputs("a", 1)}
        assert found == {"best_iteration": 2, "n": 7, "own": 1, "r": 2, "text": "x"}
        assert store.scores("a") == {"best_iteration": 2.0, "n": 7.0, "own": 1.0, "r": 2.0}
        assert store.apply([BestMarked("b", "a", 1)]) == [0]

    def test_the_last_one_marked_counts(self, store, running):
        for run in "bc":
            store.apply([self.begun(run), OutputLogged(run, 1, output(run, 1)), Finished(run, 1, SUCCEEDED, 3.0)])
            store.apply([BestMarked(run, "a", 1)])
        store.apply([Finished("a", 1, FAILED, 4.0)])

        assert {item.key: item.inline for item in store.outputs("a", 1)} == {"best_iteration": 2, "c": 1}

    def test_children_go_where_their_run_goes(self, store):
        store.apply([self.engaged(), submitted("a"), claimed("a", worker="w"), self.begun("b"), self.begun("c", "b")])
        store.apply([Finished("c", 1, SUCCEEDED, 3.0), Adopted("a", "you", "me", 4.0, "w")])

        assert [store.get_run(run).owner for run in "abc"] == ["you", "you", "me"]
        assert self.ids(store.unfinished("you")) == "a"

    def test_a_child_that_is_heard_of_again_is_the_same(self, store):
        store.apply([self.engaged(), submitted("a"), claimed("a", worker="w")])
        batch = [
            self.begun("b"),
            MetricLogged("b", 1, "loss", 1, 0.5, 3.0),
            Finished("b", 1, SUCCEEDED, 3.0),
            BestMarked("b", "a", 1),
        ]
        for _ in range(2):
            store.apply(batch, consumed={"w": 10}, client="me")

        assert store.last_child("a") == 1 and store.series("b", 1, "loss") == [(1, 0.5, 3.0)]
        assert self.events(store, "b") == ["submitted", "claimed", "succeeded"]

    # -- one run ---------------------------------------------------------------------------------------------------

    def test_a_submitted_run_comes_back_as_it_was_given(self, store):
        params = {"text": {"packer": "json", "inline": "ä\u0000\U0001f600 ' ? %s"}}
        store.apply([submitted("a", params=params, labels={"team": "risk", "ä ?": "%"}, parent="p")])

        record = store.get_run("a")

        assert record.state is RunState.PENDING
        assert record.params == params
        assert record.labels == {"team": "risk", "ä ?": "%"}
        assert (record.attempt, record.owner, record.parent, record.created) == (0, "me", "p", 1.0)
        assert self.events(store) == ["submitted"]

    def test_the_same_run_submitted_twice_is_one_run(self, store):
        assert store.apply([submitted("a")]) == [1]
        assert store.apply([submitted("a", name="other", labels={"x": "y"})]) == [0]

        assert store.get_run("a").name == "train"
        assert self.events(store) == ["submitted"]
        assert store.list_runs(RunFilter(labels={"x": "y"}), limit=9) == []

    def test_a_run_goes_through_all_of_its_life(self, store):
        store.apply([submitted("a"), claimed("a", worker="w"), Started("a", 1, 3.0)])
        store.apply([Progressed("a", 1, {"done": 1, "total": 2, "text": ""})])
        store.apply(
            [Finished("a", 1, Outcome(RunState.SUCCEEDED, None, None, {"keys": ["n"]}, (output("n", 5),)), 4.0)]
        )

        record = store.get_run("a")
        [attempt] = store.attempts("a")

        assert (record.state, record.started, record.ended, record.returns) == ("succeeded", 2.0, 4.0, {"keys": ["n"]})
        assert record.progress == {"done": 1, "total": 2, "text": ""}
        assert (attempt.attempt, attempt.worker, attempt.started, attempt.ended, attempt.state) == (
            1,
            "w",
            3.0,
            4.0,
            "succeeded",
        )
        assert attempt.log == "/log"
        assert store.outputs("a", 1) == [output("n", 5)]
        assert self.events(store) == ["submitted", "claimed", "succeeded"]

    def test_a_failure_comes_back_whole(self, store, running):
        failure = RemoteFailure("a.B", "", "", ("a.B", "builtins.Exception"), "cGlja2xl", 0, 9)
        store.apply([Finished("a", 1, Outcome(RunState.FAILED, Reason.OOM, failure), 3.0)])

        assert store.get_run("a").failure == failure
        assert store.get_run("a").reason is Reason.OOM

    # -- fences ----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("attempt", [0, 2])
    def test_another_attempt_than_the_one_that_runs_changes_nothing(self, store, running, attempt):
        answers = store.apply(
            [
                Finished("a", attempt, SUCCEEDED, 3.0),
                Requeued("a", attempt, Reason.ERROR, None, 9.0, 3.0),
                MetricLogged("a", attempt, "loss", 1, 0.5, 3.0),
                OutputLogged("a", attempt, output("n", 5)),
                Progressed("a", attempt, {"done": 1}),
                TakenBack("a", attempt),
            ]
        )

        assert answers == [0] * 6
        assert self.state(store) == "running"
        assert (store.scores("a"), store.outputs("a", attempt), store.get_run("a").progress) == ({}, [], None)

    def test_each_attempt_keeps_what_it_failed_with(self, store, running):
        first = RemoteFailure("builtins.KeyError", "gone\nand more " * 400, "trace")
        store.apply([Requeued("a", 1, Reason.ERROR, first, 0.0, 3.0), claimed("a"), Finished("a", 2, FAILED, 5.0)])
        store.apply([submitted("b"), claimed("b"), Finished("b", 1, SUCCEEDED, 5.0)])

        assert [attempt.failure for attempt in store.attempts("a")] == ["KeyError: gone", "ValueError: no"]
        assert [attempt.failure for attempt in store.attempts("b")] == [None]

    @pytest.mark.parametrize("end", [SUCCEEDED, FAILED, CANCELLED, Outcome(RunState.PRUNED)])
    def test_a_terminal_state_is_left_by_nothing(self, store, running, end):
        store.apply([Finished("a", 1, end, 3.0)])
        before = (store.get_run("a"), store.events("a"), store.attempts("a"))

        answers = store.apply(
            [
                submitted("a"),
                claimed("a"),
                Finished("a", 1, FAILED, 4.0),
                Requeued("a", 1, Reason.ERROR, None, 9.0, 4.0),
                Withdrawn("a", CANCELLED, 4.0),
                CancelRequested("a", 4.0),
                Adopted("a", "you", "me", 4.0),
                MetricLogged("a", 1, "loss", 1, 0.5, 4.0),
                OutputLogged("a", 1, output("n", 5)),
                Progressed("a", 1, {"done": 1}),
                TakenBack("a", 1),
            ]
        )

        assert answers == [0] * 11
        assert (store.get_run("a"), store.events("a"), store.attempts("a")) == before
        assert store.scores("a") == {}

    def test_a_stranger_cannot_claim(self, store):
        assert store.apply([submitted("a"), claimed("a", owner="you")]) == [1, 0]
        assert self.state(store) == "pending"

    def test_what_is_to_be_cancelled_is_not_claimed(self, store):
        assert store.apply([submitted("a"), CancelRequested("a", 1.0), claimed("a")]) == [1, 1, 0]
        assert store.cancel_requests("me") == ["a"]
        assert store.apply([CancelRequested("a", 2.0)]) == [0]

    def test_of_two_claims_one_wins(self, store, another):
        store.apply([submitted("a")])
        answers: list[int] = []
        claims = [
            threading.Thread(target=lambda s=s: answers.extend(s.apply([claimed("a")]))) for s in (store, another)
        ]
        for thread in claims:
            thread.start()
        for thread in claims:
            thread.join()

        assert sorted(answers) == [0, 1]
        assert len(store.attempts("a")) == 1

    def test_an_unknown_run_takes_nothing(self, store):
        changes = [
            claimed("x"),
            Finished("x", 1, SUCCEEDED, 1.0),
            CancelRequested("x", 1.0),
            Withdrawn("x", CANCELLED, 1.0),
        ]
        assert store.apply(changes) == [0] * 4
        assert store.events("x") == []

    def test_a_change_that_fails_takes_the_whole_batch_back(self, store, running):
        with pytest.raises((OverflowError, StoreError)):
            store.apply([MetricLogged("a", 1, "loss", 1, 0.5, 3.0), MetricLogged("a", 1, "loss", 2**80, 0.5, 3.0)])

        assert store.scores("a") == {}
        assert store.apply([MetricLogged("a", 1, "loss", 1, 0.5, 3.0)]) == [1]

    def test_what_no_store_can_take_is_found_without_changing_anything(self, store, running):
        good, bad = MetricLogged("a", 1, "loss", 1, 0.5, 3.0), MetricLogged("a", 1, "loss", 2**80, 0.5, 3.0)

        assert list(store.refusals([good, bad, good])) == [1]
        assert store.scores("a") == {}

    # -- retries ---------------------------------------------------------------------------------------------------

    def test_a_requeued_run_starts_afresh(self, store, running):
        store.apply([MetricLogged("a", 1, "loss", 1, 0.5, 3.0), OutputLogged("a", 1, output("n", 5))])
        store.apply([Requeued("a", 1, Reason.ERROR, FAILED.failure, 9.0, 3.0)])

        record = store.get_run("a")
        assert (record.state, record.worker, record.not_before, record.reason) == ("pending", None, 9.0, Reason.ERROR)
        assert store.scores("a") == {}
        assert store.retries("a") == 1
        assert store.apply([claimed("a")]) == [2]
        assert store.outputs("a", 2) == []
        assert store.apply([Finished("a", 1, SUCCEEDED, 4.0), Finished("a", 2, SUCCEEDED, 5.0)]) == [0, 1]
        assert store.get_run("a").failure is None and store.get_run("a").reason is None
        assert [(a.attempt, a.state, a.reason) for a in store.attempts("a")] == [
            (1, "failed", "error"),
            (2, "succeeded", None),
        ]

    def test_an_attempt_that_was_not_the_runs_fault_uses_no_budget(self, store, running):
        store.apply([Requeued("a", 1, Reason.PREEMPTED, None, 0.0, 3.0, counts=False)])
        assert store.retries("a") == 0

    def test_a_claim_that_is_taken_back_was_never_made(self, store, running):
        assert store.apply([TakenBack("a", 1)]) == [1]

        assert (self.state(store), store.get_run("a").attempt, store.get_run("a").started) == ("pending", 0, None)
        assert (store.attempts("a"), self.events(store)) == ([], ["submitted"])
        assert store.apply([claimed("a")]) == [1]

    def test_a_withdrawn_run_keeps_why_it_failed_before(self, store, running):
        store.apply([Requeued("a", 1, Reason.ERROR, FAILED.failure, 9.0, 3.0), Withdrawn("a", CANCELLED, 4.0)])

        assert (self.state(store), store.get_run("a").failure, store.get_run("a").ended) == (
            "cancelled",
            FAILED.failure,
            4.0,
        )

    def test_only_a_pending_run_is_withdrawn(self, store, running):
        assert store.apply([Withdrawn("a", CANCELLED, 4.0)]) == [0]

    # -- metrics and outputs -----------------------------------------------------------------------------------------

    def test_a_series_keeps_every_point_and_its_kind(self, store, running):
        values = [0.1, math.inf, -math.inf, math.nan, 0.0, 5e-324, 1.7976931348623157e308]
        store.apply([MetricLogged("a", 1, "loss", i, value, 3.0 + i) for i, value in enumerate(values)])
        store.apply([MetricLogged("a", 1, "acc", None, 1.0, 3.0)])

        points = store.series("a", 1, "loss")

        assert [step for step, _, _ in points] == list(range(7))
        assert [repr(value) for _, value, _ in points] == [repr(value) for value in values]
        assert store.metric_names("a", 1) == ["acc", "loss"]
        assert store.series("a", 1, "acc") == [(None, 1.0, 3.0)]

    def test_the_last_output_of_a_name_wins(self, store, running):
        store.apply(
            [
                OutputLogged("a", 1, output("n", 5)),
                OutputLogged("a", 1, output("n", None, path="x", sha256="s", size=3)),
            ]
        )

        assert store.outputs("a", 1) == [output("n", None, path="x", sha256="s", size=3)]

    @pytest.mark.parametrize("inline", [0, False, None, "", [], {}, 0.0, 10**400, "\u0000", 2**63])
    def test_an_inline_output_comes_back_as_itself(self, store, running, inline):
        store.apply([OutputLogged("a", 1, output("n", inline))])

        [found] = store.outputs("a", 1)
        assert found.inline == inline and type(found.inline) is type(inline)

    # -- listings ----------------------------------------------------------------------------------------------------

    def ids(self, records) -> str:
        return "".join(record.id for record in records)

    def test_runs_are_listed_by_what_is_asked(self, store):
        store.apply(
            [
                submitted("a", time=1.0, labels={"team": "risk", "env": "dev"}),
                submitted("b", time=2.0, name="score", labels={"team": "risk"}),
                submitted("c", time=3.0, project="ads", owner="you", function="g", parent="a"),
                claimed("b"),
            ]
        )

        def listed(**wanted: object) -> str:
            assert store.count_runs(RunFilter(**wanted)) == len(store.list_runs(RunFilter(**wanted), limit=99))
            return self.ids(store.list_runs(RunFilter(**wanted), limit=99))

        assert listed() == "cba"
        assert listed(project="fraud") == "ba"
        assert listed(name="score") == "b"
        assert listed(states=("pending",)) == "ca"
        assert listed(states=("pending", "running")) == "cba"
        assert listed(states=("failed",)) == ""
        assert listed(function="g") == "c"
        assert listed(parent="a") == "c"
        assert listed(owner="you") == "c"
        assert listed(labels={"team": "risk"}) == "ba"
        assert listed(labels={"team": "risk", "env": "dev"}) == "a"
        assert listed(labels={"team": "' OR 1=1 --"}) == ""
        assert listed(since=2.0) == "cb"
        assert listed(project="fraud", states=("running",), labels={"team": "risk"}) == "b"
        assert self.ids(store.list_runs(RunFilter(), limit=2, newest=False)) == "ab"
        assert self.ids(store.unfinished("me")) == "ab"
        assert store.projects() == ["ads", "fraud"]

    def test_pages_follow_each_other_without_gap_or_repeat(self, store):
        store.apply([submitted(f"{i:03d}") for i in range(25)])
        seen: list[str] = []
        before = None
        while page := store.list_runs(RunFilter(before=before), limit=7):
            seen += [record.id for record in page]
            before = page[-1].seq
            store.apply([submitted(f"new{len(seen)}")])  # one that comes meanwhile moves nothing

        assert seen == [f"{i:03d}" for i in reversed(range(25))]

    def test_the_best_by_a_metric_come_first_and_no_value_that_is_no_number_wins(self, store):
        values = {"a": 0.5, "b": math.nan, "c": 0.9, "d": math.inf, "e": 0.5, "f": -math.inf, "g": 10**400}
        for run, value in values.items():
            logged = (
                OutputLogged(run, 1, output("acc", value)) if run == "g" else MetricLogged(run, 1, "acc", 1, value, 3.0)
            )
            store.apply([submitted(run), claimed(run), logged])
        store.apply(
            [
                submitted("h"),
                claimed("h"),
                Finished("h", 1, Outcome(RunState.SUCCEEDED, outputs=(output("acc", 0.7),)), 4.0),
            ]
        )

        assert self.ids(store.best_runs(RunFilter(), "acc", limit=99, highest=True)) == "chae"
        assert self.ids(store.best_runs(RunFilter(), "acc", limit=99, highest=False)) == "aehc"
        assert self.ids(store.best_runs(RunFilter(states=("running",)), "acc", limit=1, highest=True)) == "c"
        assert store.best_runs(RunFilter(), "loss", limit=9, highest=True) == []

    def test_a_run_is_found_by_the_first_digits_of_its_id(self, store):
        store.apply([submitted("abc123"), submitted("abc456"), submitted("abcd"), submitted("ab")])

        assert store.find_run("abc1").id == "abc123"
        assert store.find_run("ABC4").id == "abc456"
        assert store.find_run("ab").id == "ab", "a whole id is not ambiguous"
        with pytest.raises(NotFoundError, match=r"several runs.*more digits"):
            store.find_run("abc")
        for nothing in ("abd", "", "x", "a%", "a_"):
            with pytest.raises(NotFoundError, match="mlfn runs"):
                store.find_run(nothing)

    def test_states_of_many_runs_are_read_at_once(self, store):
        store.apply([submitted(f"r{i}") for i in range(1100)])

        assert len(store.states([f"r{i}" for i in range(1200)])) == 1100
        assert store.known_runs(["r1", "nope"]) == {"r1"}

    # -- functions and plans -----------------------------------------------------------------------------------------

    def test_a_function_and_a_plan_are_kept_once(self, store):
        for _ in range(2):
            store.add_function("f", project="p", name="n", spec='{"a": 1}', time=1.0)
            store.add_plan("p", function="f", body='{"b": 2}')

        assert (store.function("f"), store.plan("p")) == ({"a": 1}, {"b": 2})
        with pytest.raises(NotFoundError):
            store.function("g")
        with pytest.raises(StoreCorruptError, match="restored in part"):
            store.plan("q")

    # -- clients and workers -----------------------------------------------------------------------------------------

    def engaged(self, worker: str = "w", client: str = "me") -> Engaged:
        return Engaged(worker, client, identify(os.getpid()), "/folder")

    def test_a_client_is_known_until_it_leaves(self, store):
        store.register_client("me", identify(os.getpid()), time=1.0)
        store.register_client("me", identify(os.getpid()), time=2.0)

        [(client, _, pid, _, beat)] = store.clients()
        assert (client, pid, beat) == ("me", os.getpid(), 2.0)
        store.remove_client("me")
        assert store.clients() == []

    def test_the_journal_of_a_worker_is_read_by_one_client(self, store):
        store.apply([self.engaged(), submitted("a"), claimed("a", worker="w")])
        store.apply([MetricLogged("a", 1, "loss", 1, 0.5, 3.0)], consumed={"w": 10}, client="me")

        assert store.apply([Adopted("a", "you", "me", 4.0, "w")]) == [1]
        assert [(row.client, row.consumed) for row in store.workers()] == [("you", 10)]
        with pytest.raises(UsurpedError):
            store.apply([Finished("a", 1, SUCCEEDED, 5.0)], consumed={"w": 20}, client="me")
        assert self.state(store) == "running"
        assert [row.consumed for row in store.workers("you")] == [10]

    def test_a_batch_that_comes_again_has_the_effect_of_one(self, store):
        store.apply([self.engaged(), submitted("a"), claimed("a", worker="w")])
        batch = [
            Started("a", 1, 2.5),
            MetricLogged("a", 1, "loss", None, 0.5, 3.0),
            MetricLogged("a", 1, "loss", None, 0.5, 3.0),
            OutputLogged("a", 1, output("n", 1)),
            Finished("a", 1, SUCCEEDED, 4.0),
        ]
        for _ in range(2):
            store.apply(batch, consumed={"w": 10}, client="me")

        assert store.series("a", 1, "loss") == [(None, 0.5, 3.0)] * 2
        assert len(store.outputs("a", 1)) == 1
        assert self.events(store) == ["submitted", "claimed", "succeeded"]

    def test_a_run_is_adopted_with_its_worker_or_not_at_all(self, store):
        store.apply([self.engaged("w"), self.engaged("v"), submitted("a"), claimed("a", worker="w")])

        assert store.apply([Adopted("a", "you", "me", 4.0, "v")]) == [0]
        assert store.apply([Adopted("a", "you", "somebody", 4.0, "w")]) == [0]
        assert {row.client for row in store.workers()} == {"me"}
        assert store.apply([Adopted("a", "you", "me", 4.0, "w"), Adopted("a", "they", "me", 4.0, "w")]) == [1, 0]

    def test_an_idle_worker_is_taken_by_one(self, store):
        store.apply([self.engaged()])

        assert store.take_worker("w", client="you", former="me")
        assert not store.take_worker("w", client="they", former="me")
        store.remove_worker("w")
        assert store.workers() == []

    def test_terminal_runs_are_removed_with_all_they_left(self, store):
        store.apply([submitted("a", labels={"x": "y"}), claimed("a"), MetricLogged("a", 1, "loss", 1, 0.5, 3.0)])
        store.apply([Finished("a", 1, Outcome(RunState.SUCCEEDED, outputs=(output("n", 1),)), 4.0), submitted("b")])
        store.remove_runs(["a", "b"])

        assert self.ids(store.list_runs(RunFilter(), limit=9)) == "b"
        for table in ("attempts", "outputs", "metrics", "scores", "labels"):
            assert store.session.read(f"SELECT count(*) FROM {table}") == [(0,)]
        assert store.events("a") == []

    # -- damage and versions -----------------------------------------------------------------------------------------

    def damage(self, store: SqlStore, table: str, column: str, value: object, where: str = "1 = 1") -> None:
        with store.session.writing() as engine:
            changed = engine.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (value,)).rowcount
        assert changed >= 1

    def allow_null(self, store: SqlStore, column: str) -> None:
        """Let a column of `runs` be NULL that never is."""
        raise NotImplementedError

    @pytest.fixture
    def told(self, monkeypatch, caplog):
        """What the log says of rows that are passed over, as if nothing had been said in this process before."""
        monkeypatch.setattr(rows, "_told", set())
        return lambda: [record.getMessage() for record in caplog.records if record.name == "mlfn.store.rows"]

    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("params", "{"),
            ("params", "[1]"),
            ("params", '{"x": 3}'),
            ("params", '{"x": {"inline": 3}}'),
            ("params", '{"x": {"output": 3}}'),
            pytest.param("params", "[" * 100_000, id="params-deep"),
            ("state", "flying"),
            ("reason", "bad luck"),
            ("failure", "[1]"),
            ("failure", "{}"),
            ("failure", '{"type": 3}'),
            ("failure", '{"type": "a", "bases": [3]}'),
            ("failure", '{"type": "a", "exit_code": "3"}'),
            ("returns", "3"),
            ("returns", "{}"),
            ("progress", "[]"),
            ("labels", '{"team": 3}'),
            ("labels", "null"),
            ("point", "[1]"),
            ("created", math.inf),
            ("created", 1e300),
            ("ended", -1e300),
        ],
    )
    def test_a_row_that_cannot_be_read_hurts_whoever_asks_for_it_alone(self, store, told, column, value):
        store.apply([submitted(run) for run in "abc"])
        self.damage(store, "runs", column, value, "id = 'b'")
        if column == "state":
            value = "'flying'"  # as the message shows it

        for ask in (store.get_run, store.find_run):
            with pytest.raises(
                StoreCorruptError, match=rf"run 'b' cannot be read \(runs\.{column}: .*copy, .*: mlfn gc --broken b$"
            ):
                ask("b")
        assert told() == []
        for _ in range(3):
            assert self.ids(store.list_runs(RunFilter(), limit=9)) == "ca"
            assert self.ids(store.list_runs(RunFilter(), limit=2)) == "ca"
            assert self.ids(store.list_runs(RunFilter(), limit=2, newest=False)) == "ac"
        assert list(store.readable_runs(["c", "b", "a", "z"])) == ["c", "a"]
        [said] = told()  # once in a process
        assert f"run 'b' cannot be read (runs.{column}: " in said
        survey = damage.survey(store)
        assert (survey.runs, [(fault.run, fault.column) for fault in survey.faults]) == (3, [("b", column)])
        assert [fault.column for fault in damage.faults_of(store, "b")] == [column]
        assert damage.faults_of(store, "a") == []

    def test_a_null_where_none_may_be_is_a_row_that_cannot_be_read(self, store, told):
        store.apply([submitted(run) for run in "abc"])
        for column in ("params", "created", "attempt", "name"):
            self.allow_null(store, column)
            [(kept,)] = store.session.read(f"SELECT {column} FROM runs WHERE id = 'b'")
            self.damage(store, "runs", column, None, "id = 'b'")

            with pytest.raises(StoreCorruptError, match=rf"run 'b' .*runs\.{column}: NULL is not"):
                store.get_run("b")
            assert self.ids(store.list_runs(RunFilter(), limit=9)) == "ca"
            self.damage(store, "runs", column, kept, "id = 'b'")
        assert self.ids(store.list_runs(RunFilter(), limit=9)) == "cba"
        assert len(told()) == 4

    def test_a_process_does_not_speak_of_every_row_of_many(self, store, told):
        store.apply([submitted(f"r{i}") for i in range(50)])
        self.damage(store, "runs", "params", "{", "id <> 'r7'")

        assert self.ids(store.list_runs(RunFilter(), limit=3)) == "r7"
        assert len(told()) == 21
        assert "mlfn doctor" in told()[-1]

    def test_a_child_that_cannot_be_read_is_passed_over_and_keeps_its_number(self, store, told):
        store.apply([self.sweep(), claimed("s"), self.child(1), self.child(2), self.child(3)])
        for column, value in (("point", "{"), ("failure", "[1]"), ("state", "flying")):
            [(kept,)] = store.session.read(f"SELECT {column} FROM runs WHERE id = 'c2'")
            self.damage(store, "runs", column, value, "id = 'c2'")

            assert [row.run for row in store.children("s")] == ["c1", "c3"]
            assert [row.run for row in store.children_at("s", [3, 2])] == ["c3"]
            with pytest.raises(StoreCorruptError, match=rf"run 'c2' .*runs\.{column}"):
                store.children("s", all_or_none=True)
            assert sum(store.child_counts("s").values()) == 3 - (column == "state")
            assert ("c2" in store.states(["c1", "c2"])) == (column != "state")
            assert store.known_runs(["c1", "c2"]) == {"c1", "c2"}
            assert (store.last_child("s"), store.child_at("s", 2)) == (3, "c2")
            self.damage(store, "runs", column, kept, "id = 'c2'")

    def test_a_client_is_needed_for_a_run_that_cannot_be_read(self, store, told):
        store.apply([submitted("a")])
        self.damage(store, "runs", "params", "{")

        assert (store.unfinished("me"), store.is_needed("me")) == ([], True)
        store.remove_unreadable("a", with_parts=[])
        assert not store.is_needed("me")

    @pytest.mark.parametrize("inline", ["{", None])
    def test_an_output_that_cannot_be_read_is_named(self, store, running, inline):
        store.apply([OutputLogged("a", 1, output("n", 5))])
        self.damage(store, "outputs", "inline", inline)

        with pytest.raises(StoreCorruptError, match=r"The output 'n' of run 'a' .*outputs\.inline.*gc --broken a$"):
            store.outputs("a", 1)
        assert [fault.table for fault in damage.faults_of(store, "a")] == ["outputs"]
        assert [fault.table for fault in damage.survey(store).faults] == ["outputs"]

    def test_the_description_of_a_sweep_that_cannot_be_read_is_named(self, store):
        store.apply([self.sweep()])
        self.damage(store, "sweeps", "body", "[1]")

        with pytest.raises(StoreCorruptError, match=r"The description of run 's' .*sweeps\.body"):
            store.sweep_body("s")
        assert [fault.table for fault in damage.survey(store).faults] == ["sweeps"]

    def test_a_constraint_that_cannot_be_read_is_not_met(self, store):
        store.apply([self.sweep(), claimed("s"), self.child(1), claimed("c1")])
        store.apply([OutputLogged("c1", 1, Output("cost", "constraint", "json", "float", inline=-1.0))])
        assert store.constraints_among(["c1"]) == {"c1": {"cost": -1.0}}
        self.damage(store, "outputs", "inline", "{")

        assert store.constraints_among(["c1"]) == {"c1": {"cost": math.inf}}

    @pytest.mark.parametrize("body", ["{", "[1]"])
    def test_a_plan_that_cannot_be_read_is_named_and_put_right_by_the_next_submit(self, store, told, body):
        store.add_plan("p", function="f", body='{"payload": "x"}')
        store.add_function("f", project="p", name="n", spec='{"a": 1}', time=1.0)
        assert store.payload_digests() == {"x"}
        self.damage(store, "plans", "body", body)
        self.damage(store, "functions", "spec", body)

        with pytest.raises(StoreCorruptError, match=r"plan p cannot be read.*submit the same function"):
            store.plan("p")
        with pytest.raises(StoreCorruptError, match=r"function version f cannot be read"):
            store.function("f")
        assert store.payload_digests() is None
        store.add_plan("p", function="f", body='{"payload": "x"}')
        store.add_function("f", project="p", name="n", spec='{"a": 1}', time=2.0)
        assert (store.plan("p"), store.function("f")) == ({"payload": "x"}, {"a": 1})

    def test_a_run_that_cannot_be_read_can_be_removed_with_its_parts(self, store):
        store.apply([self.sweep(), claimed("s"), self.child(1), self.child(2), submitted("a"), claimed("a")])
        store.apply([ChildBegun("p", "a", 1, {}, 3.0)])
        self.damage(store, "runs", "state", "flying", "id IN ('s', 'a')")

        assert store.parts_of("a") == ["p"]
        store.remove_unreadable("a", with_parts=["p"])
        store.remove_unreadable("s", with_parts=[])

        assert [run.id for run in store.list_runs(RunFilter(on_top=True), limit=9)] == ["c2", "c1"]
        for table in ("attempts", "events", "sweeps", "labels"):
            runs = {run for (run,) in store.session.read(f"SELECT run FROM {table}")}
            assert runs.isdisjoint({"a", "p", "s"})

    def test_a_store_of_a_newer_version_is_refused(self, store, url, tmp_path):
        with store.session.writing() as engine:
            engine.execute("UPDATE meta SET version = 99")

        with pytest.raises(StoreVersionError, match=r"schema 99.*update mlfn"):
            open_store(url, tmp_path / "data")

    def test_processes_that_open_a_new_store_at_once_all_may(self, url, tmp_path):
        script = (
            "import sys; from pathlib import Path; from mlfn.store import open_store; sys.stdin.readline();"
            f"store = open_store({url!r}, Path({str(tmp_path / 'data')!r})); print(len(store.clients()))"
        )
        opening = [
            subprocess.Popen(
                [sys.executable, "-c", script],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        for process in opening:
            process.stdin.write("go\n")
            process.stdin.flush()
        ends = [process.communicate(timeout=60) for process in opening]

        assert [out for out, _ in ends] == ["0\n"] * 4, ends
        assert open_and_count(url, tmp_path / "data", "meta") == 1

    # -- forks -------------------------------------------------------------------------------------------------------

    def test_a_forked_child_has_a_connection_of_its_own(self, store):
        store.apply([submitted("a")])

        code = in_a_fork(lambda: store.apply([submitted("b")]) == [1] and self.state(store) == "pending")

        assert code == 0
        assert store.apply([submitted("c")]) == [1]
        assert self.ids(store.list_runs(RunFilter(), limit=9)) == "cba"

    def test_a_fork_waits_for_the_transaction_of_another_thread(self, store):
        inside, leave = threading.Event(), threading.Event()

        def write() -> None:
            with store.session.writing() as engine:
                engine.execute("INSERT INTO labels (key, value, run) VALUES ('k', 'v', 'r')")
                inside.set()
                leave.wait(10)

        thread = threading.Thread(target=write)
        thread.start()
        inside.wait(10)
        threading.Timer(0.2, leave.set).start()

        code = in_a_fork(lambda: store.apply([submitted("b")]) == [1])

        thread.join(10)
        assert code == 0
        assert store.session.read("SELECT count(*) FROM labels") == [(1,)]

    # -- the state machine -------------------------------------------------------------------------------------------

    def test_no_order_of_changes_leads_off_the_legal_ways(self, store):
        seen: set[tuple[RunState, RunState]] = set()
        names = itertools.count()

        class Machine(RunLife):
            pass

        Machine.store, Machine.seen, Machine.names = store, seen, names
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=100,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
                derandomize=True,
            ),
        )

        assert seen == {(old, new) for old, allowed in TRANSITIONS.items() for new in allowed}


class RunLife(RuleBasedStateMachine):
    """One run against a model of it: what the store answers, and where the run then is."""

    store: ClassVar[SqlStore]
    seen: ClassVar[set[tuple[RunState, RunState]]]
    names: ClassVar[itertools.count]

    @initialize()
    def submit(self) -> None:
        self.run = f"life{next(self.names)}"
        self.state, self.attempt, self.cancel, self.owner = RunState.PENDING, 0, False, "me"
        self.retries = 0
        assert self.store.apply([submitted(self.run)]) == [1]

    def apply(self, change: object, *, goes: bool, to: RunState | None = None) -> None:
        [answer] = self.store.apply([change])
        assert bool(answer) == goes, (change, self.state, self.attempt)
        if goes and to is not None:
            assert to in TRANSITIONS[self.state]
            self.seen.add((self.state, to))
            self.state = to

    @rule(owner=st.sampled_from(["me", "you"]))
    def claim(self, owner: str) -> None:
        goes = self.state is RunState.PENDING and owner == self.owner and not self.cancel
        self.apply(claimed(self.run, owner=owner), goes=goes, to=RunState.RUNNING)
        self.attempt += goes

    @rule(
        offset=st.sampled_from([0, 0, 0, -1, 1]),
        outcome=st.sampled_from([SUCCEEDED, FAILED, CANCELLED, Outcome(RunState.PRUNED)]),
    )
    def finish(self, offset: int, outcome: Outcome) -> None:
        goes = self.state is RunState.RUNNING and offset == 0
        self.apply(Finished(self.run, self.attempt + offset, outcome, 3.0), goes=goes, to=outcome.state)

    @rule(offset=st.sampled_from([0, 0, 0, -1, 1]), counts=st.booleans())
    def requeue(self, offset: int, counts: bool) -> None:
        goes = self.state is RunState.RUNNING and offset == 0
        change = Requeued(self.run, self.attempt + offset, Reason.ERROR, None, 0.0, 3.0, counts)
        self.apply(change, goes=goes, to=RunState.PENDING)
        self.retries += goes and counts

    @precondition(lambda self: self.state is RunState.PENDING and not self.cancel)
    @rule(outcome=st.sampled_from([SUCCEEDED, FAILED, CANCELLED, Outcome(RunState.PRUNED)]))
    def carry_through(self, outcome: Outcome) -> None:
        self.claim(self.owner)
        self.finish(0, outcome)

    @rule(offset=st.sampled_from([0, 0, -1, 1]))
    def take_back(self, offset: int) -> None:
        goes = self.state is RunState.RUNNING and offset == 0
        self.apply(TakenBack(self.run, self.attempt + offset), goes=goes, to=RunState.PENDING)
        self.attempt -= goes

    @rule(outcome=st.sampled_from([FAILED, CANCELLED]))
    def withdraw(self, outcome: Outcome) -> None:
        self.apply(Withdrawn(self.run, outcome, 3.0), goes=self.state is RunState.PENDING, to=outcome.state)

    @precondition(lambda self: self.attempt > 0)
    @rule()
    def ask_for_the_end(self) -> None:
        self.apply(CancelRequested(self.run, 3.0), goes=not self.state.is_terminal and not self.cancel)
        self.cancel = self.cancel or not self.state.is_terminal

    @rule(owner=st.sampled_from(["me", "you"]), former=st.sampled_from(["me", "you"]))
    def adopt(self, owner: str, former: str) -> None:
        goes = not self.state.is_terminal and former == self.owner
        self.apply(Adopted(self.run, owner, former, 3.0), goes=goes)
        self.owner = owner if goes else self.owner

    @rule(offset=st.sampled_from([0, -1, 1]))
    def report(self, offset: int) -> None:
        goes = self.state is RunState.RUNNING and offset == 0
        attempt = self.attempt + offset
        self.apply(MetricLogged(self.run, attempt, "loss", 1, 0.5, 3.0), goes=goes)
        self.apply(OutputLogged(self.run, attempt, output("n", 1)), goes=goes)
        self.apply(Progressed(self.run, attempt, {"done": 1}), goes=goes)

    @invariant()
    def the_store_agrees(self) -> None:
        record = self.store.get_run(self.run)
        assert (record.state, record.attempt, record.owner) == (self.state, self.attempt, self.owner)
        assert record.cancel_requested == self.cancel
        assert self.store.retries(self.run) == self.retries
        attempts = self.store.attempts(self.run)
        assert [a.attempt for a in attempts] == list(range(1, self.attempt + 1))
        assert sum(a.state == "running" for a in attempts) == (self.state is RunState.RUNNING)
        assert (record.ended is not None) == self.state.is_terminal
        ends = [
            what
            for _, _, what, _ in self.store.events(self.run)
            if what in ("succeeded", "failed", "cancelled", "pruned")
        ]
        assert ends == ([str(self.state)] if self.state.is_terminal else [])


def in_a_fork(check: Callable[[], bool]) -> int:
    """Return the exit code of a forked child that does `check`."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of other tests may live; the child uses none
        child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if check() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def open_and_count(url: str, folder: Path, table: str) -> int:
    store = open_store(url, folder)
    try:
        return int(store.session.read(f"SELECT count(*) FROM {table}")[0][0])
    finally:
        store.session.close()


class TestSqliteStore(StoreContract):
    @pytest.fixture
    def url(self) -> str:
        return ""

    def database(self, tmp_path: Path) -> Path:
        return tmp_path / "data" / "mlfn.db"

    def test_files_are_for_their_owner_alone_under_any_umask(self, tmp_path):
        before = os.umask(0)
        try:
            store = open_store("", tmp_path / "new" / "data")
            store.apply([submitted("a")])
            files = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "new" / "data").iterdir()}
            store.session.close()
        finally:
            os.umask(before)

        assert files == {"mlfn.db": 0o600, "mlfn.db-wal": 0o600, "mlfn.db-shm": 0o600}
        assert (tmp_path / "new" / "data").stat().st_mode & 0o777 == 0o700

    def test_a_child_uses_no_file_of_its_parent(self, store, tmp_path):
        store.apply([submitted("a")])

        def inherits_none() -> bool:
            open_files = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd_exists(fd)}
            return not any("mlfn.db" in name for name in open_files)

        assert in_a_fork(inherits_none) == 0

    def test_what_a_child_commits_outlives_its_parents_connection(self, url, tmp_path):
        store = open_store(url, tmp_path / "data")
        store.apply([submitted("a")])
        ready_in, ready_out = os.pipe()
        go_in, go_out = os.pipe()

        def commit_after_the_parent_has_left() -> bool:
            store.get_run("a")
            os.write(ready_out, b"!")
            os.read(go_in, 1)
            return store.apply([submitted("b")]) == [1]

        codes: list[int] = []
        thread = threading.Thread(target=lambda: codes.append(in_a_fork(commit_after_the_parent_has_left)))
        thread.start()
        os.read(ready_in, 1)
        store.apply([submitted("c")])
        store.session.close()  # the last one to leave takes the log with it, as far as it knows
        os.write(go_out, b"!")
        thread.join(30)
        for fd in (ready_in, ready_out, go_in, go_out):
            os.close(fd)

        assert codes == [0]
        assert open_and_count(url, tmp_path / "data", "runs") == 3

    def allow_null(self, store: SqlStore, column: str) -> None:
        with store.session.writing() as engine:
            engine.execute("PRAGMA writable_schema = ON")
            engine.execute(
                "UPDATE sqlite_master SET sql = replace(replace(sql, ?, ?), ?, ?) WHERE name = 'runs'",
                (f"{column} TEXT NOT NULL", f"{column} TEXT", f"{column} REAL NOT NULL", f"{column} REAL"),
            )
            engine.execute(
                "UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE name = 'runs'",
                (f"{column} INTEGER NOT NULL", f"{column} INTEGER"),
            )
        store.session.close()  # the schema is read anew

    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("created", "abc"),
            ("started", "abc"),
            ("not_before", b"1"),
            ("attempt", "one"),
            ("iteration", 1.5),
            ("name", b"\xff"),
            ("params", b"{}"),
            ("cancel_requested", "no"),
        ],
    )
    def test_a_value_of_another_type_is_a_row_that_cannot_be_read(self, store, told, column, value):
        store.apply([submitted(run) for run in "abc"])
        self.damage(store, "runs", column, value, "id = 'b'")

        with pytest.raises(StoreCorruptError, match=rf"run 'b' .*runs\.{column}: .* is not "):
            store.get_run("b")
        assert self.ids(store.list_runs(RunFilter(), limit=9)) == "ca"
        assert len(told()) == 1

    def test_text_that_is_no_utf_8_hurts_its_own_row_alone(self, store, told):
        store.apply([submitted(run) for run in "abc"])
        with store.session.writing() as engine:
            engine.execute("UPDATE runs SET name = CAST(X'74FF' AS TEXT) WHERE id = 'b'")

        with pytest.raises(StoreCorruptError, match=r"run 'b' .*runs\.name: b't\\xff' is not text"):
            store.get_run("b")
        assert self.ids(store.list_runs(RunFilter(), limit=9)) == "ca"
        assert store.get_run("a").name == "train"

    def test_a_number_that_is_none_hurts_its_own_run_alone(self, store, told):
        for number, run in enumerate("abc", 1):
            end = Finished(run, 1, Outcome(RunState.SUCCEEDED), 4.0)
            store.apply([self.sweep()] if run == "a" else [])
            store.apply([claimed("s"), submitted(run, parent="s", iteration=number), claimed(run)])
            store.apply([MetricLogged(run, 1, "l", 0, float(number), 3.0), end])
        self.damage(store, "metrics", "value", "zz", "run = 'b'")
        self.damage(store, "scores", "value", "zz", "run = 'b'")

        for ask in (
            lambda: store.series("b", 1, "l"),
            lambda: store.thinned_series("b", 1, "l", most=9),
            lambda: store.scores("b"),
        ):
            with pytest.raises(
                StoreCorruptError, match=r"of run 'b' cannot be read \((metrics|scores)\.value: 'zz' is not"
            ):
                ask()
        assert self.ids(store.best_runs(RunFilter(), "l", limit=9, highest=True)) == "ca"
        assert store.best_children("s", "l", highest=True, limit=9) == [3, 1]
        assert store.values_as_ended("s", "l") == [1.0, 3.0]
        assert store.scores_among(["a", "b"]) == {"a": {"l": 1.0}, "b": {}}
        assert store.series_among(["a", "b"], "l") == {"a": [(0, 1.0)], "b": []}
        assert store.extremes_among(["a", "b"], "l") == {"a": (1.0, 1.0)}
        assert {fault.table for fault in damage.survey(store).faults} == {"metrics", "scores"}

    def test_a_client_or_worker_that_cannot_be_read_is_passed_over(self, store, told):
        me = identify(os.getpid())
        for client in ("me", "you"):
            store.register_client(client, me, time=1.0)
            store.apply([Engaged(f"w-{client}", client, me, "/folder")])
        self.damage(store, "clients", "beat", "abc", "id = 'you'")
        self.damage(store, "workers", "consumed", "abc", "id = 'w-you'")

        assert [row[0] for row in store.clients()] == ["me"]
        assert [row.id for row in store.workers()] == ["w-me"]
        assert store.worker_ids() == {"w-me", "w-you"}
        assert store.is_needed("you")

    def test_a_file_that_is_no_database_is_named_as_damaged(self, tmp_path):
        (tmp_path / "data").mkdir()
        self.database(tmp_path).write_bytes(b"not a database, by any means" * 200)

        with pytest.raises(StoreCorruptError, match=r"mlfn.db is damaged.*\.recover"):
            open_store("", tmp_path / "data")

    def test_a_damaged_page_is_found_in_the_middle_of_a_listing(self, tmp_path):
        store = open_store("", tmp_path / "data")
        store.apply([submitted(f"r{i}", params={"x": {"packer": "json", "inline": "y" * 500}}) for i in range(500)])
        store.session.close()
        with self.database(tmp_path).open("r+b") as file:
            size = file.seek(0, 2)
            for page in range(60, size // 4096, 2):
                file.seek(page * 4096)
                file.write(b"\xff" * 4096)

        store = open_store("", tmp_path / "data")
        with pytest.raises(StoreCorruptError, match="damaged"):
            store.list_runs(RunFilter(), limit=10_000)
        store.session.close()

    def test_a_disk_that_is_full_loses_nothing_that_was_there(self, tmp_path):
        """A limit on the size of files stands for the disk: it needs no rights, and SQLite meets it in the same place."""
        script = f"""
import json, resource
from pathlib import Path
from mlfn.errors import StorageError
from mlfn.store import open_store
from tests.contract.test_store import submitted

store = open_store("", Path({str(tmp_path / "data")!r}))
store.apply([submitted("a")])
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
kept = 0
try:
    for i in range(1000):
        store.apply([submitted(f"r{{i}}", params={{"x": {{"packer": "json", "inline": "y" * 5000}}}})])
        kept += 1
except StorageError as error:
    print(json.dumps([kept, str(error)]))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert store.apply([submitted("later")]) == [1]
"""
        out = run_script(script)
        import json

        kept, text = json.loads(out)

        assert "cannot be written" in text and "MLFN_DATA" in text
        assert 0 < kept < 1000
        assert open_and_count("", tmp_path / "data", "runs") == kept + 2

    def test_a_file_that_may_only_be_read_says_so_when_written(self, tmp_path):
        """As another user where this one is root, whom no mode stops."""
        (tmp_path / "data").mkdir()
        store = open_store("", tmp_path / "data")
        store.apply([submitted("a")])
        store.session.close()
        script = f"""
import os
from pathlib import Path
from mlfn.errors import StorageError
from mlfn.store import open_store
from tests.contract.test_store import submitted

# Another user may not be able to read the standard library: what is needed is loaded by doing it all once.
open_store("", Path({str(tmp_path / "elsewhere")!r})).apply([submitted("a")])

folder = Path({str(tmp_path / "data")!r})
os.chmod(folder / "mlfn.db", 0o444)
os.chmod(folder, 0o555)
for parent in folder.parents:
    if parent.stat().st_uid == os.geteuid() and os.geteuid() == 0 and parent.name:
        os.chmod(parent, 0o755)
if os.geteuid() == 0:
    os.setgid(65534), os.setuid(65534)
try:
    open_store("", folder).apply([submitted("b")])
except StorageError as error:
    print(error)
"""
        out = run_script(script)
        os.chmod(tmp_path / "data", 0o700)

        assert "cannot be written" in out and "rights" in out

    def test_a_folder_that_cannot_be_made_says_what_to_set(self, tmp_path):
        (tmp_path / "file").touch()

        with pytest.raises(StorageError, match=r"cannot be created.*MLFN_DATA"):
            open_store("", tmp_path / "file" / "data")

    def test_an_address_that_nobody_knows_lists_the_known_ones(self, tmp_path):
        with pytest.raises(SettingsError, match=r"mysql://.*sqlite:///.*postgresql://"):
            open_store("mysql://x", tmp_path)


def fd_exists(fd: str) -> bool:
    try:
        os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return False
    return True


def run_script(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_change_has_a_name():
    assert len(set(NAMES.values())) == len(NAMES)


class TestPostgresStore(StoreContract):
    @pytest.fixture
    def url(self, postgres_store_url: str) -> str:
        return postgres_store_url

    def allow_null(self, store: SqlStore, column: str) -> None:
        with store.session.writing() as engine:
            engine.execute(f"ALTER TABLE runs ALTER COLUMN {column} DROP NOT NULL")

    def test_a_password_is_in_no_message(self, tmp_path):
        with pytest.raises(StoreError) as caught:
            open_store("postgresql://user:hunter2@127.0.0.1:1/nothing", tmp_path)

        assert "hunter2" not in str(caught.value) and "***" in str(caught.value)

    def test_a_connection_that_breaks_is_made_again(self, store, another):
        [(pid,)] = store.session.read("SELECT pg_backend_pid()")
        another.session.read("SELECT pg_terminate_backend(?)", (pid,))

        with pytest.raises(StorageError, match="cannot be reached"):
            store.apply([submitted("a")])
        assert store.apply([submitted("a")]) == [1]

    @pytest.fixture
    def unanswered(self, store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
        """Return a function after which the next COMMIT goes unanswered: how it does is its argument."""
        import psycopg

        execute = psycopg.Connection.execute
        lost: list[str] = []

        def cut(connection, query, *args, **named):
            if query != b"COMMIT" or lost[-1:] == ["once"]:
                return execute(connection, query, *args, **named)
            if lost[-1] == "after it was carried out":
                execute(connection, query, *args, **named)
            if lost[-1] == "on a line that the server takes for open":
                half_open.append(connection)
                store.session.engine._connection = None
            else:
                connection.pgconn.finish()
            lost.append("once")
            raise psycopg.OperationalError("server closed the connection unexpectedly")

        half_open: list[psycopg.Connection] = []

        def arm(how: str) -> list[str]:
            lost.append(how)
            monkeypatch.setattr(psycopg.Connection, "execute", cut)
            return lost

        yield arm
        for connection in half_open:
            connection.close()

    def test_a_commit_whose_answer_is_lost_is_found_to_be_done(self, store, unanswered):
        store.apply([submitted("a")])
        lost = unanswered("after it was carried out")

        assert store.apply([claimed("a"), MetricLogged("a", 1, "loss", 1, 0.5, 3.0)]) == [1, 1]
        assert lost[-1] == "once"
        assert self.events(store) == ["submitted", "claimed"]
        assert store.series("a", 1, "loss") == [(1, 0.5, 3.0)]

    @pytest.mark.parametrize("how", ["before it arrived", "on a line that the server takes for open"])
    def test_a_commit_that_never_arrived_is_undone_and_may_be_done_again(self, store, another, unanswered, how):
        store.apply([submitted("a")])
        unanswered(how)

        with pytest.raises(StorageError, match="closed the connection"):
            store.apply([claimed("a")])
        assert self.state(store) == "pending"
        assert another.apply([claimed("a")]) == [1], "nothing of it is locked any more"

    def test_a_server_that_does_not_come_back_is_given_up(self, store, unanswered, monkeypatch):
        import psycopg

        from mlfn.store import postgres

        def refuse(*_: object, **__: object) -> None:
            raise psycopg.OperationalError("connection refused")

        monkeypatch.setattr(postgres, "_PATIENCE", 0.0)
        unanswered("after it was carried out")
        with monkeypatch.context() as away:
            away.setattr(psycopg, "connect", refuse)
            with pytest.raises(StorageError, match="whether what was written last is kept"):
                store.apply([submitted("a")])
        assert store.apply([submitted("a")]) == [0]
