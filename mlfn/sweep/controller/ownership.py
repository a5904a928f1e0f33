"""The lease of a sweep, which is its parent's attempt: one process drives it; another takes over when that one is dead."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mlfn.backends.registry import strategy_class
from mlfn.dispatch.inflight import InflightRun
from mlfn.dispatch.session import Session
from mlfn.dispatch.submit import stored_function, words
from mlfn.host.identity import identify, new_id, now
from mlfn.spec.plan import Plan
from mlfn.spec.record import Outcome, RunRecord, RunState
from mlfn.store.changes import Adopted, Claimed, FinishedUnstarted, Submitted, SweepClosed, SweepSubmitted
from mlfn.sweep.controller.child_factory import submitted_like
from mlfn.sweep.controller.driver import Driver
from mlfn.sweep.controller.loop import SweepSetup
from mlfn.sweep.controller.stored_checks import StoredCheck
from mlfn.sweep.params.encoding import PointCodec
from mlfn.sweep.spec import DRIVING, SweepBody
from mlfn.sweep.strategy import Strategy

logger = logging.getLogger(__name__)


def start_sweep(
    session: Session, submitted: Submitted, name: str | None, setup: SweepSetup, *, replaces: str | None = None
) -> tuple[RunRecord, InflightRun | None] | None:
    """Store a new sweep and drive it; None where another unfinished sweep than the one it `replaces` has its name."""
    session.register()
    claim = Claimed(submitted.run, session.id, None, now())
    added, attempt = session.store.apply([SweepSubmitted(submitted, name, setup.body.to_json(), replaces), claim])
    if not added:
        return None
    record = session.store.get_run(submitted.run)
    assert attempt == record.attempt
    return record, Driver(session, record, setup).start()


def resume_sweep(
    session: Session,
    record: RunRecord,
    strategy: Strategy | None = None,
    points: PointCodec | None = None,
    *,
    options: Mapping[str, Any] | None = None,
) -> InflightRun | None:
    """Become the driver of a sweep that has none; None when another process was quicker, or the sweep is over.

    `options` replace the driving ones, in the transaction that makes this client its driver.
    """
    if record.state is not RunState.PENDING or (record.owner != session.id and session.owner_lives(record.owner)):
        return None
    stored = SweepBody.from_json(session.store.get_sweep_body(record.id))
    body = stored if options is None else replace(stored, **{name: options[name] for name in DRIVING})
    changed = stored.changed_in(body, DRIVING)
    setup = _setup(session, record, body, strategy, points)
    session.register()
    if record.owner != session.id:
        [adopted] = session.store.apply([Adopted(record.id, session.id, record.owner or "", now())])
        if not adopted:
            return None
    claim = Claimed(record.id, session.id, None, now(), body=body.to_json() if changed else None)
    [attempt] = session.store.apply([claim])
    record = session.store.get_run(record.id)
    if not attempt:
        if record.cancel_requested and record.state is RunState.PENDING and record.owner == session.id:
            _cancel_undriven(session, record)
        return None
    if changed:
        differences = ", ".join(f"{name} {old!r} -> {new!r}" for name, (old, new) in changed.items())
        logger.warning("sweep %s (%s) goes on with other options: %s", record.name, record.id[:8], differences)
    return Driver(session, record, setup).start()


def repeat_sweep(session: Session, record: RunRecord) -> tuple[RunRecord, InflightRun | None]:
    """Submit a sweep that is over once more; children that succeeded are not run again."""
    body = replace(SweepBody.from_json(session.store.get_sweep_body(record.id)), after=record.id)
    submitted = submitted_like(record, session, record.params, run=new_id())
    started = start_sweep(session, submitted, None, _setup(session, record, body))
    assert started is not None  # it has no name that another could have
    return started


def find_driver(session: Session, record: RunRecord) -> str | None:
    """Return in words which living process drives a sweep."""
    for owner, host, pid, _, _ in session.store.clients():
        if owner == record.owner and session.owner_lives(owner):
            where = "this machine" if host == identify(os.getpid()).host else host
            return f"process {pid} on {where}"
    return None


def _setup(
    session: Session,
    record: RunRecord,
    body: SweepBody,
    strategy: Strategy | None = None,
    points: PointCodec | None = None,
) -> SweepSetup:
    """Return the setup of a stored sweep, with the strategy and checks of its stored code where none are given."""
    plan = session.store.get_plan(record.plan)
    points = points or _points(session, record, plan, body)
    if strategy is None:
        strategy = strategy_class(body.strategy["name"]).from_json(body.strategy["data"], points.decode)
    assert strategy is not None
    return SweepSetup(plan, body, strategy, points, lambda: stored_function(session, plan))


def _points(session: Session, record: RunRecord, plan: Plan, body: SweepBody) -> PointCodec:
    points = PointCodec(session.codec(), record.id, function=record.name, words=words(plan))
    points.check = StoredCheck(session, plan, body, points.decode)
    return points


def _cancel_undriven(session: Session, record: RunRecord) -> None:
    """End a sweep that was cancelled while it had no driver."""
    rows = session.store.children(record.id, states=(RunState.PENDING, RunState.RUNNING))
    readable = session.store.readable_runs([row.run for row in rows])
    for row in rows:
        if row.run not in readable:  # it cannot be resumed, nor stopped
            session.store.apply([FinishedUnstarted(row.run, Outcome(RunState.CANCELLED), now())])
            continue
        session.cancel(readable[row.run])
        inflight = session.inflight(row.run)
        if inflight is not None:
            inflight.done.wait()
    session.store.apply([FinishedUnstarted(record.id, Outcome(RunState.CANCELLED), now()), SweepClosed(record.id)])
