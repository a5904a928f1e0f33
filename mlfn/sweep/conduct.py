"""Who drives a sweep: become its driver, in this process, or say who is."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mlfn.client import Client
from mlfn.identity import identify, new_id, now
from mlfn.registry import strategy_class
from mlfn.spec.record import Outcome, RunRecord, RunState
from mlfn.store.changes import Adopted, Claimed, Submitted, SweepClosed, SweepSubmitted, Withdrawn
from mlfn.submission import stored_function, words
from mlfn.sweep.body import DRIVING, SweepBody
from mlfn.sweep.checking import StoredCheck
from mlfn.sweep.driver import Charge, Driver
from mlfn.sweep.encoding import PointCodec
from mlfn.sweep.strategy import Strategy
from mlfn.ticket import Ticket

logger = logging.getLogger(__name__)


def begin(
    client: Client, submitted: Submitted, name: str | None, charge: Charge
) -> tuple[RunRecord, Ticket | None] | None:
    """Store a new sweep and drive it; None where another one that is not over has its name."""
    client.register()
    claim = Claimed(submitted.run, client.id, None, None, now())
    added, attempt = client.store.apply([SweepSubmitted(submitted, name, charge.body.to_json()), claim])
    if not added:
        return None
    record = client.store.get_run(submitted.run)
    assert attempt == record.attempt
    return record, Driver(client, record, charge).start()


def conduct(
    client: Client,
    record: RunRecord,
    strategy: Strategy | None = None,
    points: PointCodec | None = None,
    *,
    options: Mapping[str, Any] | None = None,
) -> Ticket | None:
    """Become the driver of a sweep that has none; None when somebody else was quicker, or it is over.

    `options` say how it is driven from now on: they are stored in the transaction that makes this client its driver.
    """
    if record.state is not RunState.PENDING or (record.owner != client.id and client.owner_lives(record.owner)):
        return None
    stored = SweepBody.from_json(client.store.sweep_body(record.id))
    body = stored if options is None else stored.directed(options)
    changed = stored.changed_in(body, DRIVING)
    plan = client.store.plan(record.plan)
    points = points or _points(client, record, plan, body)
    chooser = strategy or strategy_of(body, points)
    client.register()
    if record.owner != client.id:
        [adopted] = client.store.apply([Adopted(record.id, client.id, record.owner or "", now())])
        if not adopted:
            return None
    claim = Claimed(record.id, client.id, None, None, now(), body=body.to_json() if changed else None)
    [attempt] = client.store.apply([claim])
    record = client.store.get_run(record.id)
    if not attempt:
        if record.cancel_requested and record.state is RunState.PENDING and record.owner == client.id:
            _call_off(client, record)
        return None
    if changed:
        said = ", ".join(f"{name} {old!r} -> {new!r}" for name, (old, new) in changed.items())
        logger.warning("sweep %s (%s) goes on with other options: %s", record.name, record.id[:8], said)
    charge = Charge(plan, body, chooser, points, lambda: stored_function(client, plan))
    return Driver(client, record, charge).start()


def strategy_of(body: SweepBody, points: PointCodec) -> Strategy:
    """Return the strategy of a stored sweep, nothing told yet."""
    strategy: Strategy = strategy_class(body.strategy["name"]).from_json(body.strategy["data"], points.decode)
    return strategy


def start_again(client: Client, record: RunRecord) -> tuple[RunRecord, Ticket | None]:
    """Submit a sweep that is over once more; children that succeeded are not run again."""
    stored = client.store.sweep_body(record.id)
    body = replace(SweepBody.from_json(stored), after=record.id)
    plan = client.store.plan(record.plan)
    points = _points(client, record, plan, body)
    submitted = Submitted(
        run=new_id(),
        name=record.name,
        project=record.project,
        function=record.function,
        plan=record.plan,
        place=record.place,
        owner=client.id,
        params=record.params,
        time=now(),
        labels=record.labels,
    )
    charge = Charge(plan, body, strategy_of(body, points), points, lambda: stored_function(client, plan))
    made = begin(client, submitted, None, charge)
    assert made is not None  # it has no name that another could have
    return made


def holder(client: Client, record: RunRecord) -> str | None:
    """Say which living process drives a sweep."""
    for owner, host, pid, _, _ in client.store.clients():
        if owner == record.owner and client.owner_lives(owner):
            where = "this machine" if host == identify(os.getpid()).host else host
            return f"process {pid} on {where}"
    return None


def _points(client: Client, record: RunRecord, plan: Mapping[str, Any], body: SweepBody) -> PointCodec:
    """Return a codec that checks by the code as it was stored."""
    points = PointCodec(client.codec(), record.id, function=record.name, words=words(plan))
    points.check = StoredCheck(client, plan, body, points.decode)
    return points


def _call_off(client: Client, record: RunRecord) -> None:
    """End a sweep that was cancelled while nobody drove it."""
    rows = client.store.children(record.id, states=(RunState.PENDING, RunState.RUNNING))
    readable = client.store.readable_runs([row.run for row in rows])
    for row in rows:
        if row.run not in readable:  # nobody can carry it on
            client.store.apply([Withdrawn(row.run, Outcome(RunState.CANCELLED), now())])
            continue
        client.cancel(readable[row.run])
        ticket = client.ticket(row.run)
        if ticket is not None:
            ticket.done.wait()
    client.store.apply([Withdrawn(record.id, Outcome(RunState.CANCELLED), now()), SweepClosed(record.id)])
