"""The place over an engine, and all that goes wrong between them."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Mapping, Sequence
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
from mlfn.errors import OptionError
from mlfn.host.identity import new_id
from mlfn.spec.plan import Plan
from mlfn.spec.record import Reason
from mlfn.worker.task import Task
from tests.chaos.engine import ExistsError, RefusedError, Template, UnitStatus, UnreachableError
from tests.chaos.engines import open_engine, template_of
from tests.chaos.exits import explain
from tests.chaos.faults import Faults
from tests.chaos.rates import NONE

_AGAIN = 0.05  # seconds between two observations, and between two tries
_DELETED = ": its execution was deleted at the engine, and not by mlfn."


@dataclass
class Watched:
    """An execution as its place knows it; by run, how much of its journal was read."""

    name: str
    tasks: dict[str, Task]
    template: Template
    read: dict[str, int]
    is_observed: bool = False  # it has been there
    is_created: bool = False
    tries: int = 0  # to create it
    version: int = 0
    index: dict[str, int] = field(default_factory=dict)
    at_work: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    waits_for: dict[str, str] = field(default_factory=dict)
    to_stop: list[str] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)  # runs without a unit, at the last observation
    missing_since: float | None = None
    not_before: float = 0.0
    over_since: float | None = None  # nothing needs it any more: it is deleted as soon as its units have ended


class ChaosPlace(OneShot):
    """Executions of up to `units` runs; the engine keeps the window and the deadline. With a seed, calls and reports suffer."""

    OPTIONS = ("engine", "seed", "units")
    CAPABILITIES = Capabilities(
        secrets_of_caller=True,
        outlives_client=True,
        max_units=100_000,
        window="place",
        deadline="place",
        unsupported={"gpus": "its engine has none"},
        ignored=dict.fromkeys(("image", "node", "requirements", "cpu"), "its engine runs all in one environment"),
    )

    @staticmethod
    def check(*, engine: str = "", seed: int | None = None, units: int = CAPABILITIES.max_units) -> None:
        """Raise OptionError for an option's value that does not fit."""
        if type(units) is not int or units < 1:
            raise OptionError(f"on('chaos', units={units!r}): a whole number, 1 or more, is allowed.")

    @staticmethod
    def target(**options: Any) -> Mapping[str, Any]:
        """Return the options: each engine, and each seed, has a dispatcher of its own."""
        return options

    @staticmethod
    def check_plan(plan: Plan) -> None:
        """Take every plan."""

    @staticmethod
    def has_ended(handle: Mapping[str, Any], *, heartbeat: float, awaited: bool) -> bool:
        """Return False: only `attach` asks the engine."""
        return False

    def __init__(
        self, config: PlaceConfig, *, engine: str = "", seed: int | None = None, units: int = CAPABILITIES.max_units
    ) -> None:
        self._config = config
        self._units = units
        self._engine = open_engine(engine, config)
        rates = NONE if seed is None else self._engine.RATES
        self._faults = Faults(seed or 0, rates, self._engine.now)
        self._reserved: dict[str, tuple[Plan, int | None]] = {}
        self._watched: dict[str, Watched] = {}
        self._reports: list[tuple[float, int, Report]] = []
        self._order = itertools.count()
        self._is_woken = False

    # -- what the dispatcher asks for

    def reserve(
        self, plan: Plan, *, waiting: int, backlog: int, parallel: int | None, failures: int | None
    ) -> Slot | Unavailable:
        """Return a new execution, unless there is no room for a while."""
        if not self._faults.has_room():
            return Unavailable()
        name = new_id()
        self._reserved[name] = (plan, parallel)
        return Slot(name, {"parallel": parallel}, min(waiting, self._units), queued=True)

    def start(self, execution: str, tasks: Sequence[Task]) -> None:
        """Have the next `collect` create it."""
        plan, parallel = self._reserved.pop(execution)
        template = template_of(plan, self._config, parallel)
        self._watched[execution] = Watched(execution, {task.run: task for task in tasks}, template, {})

    def attach(self, stored: StoredExecution) -> None:
        """Watch it from where its journals are recorded; delete it if no run needs it."""
        tasks = {task.run: task for task in stored.tasks}
        template = (
            Template() if stored.plan is None else template_of(stored.plan, self._config, stored.handle["parallel"])
        )
        watched = Watched(stored.execution, tasks, template, dict(stored.acknowledged))
        watched.is_observed = stored.cursor is not None
        watched.is_created = True  # unless it is found missing, and was never observed
        watched.over_since = None if tasks else -math.inf
        self._watched[stored.execution] = watched

    def collect(self, timeout: float) -> Sequence[Report]:
        """Ask the engine, and return the reports that have arrived."""
        until = self._engine.now() + timeout
        while True:
            for watched in list(self._watched.values()):
                self._attend(watched)
            reports = self._arrived()
            if reports or self._is_woken or self._engine.now() >= until:
                self._is_woken = False
                return reports
            self._engine.wait(min(until, self._next()), lambda: self._is_woken)

    def wake(self) -> None:
        """Interrupt `collect`."""
        self._is_woken = True
        self._engine.wake()

    def stop(self, execution: str, run: str) -> None:
        """Have the next `collect` stop it."""
        if (watched := self._watched.get(execution)) is not None:
            watched.to_stop.append(run)

    def cleanup(self, execution: str) -> None:
        """Have it deleted once its units have ended; its end is reported after that."""
        if self._reserved.pop(execution, None) is not None:
            self._push(Terminated(execution, Reason.NEVER_STARTED, " was not started"))
        elif (watched := self._watched.get(execution)) is not None and watched.over_since is None:
            watched.over_since = self._engine.now()

    def close(self) -> list[str]:
        """Return the executions that are deleted by now."""
        over = [watched for watched in self._watched.values() if watched.over_since is not None]
        for watched in over:
            watched.over_since, watched.not_before = -math.inf, 0.0
            self._attend(watched)
        gone = [report.execution for _, _, report in self._reports if isinstance(report, Terminated) and not report.run]
        self._watched.clear()
        return gone

    def after_fork(self) -> None:
        """Do nothing: nothing is open."""

    # -- one execution

    def _attend(self, watched: Watched) -> None:
        if self._engine.now() < watched.not_before:
            return
        try:
            if watched.over_since is not None:
                self._delete(watched)
            elif watched.is_created:
                self._observe(watched)
            else:
                self._create(watched)
        except UnreachableError:
            watched.not_before = max(self._engine.now() + _AGAIN, self._faults.cut_off_until)

    def _create(self, watched: Watched) -> None:
        if not watched.tries and watched.to_stop:
            self._drop_stopped(watched)
        if not watched.tasks:
            return  # the dispatcher has it cleaned up
        watched.tries += 1
        try:
            self._faults.refuse()
            self._faults.call(lambda: self._engine.create(watched.name, list(watched.tasks.values()), watched.template))
        except ExistsError:
            pass  # an earlier try succeeded, whose answer was lost
        except RefusedError as error:
            for run in watched.tasks:
                self._push(Terminated(watched.name, Reason.NEVER_STARTED, str(error), run=run))
            watched.over_since = self._engine.now()  # an earlier try may have succeeded
            return
        watched.is_created = True
        self._observe(watched)

    def _drop_stopped(self, watched: Watched) -> None:
        """Create no unit that is stopped before the first try."""
        for run in watched.to_stop:
            del watched.tasks[run]
            self._push(Terminated(watched.name, Reason.PREEMPTED, ": it was stopped before it was created.", run=run))
        watched.to_stop.clear()

    def _observe(self, watched: Watched) -> None:
        found = self._faults.call(lambda: self._engine.watch(watched.name, watched.version))
        if found is None:
            self._miss(watched)
            return
        version, units = found
        watched.missing_since = None
        if not watched.is_observed:
            watched.is_observed = True
            self._push(EventsReceived(watched.name, (), cursor=str(version)))
        for unit in units:
            if unit.run in watched.tasks and unit.run not in watched.ended:
                self._read(watched, unit, str(version))
        watched.version = version
        self._miss_units(watched)
        for run in [run for run in watched.to_stop if run in watched.index]:
            self._faults.call(lambda run=run: self._engine.stop(watched.name, watched.index[run]))  # type: ignore[misc]
            watched.to_stop.remove(run)

    def _miss(self, watched: Watched) -> None:
        """Conclude that an execution is gone at the second observation."""
        if not watched.is_observed:
            watched.is_created = False
            return
        if watched.missing_since is None:
            watched.missing_since = self._engine.now()
            watched.not_before = watched.missing_since + _AGAIN
            return
        for run in [run for run in watched.tasks if run not in watched.ended]:
            self._push(Terminated(watched.name, Reason.LOST, _DELETED, deleted=True, run=run))
        del self._watched[watched.name]
        self._push(Terminated(watched.name, Reason.LOST, _DELETED, deleted=True))

    def _miss_units(self, watched: Watched) -> None:
        """Conclude at the second observation that units are not there: another client, since dead, created it without them."""
        for run in [run for run in watched.tasks if run not in watched.index and run not in watched.ended]:
            if run in watched.missing:
                watched.ended.add(run)
                self._push(Terminated(watched.name, Reason.LOST, ": its execution was created without it.", run=run))
            watched.missing.add(run)

    def _read(self, watched: Watched, unit: UnitStatus, cursor: str) -> None:
        """Report what is new of a unit."""
        watched.index[unit.run] = unit.index
        if unit.phase in ("queued", "starting") and watched.waits_for.get(unit.run) != unit.message:
            watched.waits_for[unit.run] = unit.message
            self._push(StatusChanged(watched.name, unit.run, unit.message))
        first = 0 if self._faults.replays() else watched.read.get(unit.run, 0)
        if unit.lines > first:
            events = self._faults.call(lambda: self._engine.lines(watched.name, unit.index, first))
            self._push(EventsReceived(watched.name, tuple(events), cursor, unit.run, first))
            watched.read[unit.run] = first + len(events)
        if unit.phase == "ended":
            watched.at_work.discard(unit.run)
            watched.ended.add(unit.run)
            reason, message = explain(unit, watched.template)
            self._push(
                Terminated(
                    watched.name,
                    reason,
                    message,
                    unit.exit_code,
                    unit.signal,
                    deleted=unit.reason == "deleted",
                    run=unit.run,
                    lines=watched.read.get(unit.run, 0),
                )
            )
        elif unit.phase == "running":
            watched.at_work.add(unit.run)

    def _delete(self, watched: Watched) -> None:
        """Delete an execution whose ends are recorded; a unit that has reported its end is given time to exit."""
        until = (watched.over_since or 0.0) + self._config.grace
        if watched.is_created and watched.at_work and self._engine.now() < until:
            self._observe(watched)
            return
        self._faults.call(lambda: self._engine.delete(watched.name))
        del self._watched[watched.name]
        self._push(Terminated(watched.name, Reason.LOST, _DELETED, deleted=True))

    # -- reports on their way

    def _push(self, report: Report) -> None:
        now = self._engine.now()
        for delay in self._faults.delays():
            heapq.heappush(self._reports, (now + delay, next(self._order), report))

    def _arrived(self) -> list[Report]:
        now, found = self._engine.now(), []
        while self._reports and self._reports[0][0] <= now:
            found.append(heapq.heappop(self._reports)[2])
        return found

    def _next(self) -> float:
        """Return when a report arrives, or something is to be tried again."""
        due = [watched.not_before for watched in self._watched.values() if watched.not_before > self._engine.now()]
        return min([*due, self._reports[0][0] if self._reports else math.inf])
