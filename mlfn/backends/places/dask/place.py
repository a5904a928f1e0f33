"""Executions as tasks of a Dask cluster: threads talk to its scheduler, and `collect` decides what is to be reported."""

from __future__ import annotations

import functools
import json
import logging
import pickle
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlfn.backends.places.base import (
    Capabilities,
    EventsReceived,
    OneShot,
    PlaceConfig,
    Report,
    Slot,
    StatusChanged,
    StoredExecution,
    Terminated,
    Unavailable,
)
from mlfn.backends.places.binding import binding_of
from mlfn.backends.places.dask import on_worker
from mlfn.backends.places.dask.connection import Connection, connect
from mlfn.backends.places.dask.own import Cluster
from mlfn.backends.places.inbox import Inbox
from mlfn.backends.places.threads import Threads
from mlfn.errors import OptionError
from mlfn.host.frozen import frozen
from mlfn.host.identity import new_id
from mlfn.spec.plan import Plan
from mlfn.spec.record import Reason, RunState
from mlfn.spec.values import parse_bytes, shown_bytes
from mlfn.worker.task import Task

logger = logging.getLogger(__name__)
_THREADS = 4
_LOOK = 0.25  # seconds between looks at what no message tells
_SAY_AFTER = 0.5  # seconds after which a task that has not begun says what it waits for
_NO_OUTCOME = ": its task ended without an outcome."
_REFUSED = 2.0  # seconds in which no other attempt is made to connect
_SETTLE = 0.5  # seconds in which the reason of a worker's end arrives
_LEAVING = 5.0  # seconds in which a worker that leaves is gone, after the function that it has interrupted
_AHEAD = 3  # tasks for each thread that the scheduler knows of at a time
_FEWEST_AHEAD = 16  # where others have added the workers, and may add more
_BATCH_SECONDS = 0.05  # of estimated work in a task
_LARGEST_BATCH = 32
_PATIENCE = 1.0  # seconds after which units behind a slow one are taken out of its task
_A_TASK = "a task is a thread of a worker that has other tasks too"


@frozen
class Opened:
    """A connection, or why there is none."""

    connection: Connection | None
    error: Exception | None = None


@frozen
class Posted:
    """What the attempts of one task report, as JSON: run, attempt, the number of the first event, events."""

    worker: str
    key: str
    reports: str


@frozen
class TaskEnded:
    """A task is over, in whatever way."""

    key: str
    status: str
    error: BaseException | None


@frozen
class GivenBack:
    """Runs of a task that has not begun them, and will not."""

    key: str
    runs: Sequence[str]


@frozen
class WorkerGone:
    """A worker is gone, by itself or as it was to be."""

    worker: str
    is_expected: bool
    keys: Sequence[str] = ()  # of the tasks that it had


@frozen
class MemoryExceeded:
    """A nanny ends its worker, which has this many bytes."""

    worker: str
    size: int


@frozen
class Asked:
    """Workers were asked to stop an attempt; `is_running` says whether its handler runs in one of them."""

    run: str
    is_running: bool


@frozen
class Gone:
    """Nothing is left of an execution."""

    execution: str


@frozen
class Orphaned:
    """A run of a dead client, which ended with it."""

    execution: str
    run: str


Message = Opened | Posted | TaskEnded | GivenBack | WorkerGone | MemoryExceeded | Asked | Gone | Orphaned


@dataclass(eq=False)
class Unit:
    """One unit, as its place knows it."""

    execution: Execution
    task: Task
    batch: Batch | None = None  # None while it waits here
    began: float | None = None
    has_said: bool = False  # what it waits for
    has_ended: bool = False
    stopped_at: float | None = None

    @property
    def name(self) -> str:
        """What it is called in a worker."""
        return f"{self.task.run}-{self.task.attempt}"


