"""States of a run, the legal ways between them, and what the store says about a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


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

    def __str__(self) -> str:
        return self.value


# A retry goes running -> pending under the next attempt number; a terminal state is left by nothing.
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


_LONGEST_LINE = 240


@dataclass(frozen=True)
class RemoteFailure:
    """An exception as it travels: readable text, and a signed pickle of the object where it has one."""

    type: str
    message: str
    traceback: str = ""
    bases: tuple[str, ...] = ()
    pickle: str | None = None  # base64 of a payload
    exit_code: int | None = None
    signal: int | None = None

    @property
    def first_line(self) -> str:
        """Type and first line of the message, cut."""
        said = self.message.strip().partition("\n")[0]
        text = f"{self.type.removeprefix('builtins.')}: {said}".removesuffix(": ")
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


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Outcome:
    """How one attempt ended."""

    state: RunState
    reason: Reason | None = None
    failure: RemoteFailure | None = None
    returns: Mapping[str, Any] | None = None
    outputs: tuple[Output, ...] = ()


@dataclass(frozen=True)
class RunRecord:
    """What the store says about one run."""

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
    worker: str | None = None
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
    def duration(self) -> float | None:
        """Seconds from start to end; None while that is unknown."""
        return None if self.started is None or self.ended is None else self.ended - self.started


@dataclass(frozen=True)
class Attempt:
    """One try at a run, and where its log lies."""

    run: str
    attempt: int
    worker: str | None
    started: float | None
    ended: float | None
    state: str
    reason: str | None
    log: str | None
    failure: str | None = None  # type and first line of what it failed with
