"""States of a run, the legal transitions between them, and what the store holds of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import Enum
from pathlib import Path
from typing import Any

from mlfn.errors import readable
from mlfn.host.frozen import frozen


class RunState(str, Enum):
    """Where a run is; the last four are terminal."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PRUNED = "pruned"

    def __str__(self) -> str:
        return self.value

    @property
    def is_terminal(self) -> bool:
        """Whether nothing more will happen."""
        return self not in (RunState.PENDING, RunState.RUNNING)


class Reason(str, Enum):
    """Why a run failed."""

    ERROR = "error"
    OOM = "oom"
    TIMEOUT = "timeout"
    LOST = "lost"
    PREEMPTED = "preempted"
    NEVER_STARTED = "never_started"
    SKEW = "skew"
    STORAGE = "storage"
    CODE = "code"

    def __str__(self) -> str:
        return self.value


# A retry goes running -> pending under the next attempt number; a terminal state never changes.
TRANSITIONS: Mapping[RunState, frozenset[RunState]] = {
    RunState.PENDING: frozenset({RunState.RUNNING, RunState.FAILED, RunState.CANCELLED}),
    RunState.RUNNING: frozenset(
        {RunState.PENDING, RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED, RunState.PRUNED}
    ),
    RunState.SUCCEEDED: frozenset(),
    RunState.FAILED: frozenset(),
    RunState.CANCELLED: frozenset(),
    RunState.PRUNED: frozenset(),
}


BEST = "best_iteration"
"""The output by which a run says whose outputs it has: the number of its best child."""

PAGE = "page"
"""What happened to a run whose detail is the address at which its engine shows what it does."""

_LONGEST_LINE = 240


@frozen
class RemoteFailure:
    """An exception as it travels: readable text, and a signed pickle of the object where it has one."""

    type: str
    message: str
    traceback: str = ""
    bases: tuple[str, ...] = ()
    pickle: str | None = None  # base64 of a payload
    exit_code: int | None = None
    signal: int | None = None

    @classmethod
    def of_error(
        cls, error: BaseException, *, exit_code: int | None = None, signal: int | None = None
    ) -> RemoteFailure:
        """Return an error of mlfn's own; readers rebuild it by the name of its type."""
        name, *bases = (f"{base.__module__}.{base.__qualname__}" for base in type(error).__mro__[:-1])
        return cls(name, readable(str(error)), "", (name, *bases), None, exit_code, signal)

    @property
    def first_line(self) -> str:
        """Type and first line of the message, cut."""
        message = self.message.strip().partition("\n")[0]
        text = readable(f"{self.type.removeprefix('builtins.')}: {message}".removesuffix(": ")).replace("\0", "\\x00")
        return text if len(text) <= _LONGEST_LINE else f"{text[: _LONGEST_LINE - 1]}…"

    def to_json(self) -> dict[str, Any]:
        """Return the fields that are set, as plain JSON; an exception without a text has an empty one."""
        facts = {"type": self.type, "message": self.message, "traceback": self.traceback, "bases": list(self.bases)}
        more = {"pickle": self.pickle, "exit_code": self.exit_code, "signal": self.signal}
        return {**facts, **{key: value for key, value in more.items() if value is not None}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RemoteFailure:
        """Rebuild from `to_json`."""
        return cls(**{"message": "", **data, "bases": tuple(data.get("bases", ()))})


@frozen
class Output:
    """One named output as stored: small values inline, others as an artifact."""

    key: str
    role: str  # "return", "result" or "artifact"
    packer: str
    type: str
    inline: Any = None
    path: str | None = None  # below the root of the artifacts
    sha256: str | None = None
    size: int = 0


@frozen
class Outcome:
    """How one attempt ended."""

    state: RunState
    reason: Reason | None = None
    failure: RemoteFailure | None = None
    returns: Mapping[str, Any] | None = None
    outputs: tuple[Output, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, as a ``finished`` event has it."""
        return {
            "state": self.state.value,
            "reason": self.reason and self.reason.value,
            "failure": self.failure and self.failure.to_json(),
            "returns": self.returns,
            "outputs": [dict(vars(output)) for output in self.outputs],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        """Rebuild from `to_json`."""
        return cls(
            RunState(data["state"]),
            Reason(data["reason"]) if data["reason"] else None,
            RemoteFailure.from_json(data["failure"]) if data["failure"] else None,
            data["returns"],
            tuple(Output(**output) for output in data["outputs"]),
        )


@frozen
class RunRecord:
    """What the store holds of one run."""

    id: str
    name: str
    project: str
    function: str
    plan: str
    place: str
    state: RunState
    attempt: int
    params: Mapping[str, Any]
    created: float
    reason: Reason | None = None
    started: float | None = None
    ended: float | None = None
    owner: str | None = None
    execution: str | None = None
    unit: int | None = None  # which of the execution's units its attempt is
    queued: bool = False  # its attempt is claimed and waits at the place: `state` is pending
    status: str | None = None  # what it waits for there, in the place's words
    acknowledged: int = 0  # how many lines of its attempt's journal are recorded
    cancel_requested: bool = False
    not_before: float | None = None
    failure: RemoteFailure | None = None
    returns: Mapping[str, Any] | None = None
    progress: Mapping[str, Any] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    parent: str | None = None
    seq: int = 0
    sweep: bool = False
    iteration: int = 0
    point: Mapping[str, Any] | None = None
    reused: str | None = None
    part_of: str | None = None  # the run within whose attempt it lives: a handler opened it by `ctx.child`

    @property
    def is_claimed(self) -> bool:
        """Whether an attempt of it is running, or queued at its place."""
        return self.queued or self.state is RunState.RUNNING

    @property
    def duration(self) -> float | None:
        """Seconds from start to end; None while that is unknown."""
        return None if self.started is None or self.ended is None else self.ended - self.started


@frozen
class Attempt:
    """One try at a run."""

    run: str
    attempt: int
    execution: str | None
    started: float | None
    ended: float | None
    state: str
    reason: str | None
    log: str | None = None  # where an earlier version wrote its log; None for the usual place
    failure: str | None = None  # type and first line of what it failed with
    unit: int | None = None


def log_file(data: Path | str, run: str, attempt: int) -> str:
    """Return where an attempt's log lies in a data folder."""
    return f"{data}/logs/{run[:2]}/{run}-{attempt}.log"


def number_of(inline: Any) -> float | None:
    """Return the number that an inline value is, as JSON or tagged; False is 0 and True 1."""
    value = inline
    if isinstance(value, dict) and value.get("!") == "numpy":
        value = value["v"][1]
    if isinstance(value, dict) and value.get("!") == "float":
        value = float(value["v"])
    if isinstance(value, dict) and value.get("!") == "int":
        value = int(value["v"], 16)
    return value if isinstance(value, (int, float)) else None
