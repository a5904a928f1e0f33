"""What an earlier version stored is what this one reads, in either database."""

from __future__ import annotations

import sqlite3
import sys
import tarfile
from contextlib import closing

import pytest

from mlfn.store.queries import RunFilter
from mlfn.store.sql import connection, migration
from mlfn.store.sql.engine import migrations
from mlfn.testing.store.base import claimed, ids, submitted
from tests.contract.stores import OnPostgres, OnSqlite
from tests.ledger import ROOT

ARCHIVE = ROOT / "tests/data/upgrade/0.2" / f"py{sys.version_info[0]}{sys.version_info[1]}.tar.xz"
SCHEMA = 5  # of that version
TABLES = ("functions", "plans", "clients", "workers", "runs", "labels", "attempts", "outputs", "metrics", "scores", "events",
          "sweeps", "tags")  # fmt: skip


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """Return the database of that version."""
    path = tmp_path_factory.mktemp("earlier") / "mlfn.db"
    with tarfile.open(ARCHIVE) as archive:
        path.write_bytes(archive.extractfile("data/mlfn.db").read())
    with closing(sqlite3.connect(path)) as database:
        yield database


class MigrationSuite:
    @pytest.fixture
    def store(self, opener, earlier, monkeypatch):
        """Open a store that was made with the earlier schema and has all rows of that version."""
        scripts = migrations()[:SCHEMA]
        with monkeypatch.context() as then:
            for module in (connection, migration):
                then.setattr(module, "migrations", lambda: scripts)
            store = opener()
        with store.connection.writing() as engine:
            for table in TABLES:
                rows = earlier.execute(f"SELECT * FROM {table}")
                columns = [name for name, *_ in rows.description]
                marks = ", ".join("?" * len(columns))
                given = "OVERRIDING SYSTEM VALUE " if "seq" in columns and "postgres" in engine.label else ""
                for row in rows:
                    engine.execute(f"INSERT INTO {table} ({', '.join(columns)}) {given}VALUES ({marks})", row)
        store.close()
        store = opener()
        yield store
        store.close()

    def test_each_run_keeps_its_history(self, store, earlier):
        runs = [run for (run,) in earlier.execute("SELECT id FROM runs ORDER BY seq")]

        assert [record.id for record in store.list_runs(RunFilter(), limit=999, newest=False)] == runs
        for run in runs:
            events = "SELECT time, attempt, what, detail FROM events WHERE run = ? ORDER BY seq"
            assert store.events(run) == earlier.execute(events, (run,)).fetchall()

    def test_each_attempt_is_what_it_was(self, store, earlier):
        for (run,) in earlier.execute("SELECT id FROM runs").fetchall():
            columns = "attempt, worker, started, ended, state, reason, failure"
            attempts = f"SELECT {columns} FROM attempts WHERE run = ? ORDER BY attempt"
            assert [
                (item.attempt, item.execution, item.started, item.ended, item.state, item.reason, item.failure)
                for item in store.attempts(run)
            ] == earlier.execute(attempts, (run,)).fetchall()

    def test_what_attempts_logged_is_there(self, store, earlier):
        for run, attempt in earlier.execute("SELECT id, attempt FROM runs").fetchall():
            where = "WHERE run = ? AND attempt = ?"
            names = earlier.execute(f"SELECT DISTINCT name FROM metrics {where} ORDER BY name", (run, attempt))
            assert store.metric_names(run, attempt) == [name for (name,) in names]
            for name in store.metric_names(run, attempt):
                points = f"SELECT step, value, time FROM metrics {where} AND name = ? ORDER BY rowid"
                assert store.series(run, attempt, name) == earlier.execute(points, (run, attempt, name)).fetchall()
            scores = earlier.execute("SELECT name, value FROM scores WHERE run = ?", (run,))
            assert store.scores(run) == dict(scores.fetchall())
            keys = earlier.execute(f"SELECT key FROM outputs {where} ORDER BY key", (run, attempt)).fetchall()
            assert [output.key for output in store.outputs(run, attempt)] == [key for (key,) in keys]
        assert store.faults_of(run) == []

    def test_labels_find_the_same_runs(self, store, earlier):
        labels = earlier.execute("SELECT DISTINCT key, value FROM labels").fetchall()
        for key, value in labels:
            found = store.list_runs(RunFilter(labels={key: value}), limit=999)
            runs = earlier.execute("SELECT run FROM labels WHERE key = ? AND value = ?", (key, value))
            assert {record.id for record in found} == {run for (run,) in runs}
        assert labels

    def test_workers_are_executions_of_the_local_place(self, store, earlier):
        workers = earlier.execute("SELECT id, client, host, pid, started, folder, consumed FROM workers").fetchall()

        for row in store.executions():
            handle = row.handle
            found = (row.id, row.client, handle["host"], handle["pid"], handle["started"], handle["folder"])
            assert (*found, int(row.cursor)) in workers
            assert (row.place, row.target, row.units) == ("local", "", 1)
        assert len(store.executions()) == len(workers) > 0

    def test_new_runs_follow_the_old_ones(self, store):
        last = store.list_runs(RunFilter(), limit=1)[0]
        assert store.apply([submitted("new"), claimed("new")]) == [1, 1]

        assert store.get_run("new").seq > last.seq
        assert ids(store.list_runs(RunFilter(), limit=1)) == "new"


class TestSqliteMigration(OnSqlite, MigrationSuite):
    pass


class TestPostgresMigration(OnPostgres, MigrationSuite):
    pass
