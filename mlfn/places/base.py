"""What dispatch asks of a place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mlfn.execution import Task
from mlfn.identity import ProcessIdentity


@dataclass(frozen=True)
class Surroundings:
    """What a place needs to know of the client that uses it; durations in seconds."""

    client: str
    folder: Path
    artifacts: str
    key: bytes
    secrets_file: Path
    max_workers: int
    max_workers_is_set: bool
    grace: float
    heartbeat: float


@dataclass(frozen=True)
class WorkerStarted:
    """A worker process exists; it is stored before it gets its first run."""

    worker: str
    pid: int
    folder: str


@dataclass(frozen=True)
class Reported:
    """New events of a worker's journal, and the offset up to which it is read now."""

    worker: str
    events: tuple[Mapping[str, Any], ...]
    consumed: int


@dataclass(frozen=True)
class Gone:
    """A worker's process has ended and its journal is read whole."""

    worker: str
    exit_code: int | None = None
    signal: int | None = None
    memory_killed: bool = False
    unread: tuple[str, ...] = ()  # runs that it was given and had not begun
    lost: bool = False  # nobody saw how it ended
    stopped: bool = False  # somebody had stopped it (SIGSTOP) and its heartbeat lapsed, so that it was ended
    never_began: bool = False  # it ended of itself before it had begun any run at all
    said: str = ""  # what it wrote to stderr before its first run


Report = WorkerStarted | Reported | Gone


@dataclass(frozen=True)
class Room:
    """A worker that will take a run now."""

    worker: str
    report: WorkerStarted | None = None


@dataclass(frozen=True)
class Unavailable:
    """No room at the moment; `error` says that there never will be, and why."""

    error: Exception | None = None


class Place(Protocol):
    """Holds workers; used by one thread only, but for `wake`."""

    def warm(self) -> None:
        """Begin to start what a first run will need."""
        ...

    def reserve(self, digest: str, plan: Mapping[str, Any], *, backlog: int) -> Room | Unavailable:
        """Return a worker for one run of this plan; where all are busy, one with fewer than `backlog` runs to do."""
        ...

    def start(self, worker: str, task: Task) -> None:
        """Hand a task to a worker that `reserve` gave."""
        ...

    def widen(self, parallel: int | None) -> int:
        """Return how many runs there is room for; `parallel` may raise that where nobody has set it."""
        ...

    def answer(self, worker: str, run: str, why: str | None) -> None:
        """Answer a report of a run that waits for it; a text says why the run should stop."""
        ...

    def take_back(self, worker: str) -> list[str]:
        """Return the runs that a worker was given and has not begun: it never will."""
        ...

    def finished(self, worker: str) -> None:
        """Take note that the worker's run is over, or that its reservation was not used."""
        ...

    def adopt(self, worker: str, process: ProcessIdentity, folder: str, consumed: int) -> None:
        """Read the journal of a worker that a dead client left, from `consumed` on."""
        ...

    def collect(self, timeout: float) -> list[Report]:
        """Wait for news, `timeout` seconds at most."""
        ...

    def wake(self) -> None:
        """Make `collect` return soon; from any thread."""
        ...

    def stop(self, worker: str) -> None:
        """End a worker: SIGTERM, then SIGKILL to its whole group after the grace time."""
        ...

    def retire(self, worker: str) -> None:
        """Let a worker end after the run that it is at."""
        ...

    def forget(self, worker: str) -> None:
        """Remove what a worker that is gone has left behind; its journal is in the store."""
        ...

    def close(self) -> list[str]:
        """End what is idle, and return those workers; what still runs goes on by itself."""
        ...

    def let_go(self) -> None:
        """Close what a forked child has inherited; the workers are its parent's, and end with that."""
        ...
