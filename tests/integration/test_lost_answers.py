"""A store that carries a transaction out and whose answer is lost on the way: what is done again is done once."""

from __future__ import annotations

import itertools

import mlfn
from mlfn.dispatch import dispatcher as dispatch
from mlfn.dispatch.session import current_session
from mlfn.errors import StorageError
from mlfn.spec.record import RunState


@mlfn.function
def train(n: int, ctx: mlfn.Context) -> int:
    for _ in range(3):
        ctx.log_metric("loss", 0.5)
    return n


def check(runs: list[mlfn.Run[int]]) -> None:
    assert [run.result(timeout=60) for run in runs] == list(range(len(runs)))
    for run in runs:
        assert run.metrics.history("loss") == [(None, 0.5)] * 3
        assert [item.state for item in run.attempts] == ["succeeded"]
        events = [what for _, _, what, _ in current_session().store.events(run.id)]
        assert events == ["submitted", "claimed", "succeeded"]
        assert run.state is RunState.SUCCEEDED


def test_a_batch_whose_answer_was_lost_is_applied_again_and_counts_once(local, monkeypatch):
    store = current_session().store
    apply = store.apply
    lost: list[list[object]] = []

    def lose(changes, *, cursors=None, client=None):
        answers = apply(changes, cursors=cursors, client=client)
        if client is not None and changes not in lost:  # a batch of the dispatcher, the first time
            lost.append(list(changes))
            raise StorageError("the answer was lost")
        return answers

    monkeypatch.setattr(dispatch, "_STORAGE_RETRY", 0.01)
    monkeypatch.setattr(store, "apply", lose)
    check([train.on("local", max_workers=1).submit(n) for n in range(4)])
    assert lost


def test_runs_go_on_over_a_server_whose_connections_break_during_commits(postgres_store_url, local, monkeypatch):
    import psycopg

    execute = psycopg.Connection.execute
    count, lost = itertools.count(), []

    def cut(connection, query, *args, **named):
        writes = query == b"COMMIT" or bytes(query).startswith(b"INSERT INTO runs (state")  # which commits by itself
        if not writes or next(count) % 3:
            return execute(connection, query, *args, **named)
        execute(connection, query, *args, **named)
        connection.pgconn.finish()
        lost.append(query)
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setenv("MLFN_STORE", postgres_store_url)
    mlfn.init()
    current_session()
    with monkeypatch.context() as breaking:
        breaking.setattr(psycopg.Connection, "execute", cut)
        check([train.submit(n) for n in range(6)])
    assert len(lost) > 4
