"""The contract of `Queries`: listings, filters, metrics, outputs."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mlfn.errors import NotFoundError
from mlfn.spec.record import Outcome, RunState
from mlfn.store.changes import Finished, MetricsLogged, OutputLogged, Started, StatusNoted
from mlfn.store.commands import Store
from mlfn.store.queries import RunFilter
from mlfn.testing.store.base import StoreFixtures, claimed, ids, new_child, new_sweep, output, point, submitted


class QueriesContract(StoreFixtures):
    """What listings and views rely on, to be subclassed."""

    def test_runs_are_listed_by_filter(self, store: Store) -> None:
        store.apply(
            [
                submitted("a", time=1.0, labels={"team": "risk", "env": "dev"}),
                submitted("b", time=2.0, name="score", labels={"team": "risk"}),
                submitted("c", time=3.0, project="ads", owner="you", function="g", parent="a"),
                claimed("b"),
            ]
        )

        def listed(**wanted: Any) -> str:
            assert store.count_runs(RunFilter(**wanted)) == len(store.list_runs(RunFilter(**wanted), limit=99))
            return ids(store.list_runs(RunFilter(**wanted), limit=99))

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
        assert ids(store.list_runs(RunFilter(), limit=2, newest=False)) == "ab"
        assert ids(store.unfinished("me")) == "ab"
        assert store.projects() == ["fraud"]

    def test_a_queued_run_is_shown_as_pending(self, store: Store) -> None:
        store.apply([new_sweep(), claimed("s"), new_child(1), new_child(2), new_child(3)])
        store.apply([claimed("c1", "me", "x", unit=0, queued=True), claimed("c2"), StatusNoted("c1", 1, "no room")])
        waiting, running = RunFilter(states=("pending",)), RunFilter(states=("running",), parent="s")

        record = store.get_run("c1")

        assert (record.state, record.is_claimed, record.queued) == (RunState.PENDING, True, True)
        assert (record.execution, record.unit, record.status, record.started) == ("x", 0, "no room", None)
        assert [run.id for run in store.list_runs(waiting, limit=9, newest=False)] == ["c1", "c3"]
        assert [run.id for run in store.list_runs(running, limit=9)] == ["c2"]
        assert (store.count_runs(waiting), store.count_runs(running)) == (2, 1)
        assert store.states(["c1"]) == {"c1": (RunState.PENDING, "me")}
        assert [row.state for row in store.children("s")] == ["pending", "running", "pending"]
        assert [row.run for row in store.children("s", states=(RunState.PENDING,))] == ["c1", "c3"]
        assert [row.run for row in store.children("s", states=(RunState.RUNNING,))] == ["c2"]
        assert store.child_counts("s") == {RunState.PENDING: 2, RunState.RUNNING: 1}
        assert store.running_children("s", "me", limit=9)[0] == 1
        assert [(attempt.state, attempt.unit) for attempt in store.attempts("c1")] == [("pending", 0)]
        store.apply([Started("c1", 1, 5.0)])
        record = store.get_run("c1")
        assert (record.state, record.queued, record.status, record.started) == (RunState.RUNNING, False, None, 5.0)

    def test_top_level_runs_have_no_parent(self, store: Store) -> None:
        store.apply([new_sweep(), claimed("s"), new_child(1)])

        assert [record.id for record in store.list_runs(RunFilter(top_level=True), limit=9)] == ["s"]
        assert [record.id for record in store.list_runs(RunFilter(parent="s"), limit=9)] == ["c1"]

    def test_pages_have_no_gap_or_repeat(self, store: Store) -> None:
        store.apply([submitted(f"{i:03d}") for i in range(25)])
        seen: list[str] = []
        before = None
        while page := store.list_runs(RunFilter(before=before), limit=7):
            seen += [record.id for record in page]
            before = page[-1].seq
            store.apply([submitted(f"new{len(seen)}")])  # one that comes meanwhile moves nothing

        assert seen == [f"{i:03d}" for i in reversed(range(25))]

    def test_the_best_come_first_and_nan_never(self, store: Store) -> None:
        values = {"a": 0.5, "b": math.nan, "c": 0.9, "d": math.inf, "e": 0.5, "f": -math.inf, "g": 10**400}
        for run, value in values.items():
            logged = OutputLogged(run, 1, output("acc", value)) if run == "g" else point(run, 1, "acc", 1, value, 3.0)
            store.apply([submitted(run), claimed(run), logged])
        store.apply(
            [
                submitted("h"),
                claimed("h"),
                Finished("h", 1, Outcome(RunState.SUCCEEDED, outputs=(output("acc", 0.7),)), 4.0),
            ]
        )

        assert ids(store.best_runs(RunFilter(), "acc", limit=99, highest=True)) == "chae"
        assert ids(store.best_runs(RunFilter(), "acc", limit=99, highest=False)) == "aehc"
        assert ids(store.best_runs(RunFilter(states=("running",)), "acc", limit=1, highest=True)) == "c"
        assert store.best_runs(RunFilter(), "loss", limit=9, highest=True) == []

    def test_a_run_is_resolved_by_first_digits(self, store: Store) -> None:
        store.apply([submitted("abc123"), submitted("abc456"), submitted("abcd"), submitted("ab")])

        assert store.resolve_run("abc1").id == "abc123"
        assert store.resolve_run("ABC4").id == "abc456"
        assert store.resolve_run("ab").id == "ab", "a whole id is not ambiguous"
        with pytest.raises(NotFoundError, match=r"several runs.*more digits"):
            store.resolve_run("abc")
        for nothing in ("abd", "", "x", "a%", "a_"):
            with pytest.raises(NotFoundError, match="mlfn runs"):
                store.resolve_run(nothing)

    def test_a_store_says_how_much_room_it_takes(self, store: Store) -> None:
        before = store.size()
        store.apply([submitted(f"r{i}", labels={"text": f"{i}" * 200}) for i in range(1000)])

        assert 0 < before < store.size()

    def test_states_of_many_runs_are_read_together(self, store: Store) -> None:
        store.apply([submitted(f"r{i}") for i in range(1100)])

        assert len(store.states([f"r{i}" for i in range(1200)])) == 1100
        assert store.known_runs(["r1", "nope"]) == {"r1"}

    def test_a_series_keeps_every_point_and_type(self, store: Store, running: str) -> None:
        values = [0.1, math.inf, -math.inf, math.nan, 0.0, 5e-324, 1.7976931348623157e308]
        store.apply([point("a", 1, "loss", i, value, 3.0 + i, number=i) for i, value in enumerate(values)])
        store.apply([point("a", 1, "acc", None, 1.0, 3.0)])

        points = store.series("a", 1, "loss")

        assert [step for step, _, _ in points] == list(range(7))
        assert [repr(value) for _, value, _ in points] == [repr(value) for value in values]
        assert store.metric_names("a", 1) == ["acc", "loss"]
        assert store.series("a", 1, "acc") == [(None, 1.0, 3.0)]

    @pytest.mark.parametrize("inline", [0, False, None, "", [], {}, 0.0, 10**400, "\u0000", 2**63])
    def test_an_inline_output_is_read_back_unchanged(self, store: Store, running: str, inline: object) -> None:
        store.apply([OutputLogged("a", 1, output("n", inline))])

        [found] = store.outputs("a", 1)
        assert found.inline == inline and type(found.inline) is type(inline)

    def test_a_short_series_is_read_whole(self, store: Store, running: str) -> None:
        store.apply([point("a", 1, "loss", i, value, i, number=i) for i, value in enumerate([3.0, math.nan, 1.0])])

        count, values = store.thinned_series("a", 1, "loss", most=3)

        assert (count, values[0], values[2]) == (3, 3.0, 1.0) and math.isnan(values[1])

    def test_a_thinned_series_keeps_the_last_point(self, store: Store, running: str) -> None:
        store.apply([MetricsLogged("a", 1, 0, tuple(("loss", i, float(i), i) for i in range(101)))])
        store.apply([MetricsLogged("a", 1, 101, tuple(("other", i, -1.0, i) for i in range(7)))])

        count, values = store.thinned_series("a", 1, "loss", most=10)

        assert (count, values) == (101, [float(number) for number in range(1, 101, 11)])
        assert values[-1] == 100.0

    def test_a_thinned_series_may_be_empty(self, store: Store) -> None:
        assert store.thinned_series("a", 1, "loss", most=10) == (0, [])
