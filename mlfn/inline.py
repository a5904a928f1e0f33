"""Runs in the caller's own process and thread: the same records, with this thread in place of a worker."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from mlfn import settings as settings_module
from mlfn.client import Client
from mlfn.errors import NotFoundError, ParentFailedError
from mlfn.execution import Calling, Task, execute, resolve_secrets
from mlfn.identity import now
from mlfn.parents import resolve
from mlfn.spec.record import Outcome, Output, Reason, RunState
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
    Withdrawn,
)
from mlfn.store.sql import SqlStore
from mlfn.verdict import failed, retry_of, waits_before_retry

_INTERRUPTED = "builtins.KeyboardInterrupt"


class StoreChannel:
    """Reports of a run in this very process: straight into the store."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._first: list[Change] = []
        self._lock = threading.Lock()  # a handler may report from several threads

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
        with self._lock:
            self._store.apply([*self._first, change])
            self._first = []


class LentEnvironment:
    """Variables of one inline run in this process's own environment: there while it runs, gone or as before after it.

    Runs in several threads have one environment: of those that set the same variable, the last to begin is seen. Whatever
    the order in which they end, the last of them leaves what was there before the first.
    """

    _lock = threading.Lock()
    _lenders: ClassVar[dict[str, list[tuple[LentEnvironment, str]]]] = {}
    _before: ClassVar[dict[str, str | None]] = {}

    def lend(self, variables: Mapping[str, str]) -> None:
        """Set `variables` until `give_back`."""
        with self._lock:
            for name, value in variables.items():
                if not self._lenders.setdefault(name, []):
                    self._before[name] = os.environ.get(name)
                self._lenders[name].append((self, value))
                os.environ[name] = value

    def give_back(self) -> None:
        """Take this run's variables out again."""
        with self._lock:
            for name, lenders in list(self._lenders.items()):
                others = [item for item in lenders if item[0] is not self]
                if len(others) == len(lenders):
                    continue
                self._lenders[name] = others
                if not others:
                    del self._lenders[name]
                self._set(name, others[-1][1] if others else self._before.pop(name))

    def _set(self, name: str, value: str | None) -> None:
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def run_here(
    client: Client, submitted: Submitted, body: Mapping[str, Any], load: Callable[[], Callable[..., Any]]
) -> None:
    """Store the run and see it through; returns when it is over. Ctrl-C cancels it and goes on to the caller."""
    try:
        params, _ = resolve(client.store, submitted.name, submitted.params)
    except (NotFoundError, ParentFailedError) as error:
        client.store.apply([submitted, Withdrawn(submitted.run, failed(Reason.ERROR, error), now())])
        return
    _attempts(client, submitted, params, body, load)


def _attempts(
    client: Client,
    submitted: Submitted,
    params: Mapping[str, Any],
    body: Mapping[str, Any],
    load: Callable[[], Callable[..., Any]],
) -> None:
    claim = Claimed(submitted.run, client.id, None, None, now())
    attempt = client.store.apply([submitted, claim])[1]
    retries = 0
    while True:
        task = Task(submitted.run, attempt, params, submitted.labels)
        wait = _attempt_here(client, task, body, load, retries)
        if wait is None:
            return
        retries += 1
        time.sleep(wait)
        attempt = client.store.apply([claim])[0]
        if not attempt:
            return


def _attempt_here(
    client: Client, task: Task, body: Mapping[str, Any], load: Callable[[], Callable[..., Any]], retries: int
) -> float | None:
    calling = Calling.of(body)
    values: dict[str, str] = {}
    lent = LentEnvironment()

    def load_with_secrets() -> Callable[..., Any]:
        values.update(resolve_secrets(calling.secrets, os.environ, settings_module.secrets_file()))
        secret_env = {secret.env: values[secret.key or secret.name] for secret in calling.secrets if secret.env}
        lent.lend({**body["env"], **secret_env})
        return load()

    channel = StoreChannel(client.store)
    try:
        outcome = execute(task, calling, load_with_secrets, client.codec(), channel, values)
    finally:
        lent.give_back()
    if outcome.failure is not None and outcome.failure.type == _INTERRUPTED:
        channel.finish(Finished(task.run, task.attempt, Outcome(RunState.CANCELLED), now()))
        raise KeyboardInterrupt
    wait = waits_before_retry(outcome, retry_of(body), used=retries, free=0)
    moment = now()
    change: Change = Finished(task.run, task.attempt, outcome, moment)
    if wait is not None:
        change = Requeued(
            task.run, task.attempt, outcome.reason or Reason.ERROR, outcome.failure, moment + wait, moment
        )
    channel.finish(change)
    return wait
