"""The protocol of places, and what they report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from mlfn.host.frozen import frozen
from mlfn.spec.plan import Plan
from mlfn.spec.record import Reason
from mlfn.worker.task import Task


@frozen
class Capabilities:
    """What a place can, as data: refusals, the exit, the width of a sweep and the table in the docs derive from it."""

    in_caller: bool = False
    """It runs in the thread that submits: `submit` returns when the run has ended, and nobody else can stop it."""

    secrets_of_caller: bool = False
    """Secrets are looked up where the caller is, by the same user; elsewhere the engine resolves references."""

    unsupported: Mapping[str, str] = field(default_factory=dict)
    """Options that are refused, and why."""

    ignored: Mapping[str, str] = field(default_factory=dict)
    """Options that a run does without harm without, and why; said once."""

    commands: bool = False
    """It starts commands of kinds that run in processes of their own."""

    pooled: bool = False
    """Its executions are worker processes that run one run after another: the methods of `Pool` are called."""

    outlives_client: bool = False
    """What it has started goes on without the client: a process that ends does not wait for it."""

    max_units: int = 1
    """How many runs one execution may hold."""

    window: Literal["client", "place"] = "client"
    """Which side keeps a sweep's window: a place that does gets a whole grid, and runs `parallel` of it at a time."""

    counts_failures: bool = False
    """Of a sweep that it has at once it lets no other run begin once so many have failed, with or without the client."""

    manifests: bool = False
    """What it creates are manifests, which its `manifests` returns for a plan: `plan()` shows them."""

    deadline: Literal["client", "place"] = "client"
    """Which side ends a run at its timeout."""


@frozen
class PlaceConfig:
    """What a place takes from the client that uses it; durations in seconds."""

    client: str
    folder: Path
    artifacts: Mapping[str, Any]  # what an `ArtifactStore` takes
    key: bytes
    secrets_file: Path
    max_workers: int
    max_workers_is_set: bool
    grace: float
    heartbeat: float
    package_index: str = ""
    trusted_host: str = ""
    processor: str = ""  # Nuclio's, where deployed functions of this machine are to run in it
    wrapper: str = ""
    dashboard: str = ""  # the URL of Nuclio's


@frozen
class StatusChanged:
    """What a unit that has not started waits for, in the place's words; None where it waits for nothing any more."""

    execution: str
    run: str
    message: str | None


@frozen
class EventsReceived:
    """New events of an execution's journal, and the cursor from which the next client reads on.

    `run` and `first` are given where each unit has a journal of its own: whose it is, and the number of the first event in
    it. Such lines may be delivered again, late or out of order; each counts once, in its order.
    """

    execution: str
    events: tuple[Mapping[str, Any], ...]
    cursor: str | None = None
    run: str | None = None
    first: int | None = None


@frozen
class Terminated:
    """An execution has ended, or one unit of it, and its journal has been delivered as far as it could be read.

    `reason` and `message` are those of an attempt that ended without reporting an outcome; the message goes on from the
    function's name. Whether an attempt had started is for the dispatcher to say where the exit status is unknown (`LOST`).
    `lines` is the length of the unit's journal where the place knows it: the end counts once they are all delivered.
    """

    execution: str
    reason: Reason
    message: str
    exit_code: int | None = None
    signal: int | None = None
    unstarted: tuple[str, ...] = ()  # runs that were queued at it
    never_began: bool = False  # it ended by itself before its first run
    deleted: bool = False  # by others, past mlfn: an end that is wanted, whether or not it had started
    run: str | None = None  # the unit; None for the whole
    lines: int | None = None


Report = StatusChanged | EventsReceived | Terminated


@frozen
class Slot:
    """Room for runs of one plan at an execution; a new execution has a handle, which is stored before it is created.

    With `queued`, runs may wait there: they are shown as pending until they are reported as started.
    """

    execution: str
    handle: Mapping[str, Any] | None = None
    units: int = 1
    queued: bool = False


@frozen
class Unavailable:
    """No room at the moment; with `error`, never."""

    error: Exception | None = None


@frozen
class LogRequest:
    """Whose log a reader wants: that of one rank of a unit of a stored execution.

    The reader is another process, without a dispatcher; `folder` is its data folder.
    """

    execution: str
    target: str
    handle: Mapping[str, Any]
    run: str
    attempt: int
    unit: int | None
    folder: Path
    rank: int = 0


@frozen
class StoredExecution:
    """An execution of a dead client, as it is stored, with the plan and the tasks of those of its runs that are not over.

    `units` and `acknowledged` say by run which unit it is, and how many lines of that unit's journal are recorded.
    A `cursor` of None says that it was never observed: it may not exist, and is then created again under its name.
    """

    execution: str
    handle: Mapping[str, Any]
    cursor: str | None
    plan: Plan | None
    tasks: Sequence[Task]
    units: Mapping[str, int]
    acknowledged: Mapping[str, int]


