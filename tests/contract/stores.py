"""Our two databases, for the suites that run on both."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pytest

from mlfn.store import open_store, rows
from tests.ledger import ROOT


class OnSqlite:
    """Fixtures of a store in a file."""

    @pytest.fixture
    def url(self):
        return ""

    @pytest.fixture
    def opener(self, url, tmp_path):
        return lambda: open_store(url, tmp_path / "data")

    def allow_null(self, store, column):
        """Let a column of `runs` be NULL that never is."""
        with store.connection.writing() as engine:
            engine.execute("PRAGMA writable_schema = ON")
            engine.execute(
                "UPDATE sqlite_master SET sql = replace(replace(sql, ?, ?), ?, ?) WHERE name = 'runs'",
                (f"{column} TEXT NOT NULL", f"{column} TEXT", f"{column} REAL NOT NULL", f"{column} REAL"),
            )
            engine.execute(
                "UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE name = 'runs'",
                (f"{column} INTEGER NOT NULL", f"{column} INTEGER"),
            )
        store.close()  # the schema is read anew


class OnPostgres(OnSqlite):
    """Fixtures of a store in an empty database of a server."""

    @pytest.fixture
    def url(self, postgres_store_url):
        return postgres_store_url

    def allow_null(self, store, column):
        with store.connection.writing() as engine:
            engine.execute(f"ALTER TABLE runs ALTER COLUMN {column} DROP NOT NULL")


class WithDamage:
    """Fixtures for rows that cannot be read."""

    @pytest.fixture
    def warnings(self, monkeypatch, caplog):
        """Return the warnings about rows that are left out, as if there had been none in this process before."""
        monkeypatch.setattr(rows, "_warned", set())
        return lambda: [record.getMessage() for record in caplog.records if record.name == "mlfn.store.rows"]


def damage(store, table, column, value, where="1 = 1"):
    with store.connection.writing() as engine:
        changed = engine.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (value,)).rowcount
    assert changed >= 1


def count_rows(store, table):
    try:
        return int(store.connection.read(f"SELECT count(*) FROM {table}")[0][0])
    finally:
        store.close()


def run_script(script):
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


def in_a_fork(check):
    """Return the exit code of a forked child that does `check`."""
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
