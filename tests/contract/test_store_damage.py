"""A row that cannot be read hurts what asks for that very row, and nothing else."""

from __future__ import annotations

import json
import math
import os

import pytest

from mlfn.errors import StoreCorruptError
from mlfn.host.identity import identify
from mlfn.spec.plan import Plan
from mlfn.spec.record import Outcome, Output, RunState
from mlfn.store.changes import ChildStarted, Finished, OutputLogged
from mlfn.store.queries import RunFilter
from mlfn.testing.store.base import (
    PLAN,
    StoreFixtures,
    claimed,
    created,
    ids,
    new_child,
    new_sweep,
    output,
    point,
    submitted,
)
from tests.contract.stores import OnPostgres, OnSqlite, WithDamage, damage


def seq_of(store, run):
    return store.connection.read("SELECT seq FROM runs WHERE id = ?", (run,))[0][0]


class DamageSuite(WithDamage, StoreFixtures):
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
    def test_an_unreadable_row_fails_its_own_query_alone(self, store, warnings, column, value):
        store.apply([submitted(run) for run in "abc"])
        damage(store, "runs", column, value, "id = 'b'")
        if column == "state":
            value = "'flying'"  # as the message shows it

        for ask in (store.get_run, store.resolve_run):
            with pytest.raises(
                StoreCorruptError, match=rf"run 'b' cannot be read \(runs\.{column}: .*copy, .*: mlfn gc --broken b$"
            ):
                ask("b")
        assert warnings() == []
        for _ in range(3):
            assert ids(store.list_runs(RunFilter(), limit=9)) == "ca"
            assert ids(store.list_runs(RunFilter(), limit=2)) == "ca"
            assert ids(store.list_runs(RunFilter(), limit=2, newest=False)) == "ac"
        assert list(store.readable_runs(["c", "b", "a", "z"])) == ["c", "a"]
        [said] = warnings()  # once in a process
        assert f"run 'b' cannot be read (runs.{column}: " in said
        survey = store.survey()
        assert (survey.runs, [(fault.run, fault.column) for fault in survey.faults]) == (3, [("b", column)])
        assert [fault.column for fault in store.faults_of("b")] == [column]
        assert store.faults_of("a") == []

    def test_an_unexpected_null_is_unreadable(self, store, warnings):
        store.apply([submitted(run) for run in "abc"])
        for column in ("params", "created", "attempt", "name"):
            self.allow_null(store, column)
            [(kept,)] = store.connection.read(f"SELECT {column} FROM runs WHERE id = 'b'")
            damage(store, "runs", column, None, "id = 'b'")

            with pytest.raises(StoreCorruptError, match=rf"run 'b' .*runs\.{column}: NULL is not"):
                store.get_run("b")
            assert ids(store.list_runs(RunFilter(), limit=9)) == "ca"
            damage(store, "runs", column, kept, "id = 'b'")
        assert ids(store.list_runs(RunFilter(), limit=9)) == "cba"
        assert len(warnings()) == 4

    def test_a_process_warns_of_twenty_rows_at_most(self, store, warnings):
        store.apply([submitted(f"r{i}") for i in range(50)])
        damage(store, "runs", "params", "{", "id <> 'r7'")

        assert ids(store.list_runs(RunFilter(), limit=3)) == "r7"
        assert len(warnings()) == 21
        assert "mlfn doctor" in warnings()[-1]

    def test_an_unreadable_child_is_skipped_and_keeps_its_iteration(self, store, warnings):
        store.apply([new_sweep(), claimed("s"), new_child(1), new_child(2), new_child(3)])
        for column, value in (("point", "{"), ("failure", "[1]"), ("state", "flying")):
            [(kept,)] = store.connection.read(f"SELECT {column} FROM runs WHERE id = 'c2'")
            damage(store, "runs", column, value, "id = 'c2'")

            assert [row.run for row in store.children("s")] == ["c1", "c3"]
            assert [row.run for row in store.children_at("s", [3, 2])] == ["c3"]
            with pytest.raises(StoreCorruptError, match=rf"run 'c2' .*runs\.{column}"):
                store.children("s", strict=True)
            assert sum(store.child_counts("s").values()) == 3 - (column == "state")
            assert ("c2" in store.states(["c1", "c2"])) == (column != "state")
            assert store.known_runs(["c1", "c2"]) == {"c1", "c2"}
            assert (store.last_iteration("s"), store.child_at("s", 2)) == (3, "c2")
            damage(store, "runs", column, kept, "id = 'c2'")

    def test_an_unreadable_run_needs_its_client(self, store, warnings):
        store.apply([submitted("a")])
        damage(store, "runs", "params", "{")

        assert (store.unfinished("me"), store.is_needed("me")) == ([], True)
        store.remove_unreadable("a", with_parts=[])
        assert not store.is_needed("me")

    @pytest.mark.parametrize("inline", ["{", None])
    def test_an_unreadable_output_is_named(self, store, running, inline):
        store.apply([OutputLogged("a", 1, output("n", 5))])
        damage(store, "outputs", "inline", inline)

        with pytest.raises(StoreCorruptError, match=r"The output 'n' of run 'a' .*outputs\.inline.*gc --broken a$"):
            store.outputs("a", 1)
        assert [fault.table for fault in store.faults_of("a")] == ["outputs"]
        assert [fault.table for fault in store.survey().faults] == ["outputs"]

    def test_an_unreadable_description_of_a_sweep_is_named(self, store):
        store.apply([new_sweep()])
        damage(store, "sweeps", "body", "[1]")

        with pytest.raises(StoreCorruptError, match=r"The description of run 's' .*sweeps\.body"):
            store.get_sweep_body("s")
        assert [fault.table for fault in store.survey().faults] == ["sweeps"]

    def test_an_unreadable_constraint_is_violated(self, store):
        store.apply([new_sweep(), claimed("s"), new_child(1), claimed("c1")])
        store.apply([OutputLogged("c1", 1, Output("cost", "constraint", "json", "float", inline=-1.0))])
        assert store.constraints_among(["c1"]) == {"c1": {"cost": -1.0}}
        damage(store, "outputs", "inline", "{")

        assert store.constraints_among(["c1"]) == {"c1": {"cost": math.inf}}

    @pytest.mark.parametrize("body", ["{", "[1]"])
    def test_an_unreadable_plan_is_repaired_by_storing_it(self, store, warnings, body):
        store.add_plan("p", function="f", body=json.dumps(PLAN))
        store.add_function("f", project="p", name="n", spec='{"a": 1}', time=1.0)
        assert store.payload_digests() == {"x"}
        damage(store, "plans", "body", body)
        damage(store, "functions", "spec", body)

        with pytest.raises(StoreCorruptError, match=r"plan p cannot be read.*submit the same function"):
            store.get_plan("p")
        with pytest.raises(StoreCorruptError, match=r"function version f cannot be read"):
            store.get_function("f")
        assert store.payload_digests() is None
        store.add_plan("p", function="f", body=json.dumps(PLAN))
        store.add_function("f", project="p", name="n", spec='{"a": 1}', time=2.0)
        assert (store.get_plan("p"), store.get_function("f")) == (Plan.of_body(PLAN, hash="p"), {"a": 1})

    def test_an_unreadable_run_is_removed_with_its_parts(self, store):
        store.apply([new_sweep(), claimed("s"), new_child(1), new_child(2), submitted("a"), claimed("a")])
        store.apply([ChildStarted("p", "a", 1, {}, 3.0)])
        damage(store, "runs", "state", "flying", "id IN ('s', 'a')")

        assert store.parts_of("a") == ["p"]
        store.remove_unreadable("a", with_parts=["p"])
        store.remove_unreadable("s", with_parts=[])

        assert [run.id for run in store.list_runs(RunFilter(top_level=True), limit=9)] == ["c2", "c1"]
        for table in ("attempts", "events", "sweeps", "labels"):
            key = "id" if table == "sweeps" else "seq"
            rows = store.connection.read(f"SELECT count(*) FROM {table} WHERE run NOT IN (SELECT {key} FROM runs)")
            assert rows == [(0,)]


