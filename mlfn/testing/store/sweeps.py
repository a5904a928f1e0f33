"""The contract of `SweepQueries`, and of the changes that make a sweep."""

from __future__ import annotations

import math

from mlfn.spec.record import Outcome, Output, Reason, RunState
from mlfn.store.changes import Claimed, Finished, OutputLogged, Requeued, SweepClosed
from mlfn.store.commands import Store
from mlfn.testing.store.base import SUCCEEDED, StoreFixtures, claimed, new_child, new_sweep, output, point, submitted


class SweepsContract(StoreFixtures):
    """What a sweep's driver and its views rely on, to be subclassed."""

    def test_a_sweep_keeps_its_description_and_children(self, store: Store) -> None:
        assert store.apply([new_sweep(), claimed("s"), new_child(2), new_child(1)]) == [1, 1, 1, 1]

        assert store.get_run("s").sweep
        assert store.get_sweep_body("s") == {"strategy": {"kind": "grid"}}
        assert [(row.run, row.iteration, row.point) for row in store.children("s")] == [
            ("c1", 1, {"n": 1}),
            ("c2", 2, {"n": 2}),
        ]
        assert (store.get_run("c2").iteration, store.get_run("c2").parent) == (2, "s")
        assert store.child_counts("s") == {RunState.PENDING: 2}

    def test_one_name_has_one_sweep_at_once(self, store: Store) -> None:
        assert store.apply([new_sweep(), claimed("s")]) == [1, 1]
        assert store.apply([new_sweep("t"), claimed("t")]) == [0, 0]
        assert store.apply([new_sweep("u", project="other")]) == [1]

        store.apply([Finished("s", 1, SUCCEEDED, 3.0), SweepClosed("s")])

        assert store.apply([new_sweep("v")]) == [1]
        assert store.find_sweep("fraud", "nightly") == "v"
        assert store.find_sweep("fraud", "weekly") is None
        assert (store.sweep_name("v"), store.sweep_name("none")) == ("nightly", None)

    def test_a_sweep_takes_the_name_of_the_one_that_it_replaces(self, store: Store) -> None:
        store.apply([new_sweep(), claimed("s")])

        assert store.apply([new_sweep("t")._replace(replaces="other")]) == [0]
        assert store.apply([new_sweep("t")._replace(replaces="s")]) == [1]
        assert store.find_sweep("fraud", "nightly") == "t"
        assert store.apply([new_sweep("u")._replace(replaces="s")]) == [0]

    def test_a_removed_sweep_frees_its_name(self, store: Store) -> None:
        store.apply([new_sweep(), claimed("s"), new_child(1), claimed("c1"), Finished("c1", 1, SUCCEEDED, 3.0)])
        store.apply([Finished("s", 1, SUCCEEDED, 3.0)])
        store.remove_runs(["s", "c1"])

        assert (store.known_runs(["s", "c1"]), store.find_sweep("fraud", "nightly")) == (set(), None)
        assert store.apply([new_sweep("t")]) == [1]

    def test_a_running_sweep_keeps_its_name(self, store: Store) -> None:
        store.apply([new_sweep(), claimed("s")])

        assert store.apply([SweepClosed("s"), new_sweep("t")]) == [0, 0]

    def test_a_replaced_driver_adds_no_children(self, store: Store) -> None:
        store.apply([new_sweep(), claimed("s"), new_child(1)])
        store.apply([Requeued("s", 1, Reason.LOST, None, 3.0, 3.0, counts=False), claimed("s")])

        assert store.apply([new_child(2, driver=1)]) == [0]
        assert store.apply([new_child(2, driver=2)]) == [1]

    def test_only_a_claim_changes_the_description(self, store: Store) -> None:
        store.apply([new_sweep(), claimed("s")])
        changed = {"strategy": {"kind": "grid"}, "parallel": 4}

        assert store.apply([Claimed("s", "me", None, 2.0, body=changed)]) == [0]
        assert store.get_sweep_body("s") == {"strategy": {"kind": "grid"}}
        store.apply([Requeued("s", 1, Reason.LOST, None, 3.0, 3.0, counts=False)])
        assert store.apply([Claimed("s", "you", None, 3.5, body=changed)]) == [0]
        assert store.get_sweep_body("s") == {"strategy": {"kind": "grid"}}

        assert store.apply([Claimed("s", "me", None, 4.0, body=changed), claimed("s")]) == [2, 0]
        assert store.get_sweep_body("s") == changed

    def test_an_iteration_is_used_once(self, store: Store) -> None:
        store.apply([new_sweep(), claimed("s"), new_child(1)])

        assert store.apply([submitted("other", parent="s", iteration=1, driver=1)]) == [0]
        assert store.apply([submitted("x", parent="s"), submitted("y", parent="s")]) == [1, 1]

    def test_some_children_are_read_without_the_others(self, store: Store) -> None:
        store.apply([new_sweep(), claimed("s"), *(new_child(number) for number in range(1, 8))])
        for number, value in ((1, 0.5), (2, math.inf), (3, 0.9), (4, 0.9), (5, 0.1)):
            run = f"c{number}"
            outcome = Outcome(RunState.SUCCEEDED, outputs=(output("score", value),))
            store.apply([claimed(run), Finished(run, 1, outcome, 10.0 - number)])
        store.apply([claimed("c6"), submitted("apart"), claimed("apart")])

        assert store.values_by_end("s", "score") == [0.1, 0.9, 0.9, math.inf, 0.5]
        assert [row.run for row in store.children_at("s", [5, 1, 99])] == ["c5", "c1"]
        assert store.children_at("s", []) == []
        assert [row.iteration for row in store.children("s", states=(RunState.SUCCEEDED,), last=2)] == [4, 5]
        assert [row.run for row in store.running_children("s", "me", limit=5)[1]] == ["c6"]
        assert store.running_children("s", "me", limit=0) == (1, [])
        assert store.running_children("s", "you", limit=5) == (0, [])

    def test_metrics_of_many_children_are_read_together(self, store: Store) -> None:
        store.apply([new_sweep(), claimed("s")])
        for number in (1, 2, 3):
            store.apply([new_child(number), claimed(f"c{number}")])
        logged = [("c1", 0, 3.0), ("c1", 1, 1.0), ("c1", 2, 2.0), ("c2", 0, 5.0), ("c2", 1, math.nan)]
        store.apply([point(run, 1, "loss", step, value, 3.0 + step, number=step) for run, step, value in logged])
        store.apply([OutputLogged("c1", 1, Output("mem", "constraint", "json", "float", inline=-0.5))])
        children = ["c1", "c2", "c3"]

        assert store.child_scores("s") == store.scores_among(children) == {"c1": {"loss": 2.0, "mem": -0.5}}
        assert store.extremes_among(children, "loss") == {"c1": (1.0, 3.0), "c2": (5.0, 5.0)}
        assert store.series_among(children, "loss")["c1"] == [(0, 3.0), (1, 1.0), (2, 2.0)]
        assert math.isnan(store.series_among(children, "loss")["c2"][-1][1])
        assert store.constraints_among(children) == {"c1": {"mem": -0.5}}
