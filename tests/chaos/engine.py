"""The protocol of engines as remote ones are: named objects of one or many units, which outlive the client."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from mlfn.worker.task import Task
from tests.chaos.rates import Rates


class UnreachableError(Exception):
    """The engine gives no answer: what was asked of it may have happened all the same."""


class ExistsError(Exception):
    """There is an object of that name."""


class RefusedError(Exception):
    """The engine takes no such object, now or ever; the text goes on from the function's name."""


@dataclass(frozen=True)
class Template:
    """What all units of an object have in common; seconds, bytes, and what returns the plan as a worker of an object is bound to it."""

    parallel: int | None = None
    timeout: float | None = None
    grace: float = 1.0
    mem: int | None = None
    plan: Callable[[str], Mapping[str, Any]] | None = None
    masked: Sequence[str] = ()  # in logs


@dataclass(frozen=True)
class UnitStatus:
    """One unit as the engine sees it. `run` and `attempt` are labels.

    `reason` says how it ended: "exited", "killed" (by a signal that the engine did not send), "oom", "deadline", "evicted",
    "stopped" (as its API was asked to) or "unschedulable".
    """

    index: int
    run: str
    attempt: int
    phase: str  # "queued", "starting", "running" or "ended"
    lines: int = 0  # of its journal
    reason: str = ""
    exit_code: int | None = None
    signal: int | None = None
    message: str = ""  # what it waits for


class Engine(Protocol):
    """Holds objects and knows nothing of clients; from `create` on, each method is one call over the network."""

    RATES: ClassVar[Rates]
    """What a seed makes go wrong on the way to it."""

    def now(self) -> float:
        """Return the seconds since some moment."""
        ...

    def wait(self, until: float, is_woken: Callable[[], bool]) -> None:
        """Wait until something may have changed, or until then."""
        ...

    def wake(self) -> None:
        """Interrupt `wait`; from any thread."""
        ...

    def create(self, name: str, tasks: Sequence[Task], template: Template) -> None:
        """Create an object with a unit for each task."""
        ...

    def watch(self, name: str, since: int) -> tuple[int, Sequence[UnitStatus]] | None:
        """Return the object's version, and its units that changed since an earlier one; None where there is no object."""
        ...

    def lines(self, name: str, index: int, first: int) -> Sequence[Mapping[str, Any]]:
        """Return a unit's journal from line `first` on."""
        ...

    def log(self, name: str, index: int, offset: int) -> bytes:
        """Return a unit's stdout and stderr from an offset on."""
        ...

    def stop(self, name: str, index: int) -> None:
        """End a unit: SIGTERM, and SIGKILL to its group after the grace time."""
        ...

    def delete(self, name: str) -> None:
        """Remove an object with all its units, journals and logs, whatever they do."""
        ...
