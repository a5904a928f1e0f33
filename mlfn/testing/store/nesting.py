"""The contract of children that a handler opens within its own attempt."""

from __future__ import annotations

import pytest

from mlfn.spec.record import Outcome, Reason, RunState
from mlfn.store.changes import Adopted, BestMarked, Change, Finished, OutputLogged, Requeued
from mlfn.store.commands import Store
from mlfn.store.queries import RunFilter
from mlfn.testing.store.base import (
    CANCELLED,
    FAILED,
    SUCCEEDED,
    StoreFixtures,
    claimed,
    created,
    events_of,
    ids,
    opened,
    output,
    point,
    state_of,
    submitted,
)


class NestingContract(StoreFixtures):
    """What `ctx.child` relies on, to be subclassed."""

    def test_a_child_is_a_running_copy_of_its_parent(self, store: Store) -> None:
        store.apply([submitted("a", labels={"x": "y"}), claimed("a", execution="w")])

        assert store.apply([opened("b"), opened("c"), opened("d", "c")]) == [1, 1, 1]

        record = store.get_run("c")
        assert (record.state, record.attempt, record.iteration, record.parent, record.part_of) == (
            RunState.RUNNING, 1, 2, "a", "a",
        )  # fmt: skip
        assert (record.name, record.owner, record.execution, record.started) == ("train", "me", "w", 2.5)
        assert record.params == record.point == {"n": {"packer": "json", "inline": 1}}
        assert (store.get_run("d").parent, store.get_run("d").part_of, store.get_run("d").iteration) == ("c", "a", 1)
        assert [row.run for row in store.children("a")] == ["b", "c"] and store.last_iteration("a") == 2
        assert ids(store.list_runs(RunFilter(labels={"x": "y"}), limit=9)) == "dcba"
        assert ids(store.unfinished("me")) == "a"
        assert [(a.attempt, a.execution, a.state) for a in store.attempts("c")] == [(1, "w", "running")]
        assert events_of(store, "c") == ["submitted", "claimed"]

    def test_only_the_running_attempt_opens_children(self, store: Store, running: str) -> None:
        assert store.apply([opened("b", attempt=2), opened("b", attempt=0), opened("b", "x")]) == [0] * 3
        store.apply([Requeued("a", 1, Reason.ERROR, None, 9.0, 3.0)])
        assert store.apply([opened("b")]) == [0]
        store.apply([claimed("a"), opened("b", attempt=2), Finished("b", 1, SUCCEEDED, 3.0)])
        assert store.apply([opened("c", "b")]) == [0]
        store.apply([Finished("a", 2, SUCCEEDED, 3.0)])
        assert store.apply([opened("d", attempt=2)]) == [0]

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
    def test_open_children_end_with_the_attempt(
        self, store: Store, running: str, end: Outcome, state: str, reason: str | None
    ) -> None:
        store.apply([opened("b"), opened("c", "b"), opened("d", "c"), opened("e")])
        store.apply([Finished("e", 1, SUCCEEDED, 3.0), submitted("f", parent="a"), Finished("a", 1, end, 4.0)])

        for run in "bcd":
            record = store.get_run(run)
            assert (record.state, record.reason, record.ended) == (state, reason, 4.0)
            assert events_of(store, run) == ["submitted", "claimed", state]
            assert [a.state for a in store.attempts(run)] == [state]
        assert (state_of(store, "e"), state_of(store, "f")) == ("succeeded", "pending")

    def test_a_retry_ends_children_and_continues_their_iterations(self, store: Store, running: str) -> None:
        store.apply([opened("b"), opened("c"), Finished("b", 1, SUCCEEDED, 3.0), BestMarked("b", "a", 1)])
        store.apply([Requeued("a", 1, Reason.LOST, None, 9.0, 4.0), claimed("a"), opened("d", attempt=2)])

        assert [(row.run, row.iteration, row.state) for row in store.children("a")] == [
            ("b", 1, "succeeded"), ("c", 2, "failed"), ("d", 3, "running"),
        ]  # fmt: skip
        assert store.get_run("c").reason is Reason.LOST
        assert store.apply([Finished("c", 1, SUCCEEDED, 5.0), point("c", 1, "loss", 1, 0.5, 3.0)]) == [0, 0]
        store.apply([Finished("a", 2, SUCCEEDED, 6.0)])
        assert store.outputs("a", 2) == [], "what an earlier attempt took for the best is none of this one's"

    def test_the_parent_has_the_best_childs_outputs(self, store: Store, running: str) -> None:
        store.apply([opened("b"), opened("c"), opened("d")])
        for run, value in (("b", 5), ("c", 7)):
            store.apply([OutputLogged(run, 1, output("n", value)), OutputLogged(run, 1, output("own", value))])
        store.apply([point("c", 1, "loss", 1, 0.5, 3.0), OutputLogged("c", 1, output("text", "x"))])
        store.apply([OutputLogged("a", 1, output("own", 1)), Finished("c", 1, SUCCEEDED, 3.0)])
        marks = [BestMarked("c", "a", 1), BestMarked("b", "a", 1), BestMarked("c", "a", 2), BestMarked("c", "d", 1)]

        assert store.apply(marks) == [1, 0, 0, 0]
        store.apply([Finished("a", 1, Outcome(RunState.SUCCEEDED, outputs=(output("r", 2),)), 4.0)])

        found = {item.key: item.inline for item in store.outputs("a", 1)}
        assert found == {"best_iteration": 2, "n": 7, "own": 1, "r": 2, "text": "x"}
        assert store.scores("a") == {"best_iteration": 2.0, "n": 7.0, "own": 1.0, "r": 2.0}
        assert store.apply([BestMarked("b", "a", 1)]) == [0]

    def test_the_last_marked_child_is_the_best(self, store: Store, running: str) -> None:
        for run in "bc":
            store.apply([opened(run), OutputLogged(run, 1, output(run, 1)), Finished(run, 1, SUCCEEDED, 3.0)])
            store.apply([BestMarked(run, "a", 1)])
        store.apply([Finished("a", 1, FAILED, 4.0)])

        assert {item.key: item.inline for item in store.outputs("a", 1)} == {"best_iteration": 2, "c": 1}

    def test_children_are_adopted_with_their_run(self, store: Store) -> None:
        store.apply([created(), submitted("a"), claimed("a", execution="w"), opened("b"), opened("c", "b")])
        store.apply([Finished("c", 1, SUCCEEDED, 3.0), Adopted("a", "you", "me", 4.0, "w")])

        assert [store.get_run(run).owner for run in "abc"] == ["you", "you", "me"]
        assert ids(store.unfinished("you")) == "a"

    def test_a_repeated_batch_opens_no_second_child(self, store: Store) -> None:
        store.apply([created(), submitted("a"), claimed("a", execution="w")])
        batch: list[Change] = [
            opened("b"),
            point("b", 1, "loss", 1, 0.5, 3.0),
            Finished("b", 1, SUCCEEDED, 3.0),
            BestMarked("b", "a", 1),
        ]
        for _ in range(2):
            store.apply(batch, cursors={"w": "10"}, client="me")

        assert store.last_iteration("a") == 1 and store.series("b", 1, "loss") == [(1, 0.5, 3.0)]
        assert events_of(store, "b") == ["submitted", "claimed", "succeeded"]