class TestSqliteDamage(OnSqlite, DamageSuite):
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
    def test_a_value_of_another_type_is_unreadable(self, store, warnings, column, value):
        store.apply([submitted(run) for run in "abc"])
        damage(store, "runs", column, value, "id = 'b'")

        with pytest.raises(StoreCorruptError, match=rf"run 'b' .*runs\.{column}: .* is not "):
            store.get_run("b")
        assert ids(store.list_runs(RunFilter(), limit=9)) == "ca"
        assert len(warnings()) == 1

    def test_text_that_is_not_utf_8_is_unreadable(self, store, warnings):
        store.apply([submitted(run) for run in "abc"])
        with store.connection.writing() as engine:
            engine.execute("UPDATE runs SET name = CAST(X'74FF' AS TEXT) WHERE id = 'b'")

        with pytest.raises(StoreCorruptError, match=r"run 'b' .*runs\.name: b't\\xff' is not text"):
            store.get_run("b")
        assert ids(store.list_runs(RunFilter(), limit=9)) == "ca"
        assert store.get_run("a").name == "train"

    def test_text_for_a_number_is_left_out(self, store, warnings):
        for number, run in enumerate("abc", 1):
            end = Finished(run, 1, Outcome(RunState.SUCCEEDED), 4.0)
            store.apply([new_sweep()] if run == "a" else [])
            store.apply([claimed("s"), submitted(run, parent="s", iteration=number), claimed(run)])
            store.apply([point(run, 1, "l", 0, float(number), 3.0), end])
        damage(store, "metrics", "value", "zz", f"run = {seq_of(store, 'b')}")
        damage(store, "scores", "value", "zz", f"run = {seq_of(store, 'b')}")

        for ask in (
            lambda: store.series("b", 1, "l"),
            lambda: store.thinned_series("b", 1, "l", most=9),
            lambda: store.scores("b"),
        ):
            with pytest.raises(
                StoreCorruptError, match=r"of run 'b' cannot be read \((metrics|scores)\.value: 'zz' is not"
            ):
                ask()
        assert ids(store.best_runs(RunFilter(), "l", limit=9, highest=True)) == "ca"
        assert store.values_by_end("s", "l") == [1.0, 3.0]
        assert store.scores_among(["a", "b"]) == {"a": {"l": 1.0}, "b": {}}
        assert store.series_among(["a", "b"], "l") == {"a": [(0, 1.0)], "b": []}
        assert store.extremes_among(["a", "b"], "l") == {"a": (1.0, 1.0)}
        assert {fault.table for fault in store.survey().faults} == {"metrics", "scores"}

    def test_an_unreadable_client_or_execution_is_skipped(self, store, warnings):
        me = identify(os.getpid())
        for client in ("me", "you"):
            store.register_client(client, me, time=1.0)
            store.apply([created(f"w-{client}", client)])
        damage(store, "clients", "beat", "abc", "id = 'you'")
        damage(store, "executions", "units", "abc", "id = 'w-you'")

        assert [row[0] for row in store.clients()] == ["me"]
        assert [row.id for row in store.executions()] == ["w-me"]
        assert store.execution_ids() == {"w-me", "w-you"}
        assert store.is_needed("you")


class TestPostgresDamage(OnPostgres, DamageSuite):
    pass
