"""What PostgreSQL alone can go wrong with: connections, and commits that go unanswered."""

from __future__ import annotations

import pytest

from mlfn.errors import StorageError, StoreError
from mlfn.store import open_store
from mlfn.testing.store.base import StoreFixtures, claimed, events_of, point, state_of, submitted
from tests.contract.stores import OnPostgres


class TestPostgres(OnPostgres, StoreFixtures):
    def test_a_password_is_in_no_message(self, tmp_path):
        with pytest.raises(StoreError) as caught:
            open_store("postgresql://user:hunter2@127.0.0.1:1/nothing", tmp_path)

        assert "hunter2" not in str(caught.value) and "***" in str(caught.value)

    def test_a_broken_connection_is_made_again(self, store, another):
        [(pid,)] = store.connection.read("SELECT pg_backend_pid()")
        another.connection.read("SELECT pg_terminate_backend(?)", (pid,))

        with pytest.raises(StorageError, match="cannot be reached"):
            store.apply([submitted("a"), claimed("a")])
        assert store.apply([submitted("a"), claimed("a")]) == [1, 1]

    @pytest.fixture
    def unanswered(self, store, monkeypatch):
        """Return a function after which the next statement of a kind goes unanswered: how it does is its argument."""
        import psycopg

        execute = psycopg.Connection.execute
        lost: list[str] = []

        def cut(connection, query, *args, **named):
            if lost[-1] == "once" or not str(query)[2:].startswith(lost[0]):
                return execute(connection, query, *args, **named)
            if lost[-1] == "after it was carried out":
                execute(connection, query, *args, **named)
            if lost[-1] == "on a line that the server takes for open":
                half_open.append(connection)
                for engine in (store.connection.engine, store.connection._inserts):
                    if engine._connection is connection:
                        engine._connection = None
            else:
                connection.pgconn.finish()
            lost.append("once")
            raise psycopg.OperationalError("server closed the connection unexpectedly")

        half_open: list[psycopg.Connection] = []

        def arm(how, statement="COMMIT"):
            lost.extend([statement, how])
            monkeypatch.setattr(psycopg.Connection, "execute", cut)
            return lost

        yield arm
        for connection in half_open:
            connection.close()

    def test_a_commit_with_a_lost_answer_is_found(self, store, unanswered):
        store.apply([submitted("a")])
        lost = unanswered("after it was carried out")

        assert store.apply([claimed("a"), point("a", 1, "loss", 1, 0.5, 3.0)]) == [1, 1]
        assert lost[-1] == "once"
        assert events_of(store) == ["submitted", "claimed"]
        assert store.series("a", 1, "loss") == [(1, 0.5, 3.0)]

    @pytest.mark.parametrize("how", ["before it arrived", "on a line that the server takes for open"])
    def test_a_commit_that_never_arrived_is_undone(self, store, another, unanswered, how):
        store.apply([submitted("a")])
        unanswered(how)

        with pytest.raises(StorageError, match="closed the connection"):
            store.apply([claimed("a")])
        assert state_of(store) == "pending"
        assert another.apply([claimed("a")]) == [1], "nothing of it is locked any more"

    @pytest.mark.parametrize(
        "how", ["after it was carried out", "before it arrived", "on a line that the server takes for open"]
    )
    def test_a_submit_with_a_lost_answer_is_stored(self, store, unanswered, how):
        store.apply([submitted("a")])
        lost = unanswered(how, "INSERT INTO runs")

        assert store.apply([submitted("b")]) == [1]
        assert lost[-1] == "once"
        assert state_of(store, "b") == "pending"

    def test_a_server_that_stays_away_is_an_error(self, store, unanswered, monkeypatch):
        import psycopg

        from mlfn.store.sql import postgres

        def refuse(*_: object, **__: object) -> None:
            raise psycopg.OperationalError("connection refused")

        store.apply([submitted("earlier"), claimed("earlier")])  # by the connection that goes away
        monkeypatch.setattr(postgres, "_PATIENCE", 0.0)
        unanswered("after it was carried out")
        with monkeypatch.context() as away:
            away.setattr(psycopg, "connect", refuse)
            with pytest.raises(StorageError, match="it is unknown whether that was written"):
                store.apply([submitted("a"), claimed("a")])
        assert store.apply([submitted("a")]) == [0]
