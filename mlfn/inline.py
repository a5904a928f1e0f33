"""Runs in the caller's own process and thread: the same records, with this thread in place of a worker."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from mlfn import settings as settings_module
from mlfn.client import Client
from mlfn.errors import NotFoundError, ParentFailedError
from mlfn.execution import Calling, Judge, Task, execute, resolve_secrets
from mlfn.hearing import change_of
from mlfn.identity import now
from mlfn.parents import resolve
from mlfn.spec.record import Outcome, Reason, RunRecord, RunState
from mlfn.store.changes import (
    Change,
    Claimed,
    Finished,
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
        change = change_of(event)
        if isinstance(change, Started):
            self._first.append(change)  # goes with the next: one transaction less
        elif change is not None:
            self._apply(change)

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
    client: Client,
    submitted: Submitted,
    body: Mapping[str, Any],
    load: Callable[[], Callable[..., Any]],
    *,
    judged: str | None = None,
    judge: Judge | None = None,
) -> RunState | None:
    """Store the run and see it through; returns how it ended, or None for one that the store refused.

    Ctrl-C cancels it and goes on to the caller.
    """
    try:
        params, _ = resolve(client.store, submitted.name, submitted.params)
    except (NotFoundError, ParentFailedError) as error:
        client.store.apply([submitted, Withdrawn(submitted.run, failed(Reason.ERROR, error), now())])
        return RunState.FAILED
    claim = Claimed(submitted.run, client.id, None, None, now())
    attempt = client.store.apply([submitted, claim])[1]
    call = _Call(client, body, load, submitted.run, params, submitted.labels, submitted.iteration, judged, judge)
    return call.see_through(attempt, claim)


def carry_on_here(
    client: Client,
    record: RunRecord,
    body: Mapping[str, Any],
    load: Callable[[], Callable[..., Any]],
    *,
    judged: str | None = None,
    judge: Judge | None = None,
) -> RunState | None:
    """See a run through that is stored and pending; None for one that somebody else has."""
    try:
        params, _ = resolve(client.store, record.name, record.params)
    except (NotFoundError, ParentFailedError) as error:
        client.store.apply([Withdrawn(record.id, failed(Reason.ERROR, error), now())])
        return RunState.FAILED
    claim = Claimed(record.id, client.id, None, None, now())
    call = _Call(client, body, load, record.id, params, record.labels, record.iteration, judged, judge)
    return call.see_through(client.store.apply([claim])[0], claim, retries=client.store.retries(record.id))


@dataclass(frozen=True)
class _Call:
    """One run in this thread: what its attempts have in common."""

    client: Client
    body: Mapping[str, Any]
    load: Callable[[], Callable[..., Any]]
    run: str
    params: Mapping[str, Any]
    labels: Mapping[str, str]
    iteration: int = 0
    judged: str | None = None
    judge: Judge | None = None

    def see_through(self, attempt: int, claim: Claimed, *, retries: int = 0) -> RunState | None:
        """Make attempts until one stands; None where the store refuses the next one."""
        while attempt:
            children = self.client.store.last_child(self.run) if attempt > 1 else 0
            task = Task(self.run, attempt, self.params, self.labels, None, self.iteration, self.judged, children)
            outcome, wait = self._attempt(task, retries)
            if wait is None:
                return outcome.state
            retries += 1
            time.sleep(wait)
            attempt = self.client.store.apply([claim])[0]
        return None

    def _attempt(self, task: Task, retries: int) -> tuple[Outcome, float | None]:
        calling = Calling.of(self.body)
        values: dict[str, str] = {}
        lent = LentEnvironment()

        def load_with_secrets() -> Callable[..., Any]:
            values.update(resolve_secrets(calling.secrets, os.environ, settings_module.secrets_file()))
            secret_env = {item.env: values[item.key or item.name] for item in calling.secrets if item.env}
            lent.lend({**self.body["env"], **secret_env})
            return self.load()

        channel = StoreChannel(self.client.store)
        try:
            outcome = execute(task, calling, load_with_secrets, self.client.codec(), channel, values, judge=self.judge)
        finally:
            lent.give_back()
        if outcome.failure is not None and outcome.failure.type == _INTERRUPTED:
            channel.finish(Finished(task.run, task.attempt, Outcome(RunState.CANCELLED), now()))
            raise KeyboardInterrupt
        wait = waits_before_retry(outcome, retry_of(self.body), used=retries, free=0)
        moment = now()
        change: Change = Finished(task.run, task.attempt, outcome, moment)
        if wait is not None:
            change = Requeued(
                task.run, task.attempt, outcome.reason or Reason.ERROR, outcome.failure, moment + wait, moment
            )
        channel.finish(change)
        return outcome, wait
