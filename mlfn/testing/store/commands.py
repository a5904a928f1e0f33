"""The contract of `Commands`: fences, batches, retries, clients, removal."""

from __future__ import annotations

import json
import os
import threading

import pytest

from mlfn.errors import NotFoundError, StoreCorruptError, StoreError
from mlfn.host.identity import identify
from mlfn.spec.plan import Plan
from mlfn.spec.record import PAGE, Outcome, Reason, RemoteFailure, RunState
from mlfn.store.changes import (
    Acknowledged,
    Adopted,
    CancelRequested,
    Change,
    Finished,
    FinishedUnstarted,
    MetricsLogged,
    OutputLogged,
    PageNoted,
    Progressed,
    Recalled,
    Requeued,
    Reused,
    Started,
    StatusNoted,
)
from mlfn.store.commands import OwnershipLostError, Store
from mlfn.store.queries import RunFilter
from mlfn.testing.store.base import (
    CANCELLED,
    FAILED,
    PLAN,
    SUCCEEDED,
    StoreFixtures,
    claimed,
    created,
    events_of,
    ids,
    output,
    point,
    state_of,
    submitted,
)


class CommandsContract(StoreFixtures):
    """What a dispatcher relies on, to be subclassed."""

    def test_a_submitted_run_is_read_back_unchanged(self, store: Store) -> None:
        params = {"text": {"packer": "json", "inline": "ä\u0000\U0001f600 ' ? %s"}}
        store.apply([submitted("a", params=params, labels={"team": "risk", "ä ?": "%"}, parent="p")])

        record = store.get_run("a")

        assert record.state is RunState.PENDING
        assert record.params == params
        assert record.labels == {"team": "risk", "ä ?": "%"}
        assert (record.attempt, record.owner, record.parent, record.created) == (0, "me", "p", 1.0)
        assert events_of(store) == ["submitted"]

    def test_a_run_submitted_twice_is_one_run(self, store: Store) -> None:
        assert store.apply([submitted("a")]) == [1]
        assert store.apply([submitted("a", name="other", labels={"x": "y"})]) == [0]

        assert store.get_run("a").name == "train"
        assert events_of(store) == ["submitted"]
        assert store.list_runs(RunFilter(labels={"x": "y"}), limit=9) == []

    def test_a_run_goes_from_submit_to_success(self, store: Store) -> None:
        store.apply([submitted("a"), claimed("a", execution="w"), Started("a", 1, 3.0)])
        store.apply([Progressed("a", 1, {"done": 1, "total": 2, "text": ""})])
        store.apply(
            [Finished("a", 1, Outcome(RunState.SUCCEEDED, None, None, {"keys": ["n"]}, (output("n", 5),)), 4.0)]
        )

        record = store.get_run("a")
        [attempt] = store.attempts("a")

        assert (record.state, record.started, record.ended, record.returns) == ("succeeded", 2.0, 4.0, {"keys": ["n"]})
        assert record.progress == {"done": 1, "total": 2, "text": ""}
        assert (attempt.attempt, attempt.execution, attempt.started, attempt.ended, attempt.state) == (
            1,
            "w",
            3.0,
            4.0,
            "succeeded",
        )
        assert store.outputs("a", 1) == [output("n", 5)]
        assert events_of(store) == ["submitted", "claimed", "succeeded"]

    def test_the_page_of_an_attempts_engine_is_among_its_events(self, store: Store, running: str) -> None:
        answers = store.apply([PageNoted("a", 1, "http://here:8787", 3.0), PageNoted("a", 2, "http://there:8787", 3.0)])

        assert answers == [1, 0]
        assert [event for event in store.events("a") if event[2] == PAGE] == [(3.0, 0, PAGE, "http://here:8787")]

    def test_a_failure_is_read_back_whole(self, store: Store, running: str) -> None:
        failure = RemoteFailure("a.B", "", "", ("a.B", "builtins.Exception"), "cGlja2xl", 0, 9)
        store.apply([Finished("a", 1, Outcome(RunState.FAILED, Reason.OOM, failure), 3.0)])

        assert store.get_run("a").failure == failure
        assert store.get_run("a").reason is Reason.OOM

    @pytest.mark.parametrize("attempt", [0, 2])
    def test_another_attempt_than_the_running_changes_nothing(self, store: Store, running: str, attempt: int) -> None:
        answers = store.apply(
            [
                Finished("a", attempt, SUCCEEDED, 3.0),
                Requeued("a", attempt, Reason.ERROR, None, 9.0, 3.0),
                point("a", attempt, "loss", 1, 0.5, 3.0),
                OutputLogged("a", attempt, output("n", 5)),
                Progressed("a", attempt, {"done": 1}),
                Recalled("a", attempt),
            ]
        )

        assert answers == [0] * 6
        assert state_of(store) == "running"
        assert (store.scores("a"), store.outputs("a", attempt), store.get_run("a").progress) == ({}, [], None)

    def test_each_attempt_keeps_its_failure(self, store: Store, running: str) -> None:
        first = RemoteFailure("builtins.KeyError", "gone\nand more " * 400, "trace")
        store.apply([Requeued("a", 1, Reason.ERROR, first, 0.0, 3.0), claimed("a"), Finished("a", 2, FAILED, 5.0)])
        store.apply([submitted("b"), claimed("b"), Finished("b", 1, SUCCEEDED, 5.0)])

        assert [attempt.failure for attempt in store.attempts("a")] == ["KeyError: gone", "ValueError: no"]
        assert [attempt.failure for attempt in store.attempts("b")] == [None]

    @pytest.mark.parametrize("end", [SUCCEEDED, FAILED, CANCELLED, Outcome(RunState.PRUNED)])
    def test_nothing_changes_a_terminal_run(self, store: Store, running: str, end: Outcome) -> None:
        store.apply([Finished("a", 1, end, 3.0)])
        before = (store.get_run("a"), store.events("a"), store.attempts("a"))

        answers = store.apply(
            [
                submitted("a"),
                claimed("a"),
                Finished("a", 1, FAILED, 4.0),
                Requeued("a", 1, Reason.ERROR, None, 9.0, 4.0),
                FinishedUnstarted("a", CANCELLED, 4.0),
                CancelRequested("a", 4.0),
                Adopted("a", "you", "me", 4.0),
                point("a", 1, "loss", 1, 0.5, 4.0),
                OutputLogged("a", 1, output("n", 5)),
                Progressed("a", 1, {"done": 1}),
                PageNoted("a", 1, "http://here:8787", 4.0),
                Recalled("a", 1),
            ]
        )

        assert answers == [0] * 12
        assert (store.get_run("a"), store.events("a"), store.attempts("a")) == before
        assert store.scores("a") == {}

    def test_only_the_owner_claims(self, store: Store) -> None:
        assert store.apply([submitted("a"), claimed("a", owner="you")]) == [1, 0]
        assert state_of(store) == "pending"

    def test_a_run_to_be_cancelled_is_not_claimed(self, store: Store) -> None:
        assert store.apply([submitted("a"), CancelRequested("a", 1.0), claimed("a")]) == [1, 1, 0]
        assert store.cancel_requests("me") == ["a"]
        assert store.apply([CancelRequested("a", 2.0)]) == [0]

    def test_of_two_claims_one_wins(self, store: Store, another: Store) -> None:
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

    def test_an_unknown_run_is_not_changed(self, store: Store) -> None:
        changes: list[Change] = [
            claimed("x"),
            Finished("x", 1, SUCCEEDED, 1.0),
            CancelRequested("x", 1.0),
            FinishedUnstarted("x", CANCELLED, 1.0),
        ]
        assert store.apply(changes) == [0] * 4
        assert store.events("x") == []

    def test_a_failing_change_undoes_its_batch(self, store: Store, running: str) -> None:
        with pytest.raises((OverflowError, StoreError)):
            store.apply([point("a", 1, "loss", 1, 0.5, 3.0), point("a", 1, "loss", 2**80, 0.5, 3.0, number=1)])

        assert store.scores("a") == {}
        assert store.apply([point("a", 1, "loss", 1, 0.5, 3.0)]) == [1]

    def test_refusals_are_found_without_a_change(self, store: Store, running: str) -> None:
        good, bad = point("a", 1, "loss", 1, 0.5, 3.0), point("a", 1, "loss", 2**80, 0.5, 3.0, number=1)

        assert list(store.refusals([good, bad, good])) == [1]
        assert store.scores("a") == {}

    def test_a_requeued_run_starts_again(self, store: Store, running: str) -> None:
        store.apply([point("a", 1, "loss", 1, 0.5, 3.0), OutputLogged("a", 1, output("n", 5))])
        store.apply([Requeued("a", 1, Reason.ERROR, FAILED.failure, 9.0, 3.0)])

        record = store.get_run("a")
        assert (record.state, record.execution, record.not_before, record.reason) == (
            "pending",
            None,
            9.0,
            Reason.ERROR,
        )
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

    def test_a_preempted_attempt_uses_no_budget(self, store: Store, running: str) -> None:
        store.apply([Requeued("a", 1, Reason.PREEMPTED, None, 0.0, 3.0, counts=False)])
        assert store.retries("a") == 0

    def test_a_recalled_claim_leaves_no_trace(self, store: Store, running: str) -> None:
        assert store.apply([Recalled("a", 1)]) == [1]

        assert (state_of(store), store.get_run("a").attempt, store.get_run("a").started) == ("pending", 0, None)
        assert (store.attempts("a"), events_of(store)) == ([], ["submitted"])
        assert store.apply([claimed("a")]) == [1]

    def test_a_run_cancelled_unstarted_keeps_its_failure(self, store: Store, running: str) -> None:
        store.apply([Requeued("a", 1, Reason.ERROR, FAILED.failure, 9.0, 3.0), FinishedUnstarted("a", CANCELLED, 4.0)])

        assert (state_of(store), store.get_run("a").failure, store.get_run("a").ended) == (
            "cancelled",
            FAILED.failure,
            4.0,
        )

    def test_only_a_pending_run_finishes_unstarted(self, store: Store, running: str) -> None:
        assert store.apply([FinishedUnstarted("a", CANCELLED, 4.0)]) == [0]

    def test_a_reused_run_has_the_outcome_copied(self, store: Store) -> None:
        outcome = Outcome(RunState.SUCCEEDED, None, None, {"keys": ["n"]}, (output("n", 5),))
        store.apply([submitted("a", memo="m"), claimed("a"), point("a", 1, "loss", 0, 0.5, 2.5)])
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
        assert events_of(store, "b") == ["submitted", "reused"]

    def test_only_a_succeeded_run_is_reused(self, store: Store) -> None:
        store.apply([submitted("a"), claimed("a"), Finished("a", 1, FAILED, 3.0), submitted("b")])

        assert store.apply([Reused("b", "a", 4.0), Reused("b", "nowhere", 4.0)]) == [0, 0]
        assert state_of(store, "b") == "pending"

    def test_the_last_output_of_a_name_wins(self, store: Store, running: str) -> None:
        store.apply(
            [
                OutputLogged("a", 1, output("n", 5)),
                OutputLogged("a", 1, output("n", None, path="x", sha256="s", size=3)),
            ]
        )

        assert store.outputs("a", 1) == [output("n", None, path="x", sha256="s", size=3)]

    def test_a_function_and_a_plan_are_kept_once(self, store: Store) -> None:
        for _ in range(2):
            store.add_function("f", project="p", name="n", spec='{"a": 1}', time=1.0)
            store.add_plan("p", function="f", body=json.dumps(PLAN))

        assert (store.get_function("f"), store.get_plan("p")) == ({"a": 1}, Plan.of_body(PLAN, hash="p"))
        with pytest.raises(NotFoundError):
            store.get_function("g")
        with pytest.raises(StoreCorruptError, match="restored in part"):
            store.get_plan("q")

    def test_a_client_is_known_until_removed(self, store: Store) -> None:
        store.register_client("me", identify(os.getpid()), time=1.0)
        store.register_client("me", identify(os.getpid()), time=2.0)

        [(client, _, pid, _, beat)] = store.clients()
        assert (client, pid, beat) == ("me", os.getpid(), 2.0)
        store.remove_client("me")
        assert store.clients() == []

    def test_one_client_moves_the_cursor_of_an_execution(self, store: Store) -> None:
        store.apply([created(), submitted("a"), claimed("a", execution="w")])
        store.apply([point("a", 1, "loss", 1, 0.5, 3.0)], cursors={"w": "10"}, client="me")

        store.apply([], cursors={"w": None}, client="me")
        assert store.apply([Adopted("a", "you", "me", 4.0, "w")]) == [1]
        assert [(row.client, row.cursor) for row in store.executions()] == [("you", "10")]
        with pytest.raises(OwnershipLostError):
            store.apply([Finished("a", 1, SUCCEEDED, 5.0)], cursors={"w": "20"}, client="me")
        with pytest.raises(OwnershipLostError):
            store.apply([], cursors={"w": None}, client="me")
        assert state_of(store) == "running"
        assert [row.cursor for row in store.executions("you")] == ["10"]

    def test_a_cursor_of_none_asks_only_whose_it_is(self, store: Store) -> None:
        store.apply([created(), submitted("a"), claimed("a", execution="w")], cursors={}, client="me")
        store.apply([], cursors={"w": "10"}, client="me")

        store.apply([Started("a", 1, 2.5)], cursors={"w": None}, client="me")

        assert [row.cursor for row in store.executions()] == ["10"]
        with pytest.raises(OwnershipLostError):
            store.apply([Finished("a", 1, SUCCEEDED, 5.0)], cursors={"w": None}, client="you")
        assert state_of(store) == "running"

    def test_a_repeated_batch_has_no_further_effect(self, store: Store) -> None:
        store.apply([created(), submitted("a"), claimed("a", execution="w")])
        batch: list[Change] = [
            Started("a", 1, 2.5),
            point("a", 1, "loss", None, 0.5, 3.0),
            point("a", 1, "loss", None, 0.5, 3.0, number=1),
            OutputLogged("a", 1, output("n", 1)),
            Finished("a", 1, SUCCEEDED, 4.0),
        ]
        for _ in range(2):
            store.apply(batch, cursors={"w": "10"}, client="me")

        assert store.series("a", 1, "loss") == [(None, 0.5, 3.0)] * 2
        assert len(store.outputs("a", 1)) == 1
        assert events_of(store) == ["submitted", "claimed", "succeeded"]

    def test_points_recorded_again_change_nothing(self, store: Store, running: str) -> None:
        points = tuple(("loss", step, 1.0 / (step + 1), 3.0) for step in range(5))
        store.apply([MetricsLogged("a", 1, 0, points), point("a", 1, "acc", None, 0.5, 4.0, number=5)])

        store.apply([MetricsLogged("a", 1, 0, points[:3]), MetricsLogged("a", 1, 2, points[2:])])

        assert [step for step, _, _ in store.series("a", 1, "loss")] == [0, 1, 2, 3, 4]
        assert store.scores("a") == {"loss": 0.2, "acc": 0.5}

    def test_acknowledged_lines_only_grow(self, store: Store, running: str) -> None:
        answers = store.apply([Acknowledged("a", 1, 4), Acknowledged("a", 1, 3), Acknowledged("a", 2, 9)])

        assert (answers, store.get_run("a").acknowledged) == ([1, 0, 0], 4)
        store.apply([Requeued("a", 1, Reason.ERROR, None, 0.0, 3.0), claimed("a")])
        assert store.get_run("a").acknowledged == 0

    def test_a_queued_attempt_is_fenced_as_a_running_one(self, store: Store) -> None:
        store.apply([created("x"), submitted("a"), claimed("a", "me", "x", queued=True)])

        assert store.apply([claimed("a"), FinishedUnstarted("a", CANCELLED, 3.0)]) == [0, 0]
        assert store.apply([Adopted("a", "you", "me", 3.0, "x"), StatusNoted("a", 1, "waits")]) == [1, 1]
        assert store.apply([Requeued("a", 1, Reason.PREEMPTED, None, 0.0, 4.0, counts=False)]) == [1]
        record = store.get_run("a")
        assert (record.is_claimed, record.status, record.execution) == (False, None, None)

    def test_a_started_attempt_waits_for_nothing(self, store: Store) -> None:
        store.apply([submitted("a"), claimed("a", queued=True), Started("a", 1, 3.0)])

        assert store.apply([StatusNoted("a", 1, "waits"), Started("a", 1, 9.0)]) == [0, 0]
        assert store.attempt_started("a", 1) == 3.0

    def test_events_are_read_in_their_order(self, store: Store) -> None:
        store.apply([submitted("a"), claimed("a"), Adopted("a", "you", "me", 2.5)])
        store.apply([Requeued("a", 1, Reason.LOST, None, 0.0, 3.0), claimed("a", "you"), CancelRequested("a", 5.0)])
        store.apply([Finished("a", 2, CANCELLED, 5.0)])

        assert store.events("a") == [
            (1.0, 0, "submitted", None), (2.0, 1, "claimed", None), (2.5, 0, "adopted", None),
            (3.0, 1, "requeued", "lost"), (2.0, 2, "claimed", None), (5.0, 0, "cancel requested", None),
            (5.0, 2, "cancelled", None),
        ]  # fmt: skip

    def test_a_run_is_adopted_with_its_execution(self, store: Store) -> None:
        store.apply([created("w"), created("v"), submitted("a"), claimed("a", execution="w")])

        assert store.apply([Adopted("a", "you", "me", 4.0, "v")]) == [0]
        assert store.apply([Adopted("a", "you", "somebody", 4.0, "w")]) == [0]
        assert {row.client for row in store.executions()} == {"me"}
        assert store.apply([Adopted("a", "you", "me", 4.0, "w"), Adopted("a", "they", "me", 4.0, "w")]) == [1, 0]

    def test_an_idle_execution_is_adopted_once(self, store: Store) -> None:
        store.apply([created()])

        assert store.adopt_execution("w", client="you", former="me")
        assert not store.adopt_execution("w", client="they", former="me")
        store.remove_execution("w")
        assert store.executions() == []

    def test_terminal_runs_are_removed_with_their_rows(self, store: Store) -> None:
        store.apply([submitted("a", labels={"x": "y"}), claimed("a"), point("a", 1, "loss", 1, 0.5, 3.0)])
        store.apply([Finished("a", 1, Outcome(RunState.SUCCEEDED, outputs=(output("n", 1),)), 4.0), submitted("b")])
        store.remove_runs(["a", "b"])

        assert ids(store.list_runs(RunFilter(), limit=9)) == "b"
        assert (store.attempts("a"), store.outputs("a", 1), store.series("a", 1, "loss")) == ([], [], [])
        assert (store.scores("a"), store.events("a")) == ({}, [])
        store.apply([submitted("a")])
        assert ids(store.list_runs(RunFilter(labels={"x": "y"}), limit=9)) == "", "its labels are gone"
