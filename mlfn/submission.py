"""From a call to a stored run: parameters packed, function and plan kept, the run handed to its place."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mlfn import settings as settings_module
from mlfn.client import Client
from mlfn.codec import Codec
from mlfn.dispatch import Ticket
from mlfn.errors import ParameterError, nearest
from mlfn.execution import Calling, Task, execute, resolve_secrets
from mlfn.identity import new_id, now
from mlfn.inputs import DataItem
from mlfn.planner import Plan, as_text
from mlfn.registry import place_class
from mlfn.spec.canonical import canonical
from mlfn.spec.record import Outcome, Output, Reason, RunRecord, RunState
from mlfn.store.changes import (
    Change,
    Claimed,
    Finished,
    MetricLogged,
    OutputLogged,
    Progressed,
    Requeued,
    Started,
    Submitted,
)
from mlfn.store.sql import SqlStore
from mlfn.verdict import retry_of, waits_before_retry

Submission = tuple[RunRecord, Ticket | None]  # what was stored, and the ticket of what still runs
logger = logging.getLogger("mlfn")
_told: set[str] = set()


def submit(
    client: Client, plan: Plan, payload: bytes, function: Callable[..., Any], params: Mapping[str, Any]
) -> Submission:
    """Store a new run of `plan` and start it; inline, return when it is over."""
    client.register()
    client.once(plan.hash, lambda: _keep(client, plan, payload))
    submitted = _submitted(client, plan.hash, plan.body, params, labels=plan.spec.get("labels", {}))
    return _start(client, submitted, plan.body, lambda: function)


def resubmit(client: Client, record: RunRecord, params: Mapping[str, Any]) -> Submission:
    """Submit a stored run's function version again, some parameters changed."""
    body = client.store.plan(record.plan)
    for name in params:
        if name not in body["accepts"] and body["shape"]["varkw"] is None:
            raise ParameterError(f"{record.name}() has no parameter {name!r}: {nearest(name, body['accepts'])}")
    client.register()
    submitted = _submitted(client, record.plan, body, params, labels=record.labels, same=record.params)
    return _start(client, submitted, body, lambda: _stored_function(client, body))


def tell_limits(plan: Plan, large: Iterable[tuple[str, int]]) -> None:
    """Say once what this place does not do for this function, and what of its code is large."""
    for path, size in large:
        if f"large {path}" not in _told:
            _told.add(f"large {path}")
            logger.warning("%s (%.1f MiB) travels with the code: pass it as a parameter instead", path, size / 2**20)
    place, name = plan.body["place"]["name"], plan.name
    if plan.body["image"] and f"image {name}" not in _told:
        _told.add(f"image {name}")
        logger.warning(
            "%s asks for the image %s: on=%r runs it without, in this Python", name, plan.body["image"], place
        )
    if plan.spec.get("node") and f"node {name}" not in _told:
        _told.add(f"node {name}")
        logger.warning("%s asks for a node: on=%r has one machine only", name, place)


def _keep(client: Client, plan: Plan, payload: bytes) -> None:
    client.keep_payload(plan.body["payload"], payload)
    client.store.add_function(
        plan.function, project=plan.project, name=plan.name, spec=canonical(plan.spec), time=now()
    )
    client.store.add_plan(plan.hash, function=plan.function, body=as_text(plan))


def _submitted(
    client: Client,
    digest: str,
    body: Mapping[str, Any],
    params: Mapping[str, Any],
    *,
    labels: Mapping[str, str],
    same: Mapping[str, Any] | None = None,
) -> Submitted:
    run = new_id()
    codec = client.codec()
    encoded = {**(same or {}), **{name: _encoded(codec, run, name, value) for name, value in params.items()}}
    return Submitted(
        run=run,
        name=body["name"],
        project=body["project"],
        function=body["function"],
        plan=digest,
        place=body["place"]["name"],
        owner=client.id,
        params=encoded,
        time=now(),
        labels=labels,
    )


