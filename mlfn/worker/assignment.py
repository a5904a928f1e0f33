"""One task in a folder, and how a process runs it as one rank."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from mlfn.host.frozen import frozen
from mlfn.spec.record import RunState
from mlfn.worker import context as user_context
from mlfn.worker.binding import Binding
from mlfn.worker.control import ANSWER_SECONDS
from mlfn.worker.execution import execute
from mlfn.worker.journal import Journal
from mlfn.worker.task import Extras, Task

_FILE = "assignment.json"
_ANSWERS = "answers"
_POLL_SECONDS = 0.01
ENDS_WELL = (RunState.SUCCEEDED, RunState.PRUNED)
_SECRETS = "MLFN_RANK_SECRETS"
# In no file: a rank gets these in its environment, and removes them from there, so that its children inherit none. The URL of
# artifacts may hold a password.
_WITHHELD = ("key", "artifacts", "secrets")


@frozen
class Assignment:
    """What a rank is to run: a task, and the plan that its place has bound."""

    plan: Mapping[str, Any]
    task: Task

    def write(self, folder: Path) -> None:
        """Write it to the folder, without the key and the secrets."""
        plan = {name: value for name, value in self.plan.items() if name not in _WITHHELD}
        body = json.dumps({"plan": plan, "task": self.task.to_json()}).encode()
        with open(folder / _FILE, "wb", opener=partial(os.open, mode=0o600)) as file:
            file.write(body)

    @staticmethod
    def environ(plan: Mapping[str, Any], secrets: Mapping[str, str]) -> dict[str, str]:
        """Return the variables that a rank needs beside the file."""
        return {
            _SECRETS: json.dumps(
                {**{name: plan[name] for name in _WITHHELD}, "secrets": {**plan["secrets"], **secrets}}
            )
        }

    @classmethod
    def read(cls, folder: Path) -> Assignment:
        """Return the assignment of a folder; takes its secrets out of the environment."""
        data = json.loads((folder / _FILE).read_bytes())
        return cls({**data["plan"], **json.loads(os.environ.pop(_SECRETS))}, Task(**data["task"]))


def journal_of(rank: int | str) -> str:
    """Return the name of a rank's journal."""
    return f"rank-{rank}.journal"


def write_answer(folder: Path, why: str | None) -> None:
    """Answer rank 0's next point; a text says why the run should stop."""
    with open(folder / _ANSWERS, "ab") as file:
        file.write(json.dumps(why).encode() + b"\n")


class Answers:
    """The answers to the points of rank 0, in their order."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _ANSWERS
        self._count = 0

    def __call__(self, run: str, step: int | None, value: float) -> str | None:
        """Wait for the answer to the next point; return why the run should stop, None if it should not or none comes."""
        self._count += 1
        limit = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < limit:
            lines = self._path.read_bytes().split(b"\n") if self._path.exists() else [b""]
            if len(lines) > self._count:  # the last one is not complete
                why: str | None = json.loads(lines[self._count - 1])
                return why
            time.sleep(_POLL_SECONDS)
        return None


class Activated(AbstractContextManager[Extras]):
    """What a kind prepares before the run has started, as it says which rank this is; it is left with the handler.

    Where it `is_only`, what goes wrong in that is the run's own failure.
    """

    def __init__(self, prepared: AbstractContextManager[Extras], *, is_only: bool) -> None:
        self._stack = ExitStack()
        self._extras = Extras()
        self._error: Exception | None = None
        try:
            self._extras = self._stack.enter_context(prepared)
        except Exception as error:
            if not is_only:
                raise  # no rank is known whose journal could have it
            self._error = error

    @property
    def rank(self) -> int:
        """Which rank this is."""
        return self._extras.rank

    def __enter__(self) -> Extras:
        if self._error is not None:
            raise self._error
        return self._extras

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, frames)


def run_rank(
    assignment: Assignment,
    folder: Path,
    prepare: Callable[[], AbstractContextManager[Extras]] = Extras,
    *,
    control: socket.socket | None = None,
) -> RunState:
    """Run an assignment, its journal in `folder`, and return how it ended; `control` wakes the reader of the journal.

    `prepare` returns what says which rank this is. With `control` it is the only one, and points are not answered: a run that is
    to stop is stopped.
    """
    signal.signal(signal.SIGTERM, on_terminate)
    binding = Binding(assignment.plan, folder)
    binding.apply()
    activated = Activated(prepare(), is_only=control is not None)
    secrets: dict[str, str] = {}
    journal = Journal(folder / journal_of(activated.rank), control)
    load = partial(binding.load, secrets)
    judge = Answers(folder) if control is None else None
    task, codec = assignment.task, binding.codec()
    try:
        return execute(task, binding.calling, load, codec, journal, secrets, judge=judge, extras=activated).state
    finally:
        activated.__exit__(None, None, None)  # where the code could not be loaded


def on_terminate(*_: object) -> None:
    """Handle SIGTERM: interrupt the handler."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once: a handler's ``finally`` is not interrupted by a second signal
    raise user_context.Cancelled("cancelled")