@dataclass(eq=False)
class Batch:
    """A task: units that one thread of a worker runs one after the other."""

    execution: Execution
    key: str
    units: list[Unit]
    future: Any = None
    since: float = field(default_factory=time.monotonic)
    worker: str | None = None  # where it has begun
    lost_at: float | None = None  # when its worker was gone
    settle: float = _SETTLE
    is_finished: bool = False  # the task has returned, and not all of its units have said how they ended
    is_preempted: bool = False
    asked_back: bool = False

    @property
    def left(self) -> list[Unit]:
        """Its units that have not ended and are not elsewhere by now."""
        return [unit for unit in self.units if unit.batch is self and not unit.has_ended]


@dataclass(eq=False)
class Execution:
    """An execution, as its place knows it; units by their runs."""

    name: str
    plan: Plan
    binding: bytes
    parallel: int | None
    units: dict[str, Unit] = field(default_factory=dict)
    waiting: deque[Unit] = field(default_factory=deque)  # in no task yet
    batches: dict[str, Batch] = field(default_factory=dict)  # by key
    count: int = 0  # of tasks so far


class DaskPlace(OneShot):
    """Tasks of one cluster, which is started for them where it has no address."""

    OPTIONS = ()
    CAPABILITIES = Capabilities(
        secrets_of_caller=True,
        max_units=10_000,
        window="place",
        unsupported={
            "mem": f"{_A_TASK}: kind=mlfn.Dask(mem=...) limits each worker",
            "gpus": f"{_A_TASK}: none of its devices is the task's alone",
            "requirements": "the workers have packages of their own, which lack them: install them there",
        },
        ignored={
            "image": "the workers are there as they are",
            "node": "the workers are where they are",
            "cpu": f"{_A_TASK}: kind=mlfn.Dask(threads=...) says how many",
        },
    )

    @staticmethod
    def target(**options: Any) -> Mapping[str, Any]:
        """Return what to connect to."""
        return options

    @staticmethod
    def check_plan(plan: Plan) -> None:
        """Raise OptionError for what belongs to worker processes of mlfn's own, and for what may not travel.

        Say once of each cluster of others that its runs end with this process.
        """
        if plan.place.options:
            [name, value] = next(iter(plan.place.options.items()))
            raise OptionError(
                f"{plan.name} has on({plan.place.name!r}, {name}={value!r}), which is for runs in worker processes: kind='dask' has "
                "workers of its own, kind=mlfn.Dask(workers=...)."
            )
        if plan.kind.options.get("address") is None:
            return
        for what, given in (("env", dict(plan.env)), ("secrets", [secret.name for secret in plan.secrets])):
            if given:
                raise OptionError(
                    f"{plan.name} asks for {what}={given!r}, which a task of the cluster at {plan.kind.options['address']} cannot "
                    f"have: its workers are others' too, and a task is no place for secrets. Set them where the workers start."
                )
        _say_once(
            f"runs at the Dask cluster at {plan.kind.options['address']} end with this process; whoever next asks for one has it tried again"
        )

    @staticmethod
    def has_ended(handle: Mapping[str, Any], *, heartbeat: float, awaited: bool) -> bool:
        """Return True: a task ends with its client."""
        return True

    def __init__(self, config: PlaceConfig, **options: Any) -> None:
        self._config = config
        self._cluster = cluster_of(options, config.max_workers)
        self._topic = f"mlfn-{new_id()}"
        self._inbox: Inbox[Message] = Inbox(self._take, self._look_at_all)
        self._executions: dict[str, Execution] = {}
        self._reserved: dict[str, tuple[Plan, int | None]] = {}
        self._units: dict[str, Unit] = {}  # by run
        self._batches: dict[str, Batch] = {}  # by key
        self._pace: dict[str, float] = {}  # seconds that a run of a plan takes
        self._memory: dict[str, int] = {}  # of workers that had too much, by address
        self._restarted: set[str] = set()  # workers that were ended to end a run
        self._orphans: set[str] = set()  # executions of dead clients
        self._threads = Threads(_THREADS)
        self._connection: Connection | None = None
        self._refusal: tuple[Exception, float] | None = None  # why there is no connection, and until when that counts
        self._is_connecting = False
        self._is_closed = False

    # -- what the dispatcher asks for

    def warm(self) -> None:
        """Connect ahead of the first run."""
        self._connect()

    def scale_to(self, parallel: int | None) -> int:
        """Return how many tasks are at work at a time, as far as is known before there is a cluster."""
        return parallel or self._cluster.width

    def reserve(
        self, plan: Plan, *, waiting: int, backlog: int, parallel: int | None, failures: int | None
    ) -> Slot | Unavailable:
        """Return a new execution, once there is a connection."""
        if self._refusal is not None and time.monotonic() < self._refusal[1]:
            return Unavailable(self._refusal[0])
        if (connection := self._connected()) is None:
            self._connect()
            return Unavailable()
        name = new_id()
        self._reserved[name] = (plan, parallel)
        return Slot(name, {"scheduler": connection.address}, min(waiting, self.CAPABILITIES.max_units), queued=True)

    def start(self, execution: str, tasks: Sequence[Task]) -> None:
        """Submit its tasks, as many as are to be at work at a time."""
        plan, parallel = self._reserved.pop(execution)
        binding = pickle.dumps(binding_of(plan, self._config, execution))
        found = self._executions[execution] = Execution(execution, plan, binding, parallel)
        found.units = {task.run: Unit(found, task) for task in tasks}
        found.waiting.extend(found.units.values())
        self._units.update(found.units)
        self._fill(found)

    def attach(self, stored: StoredExecution) -> None:
        """Report that it ended with its client."""
        self._orphans.add(stored.execution)
        for run in stored.units:
            self._inbox.put(Orphaned(stored.execution, run))

    def collect(self, timeout: float) -> Sequence[Report]:
        """Wait for messages, and return what they come to."""
        return self._inbox.collect(timeout, _LOOK if self._executions else None)

    def wake(self) -> None:
        """Interrupt `collect`."""
        self._inbox.wake()

    def stop(self, execution: str, run: str) -> None:
        """Have the handler of one unit raise `Cancelled`; a task that has not begun is taken back."""
        found = self._executions.get(execution)
        unit = found.units.get(run) if found is not None else None
        if found is None or unit is None or unit.stopped_at is not None:
            return
        unit.stopped_at = time.monotonic()
        if unit.batch is None:
            self._inbox.put(Asked(run, is_running=False))
        elif not unit.has_ended:
            self._ask_to_stop(unit)

    def answer(self, execution: str, run: str, why: str | None) -> None:
        """Answer a point of a unit."""
        unit, connection = self._units.get(run), self._connected()
        if unit is not None and unit.batch is not None and unit.batch.worker is not None and connection is not None:
            name, workers = unit.name, [unit.batch.worker]
            self._in_thread(lambda: connection.ask(on_worker.answer, name, why, workers=workers))

    def cleanup(self, execution: str) -> None:
        """Forget it: its tasks are over."""
        is_known = execution in self._executions or execution in self._orphans or execution in self._reserved
        self._reserved.pop(execution, None)
        self._orphans.discard(execution)
        self._forget(execution)
        if is_known:
            self._inbox.put(Gone(execution))

    def close(self) -> list[str]:
        """Leave the cluster, and end it if it was started here; its tasks end with that."""
        self._is_closed = True
        ended = [
            name
            for name, execution in self._executions.items()
            if all(unit.has_ended for unit in execution.units.values())
        ]
        for held in (self._executions, self._units, self._batches):
            held.clear()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self._threads.close()
        return ended

    def after_fork(self) -> None:
        """Forget the cluster, which is the parent's."""
        self._connection = None
        self._executions, self._units, self._batches = {}, {}, {}

    # -- what threads do

    def _in_thread(self, action: Callable[[], object]) -> None:
        def run() -> None:
            try:
                action()
            except Exception:
                logger.debug("the Dask cluster gives no answer", exc_info=True)

        self._threads.do(run)

    def _connect(self) -> None:
        if self._is_connecting or self._connected() is not None:
            return
        self._is_connecting = True
        topics = {self._topic: self._posted, "all": self._said_by_all, "worker-restart-memory": self._exceeded}

        def open_() -> None:
            try:
                message = Opened(connect(self._cluster, topics, self._config.folder))
            except Exception as error:  # noqa: BLE001 - told to the thread that decides
                message = Opened(None, error)
            if self._is_closed and message.connection is not None:
                message.connection.close()
            self._inbox.put(message)

        self._threads.do(open_)

    def _connected(self) -> Connection | None:
        """Return the connection, if its scheduler is there."""
        if self._connection is not None and not self._connection.is_alive:
            lost, self._connection = self._connection, None
            self._in_thread(lost.close)
        return self._connection

    def _ask_to_stop(self, unit: Unit) -> None:
        assert unit.batch is not None
        name, run, worker, connection = unit.name, unit.task.run, unit.batch.worker, self._connected()
        if connection is None:
            return

        def ask() -> None:
            answers = connection.ask(on_worker.stop, name, workers=None if worker is None else [worker])
            self._inbox.put(Asked(run, any(answers.values())))

        self._in_thread(ask)

    def _ask_back(self, batch: Batch) -> None:
        if batch.asked_back:
            return
        batch.asked_back = True
        connection, key, worker = self._connected(), batch.key, batch.worker
        if connection is None or worker is None:
            return

        def ask() -> None:
            answers = connection.ask(on_worker.give_back, key, workers=[worker])
            self._inbox.put(GivenBack(key, [run for runs in answers.values() for run in runs]))

        self._in_thread(ask)

    # -- what Dask's own threads tell

    def _posted(self, event: tuple[float, Sequence[Any]]) -> None:
        self._inbox.put(Posted(*event[1]))

    def _said_by_all(self, event: tuple[float, Any]) -> None:
        said = event[1]
        if isinstance(said, Mapping) and said.get("action") == "remove-worker":
            keys = [str(key) for key in said.get("processing-tasks") or ()]
            self._inbox.put(WorkerGone(str(said.get("worker")), bool(said.get("expected")), keys))

    def _exceeded(self, event: tuple[float, Mapping[str, Any]]) -> None:
        self._inbox.put(MemoryExceeded(str(event[1]["worker"]), int(event[1]["rss"])))

    def _ended(self, key: str, status: str, error: BaseException | None) -> None:
        self._inbox.put(TaskEnded(key, status, error))

    # -- what messages come to

    def _take(self, message: Message) -> Iterator[Report]:
        if isinstance(message, Posted):
            yield from self._take_events(message)
        elif isinstance(message, TaskEnded):
            yield from self._take_end(message)
        elif isinstance(message, Asked):
            yield from self._take_asked(message)
        elif isinstance(message, GivenBack):
            self._take_given_back(message)
        elif isinstance(message, WorkerGone):
            self._note_gone(message)
        elif isinstance(message, MemoryExceeded):
            self._memory[message.worker] = message.size
        elif isinstance(message, Opened):
            self._is_connecting = False
            self._inbox.wake()  # the dispatcher reserves again
            self._connection = message.connection
            self._refusal = None if message.error is None else (message.error, time.monotonic() + _REFUSED)
        elif isinstance(message, Gone):
            yield Terminated(message.execution, Reason.LOST, " is gone")
        else:
            yield Terminated(
                message.execution,
                Reason.PREEMPTED,
                " ended with its client, as a task of a Dask cluster does.",
                run=message.run,
            )

    def _take_events(self, posted: Posted) -> Iterator[Report]:
        batch = self._batches.get(posted.key)
        if batch is None:
            return
        if batch.worker is None:
            batch.worker = posted.worker
        elif batch.worker != posted.worker:  # Dask has begun it again elsewhere: what it did first is lost
            self._lose(batch, is_preempted=False)
            return
        for run, attempt, first, events in json.loads(posted.reports):
            unit = self._units.get(run)
            if unit is not None and unit.batch is batch and unit.task.attempt == attempt and not unit.has_ended:
                yield EventsReceived(batch.execution.name, tuple(events), "seen", run, first)
                yield from self._note(unit, events)

    def _note(self, unit: Unit, events: Sequence[Mapping[str, Any]]) -> Iterator[Report]:
        """Note what events say of a unit's own beginning and end."""
        for event in events:
            if event["run"] != unit.task.run:
                continue
            if event["event"] == "started":
                unit.began = event["time"]
            elif event["event"] == "finished":
                if event["state"] == RunState.CANCELLED.value and unit.stopped_at is None:
                    continue  # not by mlfn: its worker leaves, or others have taken the task back, which is told too
                unit.has_ended = True
                took, plan = event["time"] - (unit.began or 0.0), unit.execution.plan.hash
                self._pace[plan] = max(took, 0.8 * self._pace.get(plan, 0.0))
                # The dispatcher lets go of what ended by itself; of what was stopped, once it is gone.
                yield Terminated(unit.execution.name, Reason.LOST, _NO_OUTCOME, run=unit.task.run)

    def _take_end(self, ended: TaskEnded) -> Iterator[Report]:
        batch = self._batches.get(ended.key)
        if batch is None or (ended.status != "finished" and batch.lost_at is not None):
            return
        if ended.status == "finished":
            # One that was to stop was not begun, and the answer to that question ends it.
            if all(unit.stopped_at is not None for unit in batch.left):
                self._leave(batch)
            else:
                batch.is_finished = True
                self._lose(batch, is_preempted=False, settle=_LEAVING)
        elif self._is_scheduler_gone():
            yield from self._end(
                batch, Reason.LOST, f": the scheduler of {self._cluster.shown} is gone, and all its tasks with it."
            )
        elif ended.status != "error":
            words = f": its task was deleted at the scheduler of {self._cluster.shown}, and not by mlfn."
            yield from self._end(batch, Reason.LOST, words, deleted=True)
        elif type(ended.error).__name__ == "KilledWorker":
            self._lose(batch, is_preempted=False)  # what says why may be still to come
        else:
            words = f": its task failed before the function was called ({type(ended.error).__name__}: {ended.error})."
            yield from self._end(batch, Reason.ERROR, words)

    def _end(self, batch: Batch, reason: Reason, words: str, *, deleted: bool = False) -> Iterator[Report]:
        """Report the end of what a task has not ended by itself."""
        has_begun = any(unit.began is not None for unit in batch.units)
        for number, unit in enumerate(batch.left):
            if unit.began is None and unit.stopped_at is None and (has_begun or number):
                self._wait_again(unit)
            else:
                yield self._terminated(unit, reason, words, deleted=deleted)
        self._leave(batch)

    def _terminated(self, unit: Unit, reason: Reason, words: str, *, deleted: bool = False) -> Terminated:
        unit.has_ended = True
        return Terminated(unit.execution.name, reason, words, deleted=deleted, run=unit.task.run)

    def _wait_again(self, unit: Unit) -> None:
        unit.batch = None
        unit.execution.waiting.appendleft(unit)

    def _lose(self, batch: Batch, *, is_preempted: bool, settle: float = _SETTLE) -> None:
        """Give a task up whose worker is gone, before Dask begins it again elsewhere."""
        batch.is_preempted |= is_preempted
        if batch.lost_at is None:
            batch.lost_at, batch.settle = time.monotonic(), settle
            self._cancel(batch)

    def _cancel(self, batch: Batch) -> None:
        if (future := batch.future) is not None:
            self._in_thread(lambda: future.cancel(force=True))

    def _leave(self, batch: Batch) -> None:
        """Forget a task that is over, and begin others in its place."""
        batch.future = None
        self._batches.pop(batch.key, None)
        batch.execution.batches.pop(batch.key, None)
        self._fill(batch.execution)

    def _take_asked(self, asked: Asked) -> Iterator[Report]:
        unit = self._units.get(asked.run)
        if unit is None or unit.has_ended or unit.began is not None or asked.is_running:
            return
        if unit in unit.execution.waiting:
            unit.execution.waiting.remove(unit)
        batch = unit.batch
        yield self._terminated(unit, Reason.PREEMPTED, ": it was stopped before it began.")
        if batch is not None and all(other.has_ended for other in batch.units):
            self._cancel(batch)

    def _take_given_back(self, given: GivenBack) -> None:
        if (batch := self._batches.get(given.key)) is None:
            return
        for run in reversed(given.runs):
            unit = self._units.get(run)
            if unit is not None and unit.batch is batch and not unit.has_ended and unit.stopped_at is None:
                self._wait_again(unit)
        self._fill(batch.execution)

    def _note_gone(self, gone: WorkerGone) -> None:
        for batch in self._batches.values():
            # One that has just begun has not said where.
            if batch.worker == gone.worker or batch.key in gone.keys:
                self._lose(batch, is_preempted=gone.is_expected or gone.worker in self._restarted)

    def _look_at_all(self) -> Iterator[Report]:
        for execution in list(self._executions.values()):
            yield from self._look(execution)

    def _look(self, execution: Execution) -> Iterator[Report]:
        """Do what no message asks for: say what is waited for, conclude from lost workers, end what ignores its stop."""
        now = time.monotonic()
        for batch in list(execution.batches.values()):
            if batch.lost_at is not None:
                if now > batch.lost_at + batch.settle or (batch.is_finished and batch.is_preempted):
                    yield from self._end(batch, *self._words_of_loss(batch))
                continue
            if batch.worker is None and now > batch.since + _SAY_AFTER:
                yield from self._say_waiting(batch)
            elif batch.worker is not None and len(batch.left) > 1 and now > batch.since + _PATIENCE:
                self._ask_back(batch)
            for unit in batch.left:
                if unit.stopped_at is not None and now > unit.stopped_at + self._config.grace:
                    yield from self._abandon(unit, batch)

    def _say_waiting(self, batch: Batch) -> Iterator[Report]:
        dashboard = self._connection.dashboard if self._connection is not None else None
        where = f" ({dashboard})" if dashboard else ""
        for unit in batch.units:
            if not unit.has_said and not unit.has_ended:
                unit.has_said = True
                yield StatusChanged(
                    batch.execution.name, unit.task.run, f"a free worker of {self._cluster.shown}{where}"
                )

    def _abandon(self, unit: Unit, batch: Batch) -> Iterator[Report]:
        """End a unit whose handler does not: with its worker, where that is mlfn's own."""
        connection, worker, name = self._connected(), batch.worker, unit.execution.plan.name
        is_own = self._cluster.address is None and self._cluster.nanny
        if connection is not None and worker is not None and is_own:
            logger.warning("%s (%s) does not end: its worker is restarted", name, unit.task.run[:8])
            self._restarted.add(worker)
            self._in_thread(lambda: connection.restart(worker))
        elif worker is not None:
            logger.warning(
                "%s (%s) cannot be interrupted: it is abandoned, and goes on at worker %s of %s until it ends by itself",
                name,
                unit.task.run[:8],
                worker,
                self._cluster.shown,
            )
        yield self._terminated(unit, Reason.PREEMPTED, ": it did not end, and was abandoned.")
        if not is_own or worker is None:
            self._cancel(batch)
            for other in batch.left:
                self._wait_again(other)
            self._leave(batch)

    def _words_of_loss(self, batch: Batch) -> tuple[Reason, str]:
        worker, cluster = batch.worker, self._cluster
        if worker is None and not batch.is_finished:
            return Reason.NEVER_STARTED, f": each worker of {cluster.shown} that was to begin it died."
        if worker is not None and (size := self._memory.get(worker)) is not None:
            limit = f" of mem={shown_bytes(cluster.mem)}" if cluster.mem else ""
            words = f": its worker ({worker}) had {size / 2**20:.0f}Mi and exceeded its limit{limit}, so its nanny ended it."
            return Reason.OOM, words + " Raise Dask(mem=), have fewer threads, or use less."
        if batch.is_preempted:
            return Reason.PREEMPTED, f": its worker ({worker}) was retired."
        if batch.is_finished:
            return Reason.LOST, _NO_OUTCOME
        return Reason.LOST, f": its worker ({worker}) of {cluster.shown} died."

    def _is_scheduler_gone(self) -> bool:
        return self._connection is None or not self._connection.is_alive

    # -- the window

    def _fill(self, execution: Execution) -> None:
        """Submit as many tasks as may be at work at a time."""
        made: list[Batch] = []
        most = execution.parallel or self._window()
        while execution.waiting and len(execution.batches) < most:
            size = self._size(execution)
            units = [execution.waiting.popleft() for _ in range(size)]
            execution.count += 1
            batch = Batch(execution, f"mlfn-{execution.plan.name}-{execution.name}-{execution.count}", units)
            for unit in units:
                unit.batch = batch
            execution.batches[batch.key] = self._batches[batch.key] = batch
            made.append(batch)
        if made:
            self._submit(execution, made)

    def _window(self) -> int:
        return max(_AHEAD * self._cluster.width, _FEWEST_AHEAD if self._cluster.address else 1)

    def _size(self, execution: Execution) -> int:
        """Return how many units the next task has: several where they are shorter than their way there and back."""
        pace = self._pace.get(execution.plan.hash)
        if pace is None:
            return 1
        share = -(-len(execution.waiting) // (execution.parallel or self._cluster.width))
        return max(1, min(_LARGEST_BATCH, int(_BATCH_SECONDS / max(pace, 1e-6)), share))

    def _submit(self, execution: Execution, batches: Sequence[Batch]) -> None:
        connection = self._connected()
        if connection is None:
            for batch in batches:
                self._inbox.put(TaskEnded(batch.key, "lost", None))
            return
        tasks = [json.dumps([vars(unit.task) for unit in batch.units]).encode() for batch in batches]
        keys = [batch.key for batch in batches]
        common = {"binding": execution.binding, "topic": self._topic, "page": connection.dashboard}
        futures = connection.submit(on_worker.run_batch, tasks, keys, **common)
        for batch, future in zip(batches, futures, strict=True):
            batch.future = future
            connection.when_done(future, functools.partial(self._ended, batch.key))

    def _forget(self, name: str) -> None:
        if (execution := self._executions.pop(name, None)) is None:
            return
        for run, unit in execution.units.items():
            if self._units.get(run) is unit:
                del self._units[run]


@functools.cache
def _say_once(text: str) -> None:
    logger.warning("%s", text)


def cluster_of(options: Mapping[str, Any], cores: int) -> Cluster:
    """Return the cluster that the options of a `Dask` ask for; `cores` is how many workers it has by default."""
    adaptive = options.get("adaptive")
    mem = options.get("mem")
    return Cluster(
        workers=options.get("workers") or (adaptive[0] if adaptive else cores),
        threads=options.get("threads") or 1,
        mem=None if mem is None else parse_bytes(mem),
        adaptive=None if adaptive is None else (adaptive[0], adaptive[1]),
        nanny=options.get("nanny", True),
        address=options.get("address"),
    )
