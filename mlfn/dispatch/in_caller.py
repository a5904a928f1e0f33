"""Runs in the caller's own process and thread: the same records, with this thread as the worker."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from mlfn.artifacts.codec import PinnedCodec
from mlfn.code.own_modules import own_modules_of
from mlfn.dispatch.dependencies import resolve
from mlfn.dispatch.failures import failed
from mlfn.dispatch.retry_policy import seconds_before_retry
from mlfn.dispatch.session import Session
from mlfn.dispatch.store_channel import StoreChannel
from mlfn.errors import NotFoundError, ParentFailedError
from mlfn.host.frozen import frozen
from mlfn.host.identity import now
from mlfn.settings import current as settings_module
from mlfn.spec.plan import Plan
from mlfn.spec.record import Outcome, Reason, RunRecord, RunState
from mlfn.store.changes import Change, Claimed, Finished, FinishedUnstarted, Requeued, Submitted
from mlfn.worker.execution import execute, resolve_secrets
from mlfn.worker.reporter import Judge
from mlfn.worker.shared_environment import temporary_environment
from mlfn.worker.task import Calling, Task

_INTERRUPTED = "builtins.KeyboardInterrupt"


@frozen
class InlineRunner:
    """Runs runs of one plan in the caller's thread. A run's metric `judged` is answered by `judge`.

    Ctrl-C cancels a run and is raised again.
    """

    session: Session
    plan: Plan
    load: Callable[[], Callable[..., Any]]
    judged: str | None = None
    judge: Judge | None = None

    def run(self, new: Submitted) -> RunState | None:
        """Store a run and run it; return its terminal state, or None for one that the store refused."""
        return self._make_attempts(Task(new.run, 0, new.params, new.labels, None, new.iteration), first=[new])

    def resume(self, record: RunRecord) -> RunState | None:
        """Run a stored pending run; return its terminal state, or None for one that another client owns."""
        task = Task(record.id, 0, record.params, record.labels, None, record.iteration)
        return self._make_attempts(task, retries=self.session.store.retries(record.id))

    def _make_attempts(self, task: Task, *, first: Sequence[Change] = (), retries: int = 0) -> RunState | None:
        """Make attempts until one is final, `first` stored with the first claim; None where the store refuses a claim."""
        store = self.session.store
        try:
            params, parent = resolve(store, self.plan.name, task.params, self.session.codec)
            while parent is not None:
                self.session.wait_for(parent)
                params, parent = resolve(store, self.plan.name, task.params, self.session.codec)
        except (NotFoundError, ParentFailedError) as error:
            store.apply([*first, FinishedUnstarted(task.run, failed(Reason.ERROR, error), now())])
            return RunState.FAILED
        claim = Claimed(task.run, self.session.id, None, now())
        attempt = store.apply([*first, claim])[-1]
        while attempt:
            children = store.last_iteration(task.run) if attempt > 1 else 0
            task = replace(task, attempt=attempt, params=params, judged=self.judged, children=children)
            outcome, wait = self._attempt(task, retries)
            if wait is None:
                return outcome.state
            retries += 1
            time.sleep(wait)
            attempt = store.apply([claim])[0]
        return None

    def _attempt(self, task: Task, retries: int) -> tuple[Outcome, float | None]:
        calling = Calling.of(self.plan)
        values: dict[str, str] = {}
        channel = StoreChannel(self.session.store)
        codec = PinnedCodec(self.session.key, self.session.artifacts, modules_of=own_modules_of)
        with ExitStack() as environment:

            def load_with_secrets() -> Callable[..., Any]:
                values.update(resolve_secrets(calling.secrets, os.environ, settings_module.secrets_file()))
                secret_env = {item.env: values[item.key or item.name] for item in calling.secrets if item.env}
                environment.enter_context(temporary_environment({**self.plan.env, **secret_env}))
                return self.load()

            outcome = execute(task, calling, load_with_secrets, codec, channel, values, judge=self.judge)
        if outcome.failure is not None and outcome.failure.type == _INTERRUPTED:
            channel.apply(Finished(task.run, task.attempt, Outcome(RunState.CANCELLED), now()))
            raise KeyboardInterrupt
        wait = seconds_before_retry(outcome, self.plan.retry, used=retries, free=0)
        moment = now()
        change: Change = Finished(task.run, task.attempt, outcome, moment)
        if wait is not None:
            change = Requeued(
                task.run, task.attempt, outcome.reason or Reason.ERROR, outcome.failure, moment + wait, moment
            )
        channel.apply(change)
        return outcome, wait
