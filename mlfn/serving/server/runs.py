"""Tracked runs that a service executes: the run's journal and log are files of its own, beside those of the service."""

from __future__ import annotations

import contextvars
import hmac
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mlfn.backends.hosts.run_files import ASKED_TO_STOP, WORKER
from mlfn.errors import ServiceError
from mlfn.host.identity import identify
from mlfn.serving.adapter import Adapter
from mlfn.serving.answers import Answer, problem
from mlfn.serving.classic import ClassicAdapter
from mlfn.serving.events import Event
from mlfn.serving.returned import is_response, to_json
from mlfn.serving.server import journals
from mlfn.serving.server.calls import EXIT_STUCK, Calls
from mlfn.spec.record import Outcome, RunState
from mlfn.worker.assignment import Answers
from mlfn.worker.binding import Binding
from mlfn.worker.context import Cancelled
from mlfn.worker.execution import execute
from mlfn.worker.journal import Journal
from mlfn.worker.log_capture import CapturedOutput, WholeLogChannel
from mlfn.worker.reporter import finished_event
from mlfn.worker.surroundings import Surroundings
from mlfn.worker.task import Task
from mlfn.worker.time_limit import TimeLimit

logger = logging.getLogger("mlfn.serving")


class Executor:
    """Executes runs in the main thread, which has no other work meanwhile."""

    def __init__(self, adapter: Adapter, function: Callable[..., Any], token: str, version: str) -> None:
        self._function = _as_function(adapter, function)
        self._token = token.encode()
        self._version = version
        self._folder: Path | None = None  # of the run that is executed now

    def refuse(self, given: bytes) -> Answer | None:
        """Return the refusal of who is not mlfn."""
        return None if hmac.compare_digest(given, self._token) else problem(403, "Runs are started by mlfn alone.")

    def refuse_version(self, wanted: Mapping[str, Any]) -> Answer | None:
        """Return the refusal of a run of another version."""
        return None if wanted["version"] == self._version else problem(409, "Another version is deployed.")

    def stop_current(self) -> None:
        """Cancel the run that is executed now, if that is the one that is to be stopped; in the main thread, of SIGTERM."""
        folder = self._folder
        if folder is not None and (folder / ASKED_TO_STOP).exists():
            self._folder = None  # once: a handler's ``finally`` is not interrupted by a second signal
            raise Cancelled("cancelled")

    def execute_here(self, folder: Path, plan: dict[str, Any], task: Task) -> bool:
        """Execute a run in its folder, in this thread."""
        binding = Binding(plan)
        write_identity(folder)
        secrets = binding.secrets()
        journal = Journal(folder / "journal")
        surroundings = Surroundings(self._function)
        kept = [os.dup(1), os.dup(2)]
        output = CapturedOutput(task.log, tuple(secrets.values())) if task.log else None
        channel = WholeLogChannel(journal, output) if output is not None else journal
        try:
            with journals.of_run():
                self._folder = folder
                judge = Answers(folder) if task.judged is not None else None
                codec = binding.codec()
                with self._time_limit(folder, plan, partial(_give_up, journal, task)) as limit:
                    reports = limit.watched(channel)
                    run = partial(execute, task, binding.calling, self._load, codec, reports, secrets, judge=judge)
                    contextvars.copy_context().run(run)
        finally:
            self._folder = None
            if output is not None:
                output.close()
            for number, fd in enumerate(kept, 1):
                os.dup2(fd, number)
                os.close(fd)
            surroundings.restore()
        journal.send({"event": "left", "run": "", "attempt": 0, "time": time.time()})
        return True

    def _time_limit(self, folder: Path, plan: Mapping[str, Any], give_up: Callable[[], object]) -> TimeLimit:
        def stop() -> None:
            (folder / ASKED_TO_STOP).touch()
            os.kill(os.getpid(), signal.SIGTERM)

        return TimeLimit(plan["timeout"], plan["grace"], stop=stop, give_up=give_up)

    def _load(self) -> Callable[..., Any]:
        return self._function


class Runs(Executor):
    """Executes runs between events, where connections are served beside."""

    def __init__(self, adapter: Adapter, function: Callable[..., Any], calls: Calls, token: str, version: str) -> None:
        super().__init__(adapter, function, token, version)
        self._calls = calls

    async def answer(self, method: str, path: str, body: bytes, given: bytes) -> Answer:
        """Execute the run that a body describes, and answer when it has ended; 503 where this process has no time for it."""
        if (refused := self.refuse(given)) is not None:
            return refused
        wanted = json.loads(body)
        if (refused := self.refuse_version(wanted)) is not None:
            return refused
        done = await self.execute(Path(wanted["folder"]), wanted["plan"], Task(**wanted["task"]))
        return problem(503, "busy") if done is None else Answer(b"{}")

    async def execute(
        self, folder: Path, plan: dict[str, Any], task: Task, *, before: Callable[[], object] = lambda: None
    ) -> bool | None:
        """Execute a run in its folder, with what is to be done before; None where this process has no time for it."""

        def call() -> bool:
            before()
            return self.execute_here(folder, plan, task)

        return await self._calls.run_beside(call)


def _give_up(journal: Journal, task: Task) -> None:
    """Report a run that does not let itself be stopped, and end with it: another process takes this one's place."""
    journal.send(finished_event(task, Outcome(RunState.CANCELLED)))
    os._exit(EXIT_STUCK)


def write_identity(folder: Path) -> None:
    """Say which process executes the run, so that it can be stopped."""
    temporary = folder / f".{WORKER}"
    temporary.write_text(json.dumps(vars(identify(os.getpid()))))
    temporary.replace(folder / WORKER)


def _as_function(adapter: Adapter, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what a run calls: a typed function itself, a classic handler with the service's own context."""
    if not isinstance(adapter, ClassicAdapter):
        return function

    def call(context: Any, event: Any) -> Any:
        is_plain = isinstance(event, (bytes, str))
        body = event if isinstance(event, bytes) else event.encode() if isinstance(event, str) else to_json(event)
        made = Event(body, content_type="" if is_plain else "application/json", trigger="run", trigger_name="run")
        return _body_of(adapter.function(adapter.context, adapter.sdk_event(made)))

    async def call_later(context: Any, event: Any) -> Any:
        return _body_of(await call(context, event))

    return call_later if adapter.is_async else call


def _body_of(value: Any) -> Any:
    if not is_response(value):
        return value
    if value.status_code >= 400:
        raise ServiceError(f"The handler answered {value.status_code}: {value.body!r}")
    return value.body
