"""Stores are shared by threads, processes and forked children."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from mlfn.errors import StoreVersionError
from mlfn.store import open_store
from mlfn.store.queries import RunFilter
from mlfn.testing.store.base import StoreFixtures, ids, state_of, submitted
from tests.contract.stores import OnPostgres, OnSqlite, count_rows, in_a_fork
from tests.ledger import ROOT


class ConnectionSuite(StoreFixtures):
    def test_a_store_of_a_newer_version_is_refused(self, store, url, tmp_path):
        with store.connection.writing() as engine:
            engine.execute("UPDATE meta SET version = 99")

        with pytest.raises(StoreVersionError, match=r"schema 99.*update mlfn"):
            open_store(url, tmp_path / "data")

    def test_processes_may_open_a_new_store_together(self, opener, url, tmp_path):
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
        assert count_rows(opener(), "meta") == 1

    def test_a_forked_child_has_its_own_connection(self, store):
        store.apply([submitted("a")])

        code = in_a_fork(lambda: store.apply([submitted("b")]) == [1] and state_of(store) == "pending")

        assert code == 0
        assert store.apply([submitted("c")]) == [1]
        assert ids(store.list_runs(RunFilter(), limit=9)) == "cba"

    def test_a_fork_waits_for_another_threads_transaction(self, store):
        inside, leave = threading.Event(), threading.Event()

        def write() -> None:
            with store.connection.writing() as engine:
                engine.execute("INSERT INTO labels (key, value, run) VALUES ('k', 'v', 1)")
                inside.set()
                leave.wait(10)

        thread = threading.Thread(target=write)
        thread.start()
        inside.wait(10)
        threading.Timer(0.2, leave.set).start()

        code = in_a_fork(lambda: store.apply([submitted("b")]) == [1])

        thread.join(10)
        assert code == 0
        assert store.connection.read("SELECT count(*) FROM labels") == [(1,)]


class TestSqliteConnections(OnSqlite, ConnectionSuite):
    pass


class TestPostgresConnections(OnPostgres, ConnectionSuite):
    pass