@frozen
class Remains:
    """What lies at an engine: an execution, of whatever client, or something else that no execution there needs any more."""

    name: str
    """What people call it."""
    age: float
    """Seconds since it was created."""
    handle: Mapping[str, Any]
    """What its place removes it by."""
    execution: str | None = None
    home: str = ""
    """The data folder of the client that created it, as `mlfn.artifacts.home` names it; empty where that is unknown."""


class Place(Protocol):
    """Holds executions; all methods but `wake` are called by one thread, and none waits for an engine but `collect`."""

    CAPABILITIES: ClassVar[Capabilities]

    @staticmethod
    def check_plan(plan: Plan) -> None:
        """Raise OptionError for what cannot be had here."""
        ...

    def reserve(
        self, plan: Plan, *, waiting: int, backlog: int, parallel: int | None, failures: int | None
    ) -> Slot | Unavailable:
        """Return room for up to `waiting` runs of this plan.

        Where all workers are busy, one with fewer than `backlog` runs has room. `parallel` of the runs are to be at work at
        a time, where the place keeps the window; a place that counts failures lets none begin once `failures` have failed.
        """
        ...

    def start(self, execution: str, tasks: Sequence[Task]) -> None:
        """Start tasks at an execution that `reserve` returned; what fails is reported."""
        ...

    def attach(self, stored: StoredExecution) -> None:
        """Own an execution of a dead client from here on, and read its journal from the cursor on."""
        ...

    def collect(self, timeout: float) -> Sequence[Report]:
        """Wait for reports, `timeout` seconds at most."""
        ...

    def wake(self) -> None:
        """Make `collect` return soon; from any thread."""
        ...

    def stop(self, execution: str, run: str) -> None:
        """Stop one unit: SIGTERM, then SIGKILL to its process group after the grace time."""
        ...

    def cleanup(self, execution: str) -> None:
        """Remove what is left of an execution that has ended; its events are recorded.

        Where an execution is created for its runs alone, it may still be there: its end is reported once it is gone.
        """
        ...

    @staticmethod
    def read_log(wanted: LogRequest, offset: int) -> bytes:
        """Return some of a log from `offset` on, which has no file in the data folder; nothing at its end so far.

        Any process may call it, at any time: before the log begins, and when the engine has forgotten it.
        """
        ...

    @staticmethod
    def remains(**target: Any) -> Sequence[Remains]:
        """Return what lies at a target, for garbage collection; raise MlfnError where that cannot be asked for."""
        ...

    @staticmethod
    def remove(found: Remains, **target: Any) -> None:
        """Remove it, with all that belongs to it; raise MlfnError where that is not possible."""
        ...

    def close(self) -> Sequence[str]:
        """Stop reading, end executions that have nothing to run, and return them."""
        ...

    def after_fork(self) -> None:
        """Close what a forked child has inherited; the executions remain its parent's."""
        ...


class Pool(Place, Protocol):
    """A place of worker processes that are started ahead, given one run after another, and ended."""

    def warm(self) -> None:
        """Begin to start what the first run needs."""
        ...

    def scale_to(self, parallel: int | None) -> int:
        """Return how many runs there is room for; `parallel` raises that where no setting limits it."""
        ...

    def answer(self, execution: str, run: str, why: str | None) -> None:
        """Answer a point that a run has reported; a text says why the run should stop."""
        ...

    def recall(self, execution: str) -> list[str]:
        """Take back the runs that a worker has not begun, and return them."""
        ...

    def finished(self, execution: str) -> None:
        """Note that one of the worker's runs has ended, or that its reservation was not used."""
        ...

    def retire(self, execution: str) -> None:
        """End a worker after its current run."""
        ...


AT_SHUTDOWN: list[Callable[[], object]] = []
"""Called when this process ends its use of mlfn, after its sessions are closed: a place may keep an engine for all of them."""


class OneShot:
    """What the methods of `Pool` come down to where an execution is created for its runs alone."""

    @staticmethod
    def check_plan(plan: Plan) -> None:
        """Take every plan."""

    @staticmethod
    def diagnose() -> Iterable[tuple[str, str, str]]:
        """Return the findings of `mlfn doctor --on PLACE`: name, verdict (``"ok"``, ``"note"`` or ``"fails"``) and words."""
        return ()

    @staticmethod
    def remains(**target: Any) -> Sequence[Remains]:
        """Return nothing: what it creates ends with its runs."""
        return ()

    @staticmethod
    def remove(found: Remains, **target: Any) -> None:
        """Remove nothing."""

    def warm(self) -> None:
        """Start nothing ahead."""

    def scale_to(self, parallel: int | None) -> int:
        """Return how many runs are wanted: the engine has its own limits."""
        return parallel or 1

    def answer(self, execution: str, run: str, why: str | None) -> None:
        """Answer nothing: a run that is to stop is stopped."""

    def recall(self, execution: str) -> list[str]:
        """Return no run: each belongs to its execution."""
        return []

    def finished(self, execution: str) -> None:
        """Keep nothing free: the dispatcher has the execution cleaned up."""

    def retire(self, execution: str) -> None:
        """Do nothing: it takes no other run."""

    @staticmethod
    def read_log(wanted: LogRequest, offset: int) -> bytes:
        """Return nothing: its logs are files of the data folder."""
        return b""