def _encoded(codec: Codec, run: str, name: str, value: Any) -> dict[str, Any]:
    if getattr(value, "__mlfn_reference__", False):
        return {"output": {"run": value.run.id, "key": value.key}}
    if isinstance(value, DataItem):
        return {"input": value.url, "as": value.type}
    return codec.encode(run, name, value)


def _start(
    client: Client, submitted: Submitted, body: Mapping[str, Any], load: Callable[[], Callable[..., Any]]
) -> Submission:
    place = body["place"]
    if place_class(place["name"]).runs_in_caller:
        _run_here(client, submitted, body, load)
        return client.store.get_run(submitted.run), None
    ticket = client.dispatcher(place["name"], place["options"]).submit(submitted, body)
    return _record(submitted), ticket


def _record(submitted: Submitted) -> RunRecord:
    return RunRecord(
        id=submitted.run,
        name=submitted.name,
        project=submitted.project,
        function=submitted.function,
        plan=submitted.plan,
        place=submitted.place,
        state=RunState.PENDING,
        attempt=0,
        params=submitted.params,
        created=submitted.time,
        owner=submitted.owner,
        labels=submitted.labels,
    )


def _stored_function(client: Client, body: Mapping[str, Any]) -> Callable[..., Any]:
    from mlfn.payload import unpack

    function: Callable[..., Any] = unpack((client.folder / "payloads" / body["payload"]).read_bytes(), key=client.key)
    return function


class StoreChannel:
    """Reports of a run in this very process: straight into the store."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._first: list[Change] = []
        self.outcome: Outcome | None = None

    def send(self, event: Mapping[str, Any]) -> None:
        run, attempt, moment = event["run"], event["attempt"], event["time"]
        if event["event"] == "started":
            self._first.append(Started(run, attempt, moment))  # goes with the next: one transaction less
        elif event["event"] == "metric":
            self._apply(MetricLogged(run, attempt, event["name"], event["step"], event["value"], moment))
        elif event["event"] == "output":
            self._apply(OutputLogged(run, attempt, Output(**event["output"])))
        elif event["event"] == "progress":
            self._apply(Progressed(run, attempt, event["progress"]))

    def finish(self, change: Change) -> None:
        """Record the end of the attempt."""
        self._apply(change)

    def _apply(self, change: Change) -> None:
        self._store.apply([*self._first, change])
        self._first = []


def _run_here(
    client: Client, submitted: Submitted, body: Mapping[str, Any], load: Callable[[], Callable[..., Any]]
) -> None:
    client.register()
    claim = Claimed(submitted.run, client.id, None, None, now())
    attempt = client.store.apply([submitted, claim])[1]
    retries = 0
    while True:
        wait = _attempt_here(client, submitted, body, load, attempt, retries)
        if wait is None:
            return
        retries += 1
        time.sleep(wait)
        attempt = client.store.apply([claim])[0]
        if not attempt:
            return


def _attempt_here(
    client: Client,
    submitted: Submitted,
    body: Mapping[str, Any],
    load: Callable[[], Callable[..., Any]],
    attempt: int,
    retries: int,
) -> float | None:
    task = Task(submitted.run, attempt, submitted.params, submitted.labels)
    calling = Calling.of(body)
    values: dict[str, str] = {}

    def load_with_secrets() -> Callable[..., Any]:
        values.update(resolve_secrets(calling.secrets, os.environ, settings_module.secrets_file()))
        return load()

    channel = StoreChannel(client.store)
    codec = client.codec()
    outcome = execute(task, calling, load_with_secrets, codec, channel, values)
    wait = waits_before_retry(outcome, retry_of(body), used=retries, free=0)
    moment = now()
    change: Change = Finished(submitted.run, attempt, outcome, moment)
    if wait is not None:
        change = Requeued(
            submitted.run, attempt, outcome.reason or Reason.ERROR, outcome.failure, moment + wait, moment
        )
    channel.finish(change)
    return wait
