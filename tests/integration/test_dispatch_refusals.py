"""One value that a store cannot take holds up no other run; a client that was considered dead lets go."""

from __future__ import annotations

import os
from pathlib import Path

import mlfn
from mlfn import errors
from mlfn.dispatch.session import current_session
from mlfn.host.identity import identify, now
from mlfn.spec.record import Outcome, RunState
from mlfn.store.changes import Finished
from mlfn.store.sql.commands.changes import APPLIERS
from tests.ledger import wait_until


@mlfn.function
def value() -> int:
    return 7


def test_a_metric_that_no_store_can_take_is_left_out(local, caplog):
    @mlfn.function
    def log(ctx: mlfn.Context) -> int:
        ctx.log_metric("good", 1.0)
        ctx.reporter.metric("bad", 2**80, 1.0)  # what `log_metric` itself would refuse
        return 7

    run = log.submit()

    assert run.result(timeout=30) == 7
    assert dict(run.metrics) == {"good": 1.0}
    assert "the store cannot take" in caplog.text
    assert value.submit().result(timeout=30) == 7


def test_an_outcome_that_no_store_can_take_fails_its_run_alone(local, monkeypatch):
    plain = APPLIERS[Finished]

    def refuse(engine, changes):
        if any(change.outcome.returns == {"keys": ["poison"]} for change in changes):
            raise OverflowError("too large")
        return plain(engine, changes)

    monkeypatch.setitem(APPLIERS, Finished, refuse)

    @mlfn.function
    @mlfn.handler(outputs=["poison"])
    def poison() -> int:
        return 1

    bad, good = poison.submit(), value.submit()

    assert good.result(timeout=30) == 7
    error = bad.exception(timeout=30)
    assert isinstance(error, errors.StoreError)
    assert "too large" in str(error)
    assert str(bad.record.reason) == "storage"


def test_a_client_considered_dead_lets_go(local, tmp_path, caplog):
    @mlfn.function
    def slow(mark: str, go: str, ctx: mlfn.Context) -> int:
        Path(mark).touch()
        while not Path(go).exists():
            pass
        ctx.log_metric("loss", 1.0)
        return 1

    mark, go = tmp_path / "mark", tmp_path / "go"
    run = slow.on("local", max_workers=1).submit(str(mark), str(go))
    wait_until(mark.exists)
    store = current_session().store
    store.register_client("other", identify(os.getpid()), time=now())
    with store.connection.writing() as engine:
        engine.execute("UPDATE executions SET client = 'other' WHERE id = ?", (run.record.execution,))
        engine.execute("UPDATE runs SET owner = 'other' WHERE id = ?", (run.id,))
    go.touch()

    wait_until(lambda: current_session().inflight(run.id) is None)
    assert "considered this one dead" in caplog.text
    assert run.state is RunState.RUNNING, "its end is for the other to record"
    assert dict(run.metrics) == {}
    assert value.submit().result(timeout=30) == 7
    with store.connection.writing() as engine:
        engine.execute("DELETE FROM executions WHERE client = 'other'")
    store.apply([Finished(run.id, 1, Outcome(RunState.CANCELLED), now())])
    assert run.wait(10)
