"""What a client finds of another one that is dead."""

from __future__ import annotations

import pytest

import mlfn
from mlfn.dispatch.session import current_session
from mlfn.host.identity import ProcessIdentity, this_host
from mlfn.spec.record import RunState
from mlfn.store.changes import Claimed, ExecutionCreated, Submitted

DEAD = ProcessIdentity(this_host(), 2**22 + 1, "1")  # beyond the system's highest pid


def seven() -> int:
    return 7


def test_a_run_at_a_missing_place_is_left(home: object, caplog: pytest.LogCaptureFixture) -> None:
    session = current_session()
    session.store.register_client("dead", DEAD, time=1.0)
    known = mlfn.function(seven).on("inline").submit().record
    new = Submitted("a" * 32, "seven", "default", known.function, known.plan, "elsewhere", "dead", {}, 1.0)
    created = ExecutionCreated("e", "dead", "elsewhere", "", {"name": "job-1"})
    session.store.apply([new, created, Claimed(new.run, "dead", "e", 1.0)])

    session.reconcile()
    session.reconcile()

    assert session.store.get_run(new.run).state is RunState.RUNNING
    assert [row.id for row in session.store.executions("dead")] == ["e"]
    assert caplog.text.count("No place is called 'elsewhere'") == 1
