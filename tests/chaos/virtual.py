"""An engine in memory and in virtual time, whose units do what their parameter `script` says."""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from mlfn import errors
from mlfn.spec.record import Outcome, Output, Reason, RemoteFailure, RunState
from mlfn.worker.task import Task
from tests.chaos.engine import ExistsError, Template, UnitStatus
from tests.chaos.rates import HARSH

_LAST_WORDS = 0.01  # seconds between SIGTERM and the end of a handler that obeys
_FOREVER = 1e12

Event = Mapping[str, Any]


class Time(Protocol):
    """Seconds since the epoch, and how they pass."""

    def now(self) -> float: ...
    def wait(self, until: float, is_woken: Callable[[], bool]) -> None: ...
    def wake(self) -> None: ...


@dataclass(frozen=True)
class Script:
    """What a unit does: it takes so long, logs so many points, and ends at attempt n as `ends[n - 1]` says, or the last.

    "return", "raise", "exit" (code 3, without an outcome), "kill" (SIGKILL), "oom", "evict", "unschedulable" (it never starts),
    "endless". One that is `stubborn` ignores SIGTERM.
    """

    takes: float = 0.0
    points: int = 0
    ends: Sequence[str] = ("return",)
    stubborn: bool = False
    value: Any = None

    def end_at(self, attempt: int) -> str:
        """Return how an attempt ends."""
        return self.ends[min(attempt, len(self.ends)) - 1]


@dataclass
class Unit:
    """One unit, and all that its engine knows of it."""

    index: int
    task: Task
    script: Script
    phase: str = "queued"
    reason: str = ""
    exit_code: int | None = None
    signal: int | None = None
    message: str = ""
    journal: list[Event] = field(default_factory=list)
    log: list[bytes] = field(default_factory=list)
    sigterm: str = ""  # why it was sent

    def status(self) -> UnitStatus:
        """Return what the API says."""
        return UnitStatus(
            self.index,
            self.task.run,
            self.task.attempt,
            self.phase,
            len(self.journal),
            self.reason,
            self.exit_code,
            self.signal,
            self.message,
        )


@dataclass
class Object:
    """A named object."""

    name: str
    template: Template
    units: list[Unit]
    queued: deque[Unit]
    at_work: int = 0
    changed: list[int] = field(default_factory=list)  # the unit that each version changed


class VirtualEngine:
    """Objects of scripted units; `room` units are at work at a time, of all objects together.

    `ledger` keeps what each attempt did, also when its object is gone: a unit for each time that it was created.
    """

    RATES = HARSH

    def __init__(
        self,
        time: Time,
        *,
        room: int | None = None,
        starting: float = 0.05,
        script_of: Callable[[Task], Script] | None = None,
    ) -> None:
        self._time = time
        self._starting = starting  # seconds that a unit takes to start
        self._script_of = script_of or _script_of
        self._room = room or 1 << 30
        self._is_small = room is not None
        self._at_work = 0
        self._objects: dict[str, Object] = {}
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.ledger: defaultdict[tuple[str, int], list[Unit]] = defaultdict(list)

    # -- the API

    def now(self) -> float:
        """Return the virtual time."""
        return self._time.now()

    def wait(self, until: float, is_woken: Callable[[], bool]) -> None:
        """Let time pass until the next event of a unit, or until then."""
        self._time.wait(min(until, self._agenda[0][0] if self._agenda else _FOREVER), is_woken)
        self._advance()

    def wake(self) -> None:
        """Interrupt `wait`."""
        self._time.wake()

    def create(self, name: str, tasks: Sequence[Task], template: Template) -> None:
        """Create an object with a unit for each task."""
        self._advance()
        if name in self._objects:
            raise ExistsError(name)
        units = [Unit(index, task, self._script_of(task)) for index, task in enumerate(tasks)]
        for unit in units:
            self.ledger[unit.task.run, unit.task.attempt].append(unit)
        made = self._objects[name] = Object(name, template, units, deque(units))
        made.changed = list(range(len(units)))
        self._admit(made)

    def watch(self, name: str, since: int) -> tuple[int, Sequence[UnitStatus]] | None:
        """Return the object's version, and its units that changed since an earlier one."""
        self._advance()
        if (found := self._objects.get(name)) is None:
            return None
        new = found.changed[since:]
        return since + len(new), [found.units[index].status() for index in dict.fromkeys(new)]

    def lines(self, name: str, index: int, first: int) -> Sequence[Event]:
        """Return a unit's journal from line `first` on."""
        return self._objects[name].units[index].journal[first:]

    def log(self, name: str, index: int, offset: int) -> bytes:
        """Return a unit's log from an offset on."""
        return b"".join(self._objects[name].units[index].log)[offset:]

    def stop(self, name: str, index: int) -> None:
        """End a unit by SIGTERM."""
        self._advance()
        if (found := self._objects.get(name)) is not None:
            self._terminate(found, found.units[index], "stopped")

    def delete(self, name: str) -> None:
        """Remove an object with all its units at once."""
        self._advance()
        if (found := self._objects.pop(name, None)) is not None:
            found.queued.clear()
            for unit in found.units:
                self._end(found, unit, "deleted")

    # -- what happens to units past the API, and what a story asks

    def names(self) -> list[str]:
        """Return the objects that there are."""
        return list(self._objects)

    def evict(self, name: str, index: int) -> None:
        """Take a unit's node away."""
        found = self._objects[name]
        self._terminate(found, found.units[index], "evicted")

    def units_of(self, name: str) -> list[UnitStatus]:
        """Return the units of an object."""
        return [unit.status() for unit in self._objects[name].units]

    # -- the life of a unit

    def _advance(self) -> None:
        now = self._time.now()
        while self._agenda and self._agenda[0][0] <= now:
            heapq.heappop(self._agenda)[2]()

    def _later(self, at: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (at, next(self._order), action))

    def _admit(self, of: Object) -> None:
        """Start units while their object, and the engine, have room."""
        while of.queued and of.at_work < (of.template.parallel or 1 << 30) and self._at_work < self._room:
            unit = of.queued.popleft()
            if unit.phase == "ended":
                continue  # it was stopped while it waited
            of.at_work += 1
            self._at_work += 1
            unit.phase, unit.message = "starting", "its image is pulled"
            of.changed.append(unit.index)
            self._later(self._time.now() + self._starting, partial(self._start, of, unit))

    def _start(self, of: Object, unit: Unit) -> None:
        if unit.phase == "ended":
            return
        begun, script, end = self._time.now(), unit.script, unit.script.end_at(unit.task.attempt)
        if end == "unschedulable":
            self._end(of, unit, "unschedulable")
            return
        unit.phase, unit.message = "running", ""
        self._write(of, unit, self._event(unit, "started"))
        for point in range(script.points):
            at = begun + script.takes * (point + 1) / (script.points + 1)
            self._later(at, partial(self._log_point, of, unit, point))
        if end != "endless":
            self._later(begun + script.takes, partial(self._finish, of, unit, end))
        if of.template.timeout is not None:
            self._later(begun + of.template.timeout, partial(self._terminate, of, unit, "deadline"))

    def _log_point(self, of: Object, unit: Unit, point: int) -> None:
        if unit.phase == "running" and not unit.sigterm:
            logged = [["loss", point, point / 8, self._time.now()]]
            self._write(of, unit, self._event(unit, "metrics", first=point, points=logged))

    def _finish(self, of: Object, unit: Unit, end: str) -> None:
        if unit.phase != "running" or unit.sigterm:
            return
        if end in ("return", "raise"):
            outcome = _returned(unit.script.value) if end == "return" else _raised()
            self._write(of, unit, self._event(unit, "finished", **outcome.to_json()))
            self._end(of, unit, "exited", code=int(end == "raise"))
        elif end == "exit":
            self._end(of, unit, "exited", code=3)
        elif end == "evict":
            self._terminate(of, unit, "evicted")
        else:
            self._end(of, unit, "oom" if end == "oom" else "killed", signal=9)

    def _terminate(self, of: Object, unit: Unit, why: str) -> None:
        """Send SIGTERM, and SIGKILL after the grace time."""
        if unit.phase == "ended" or unit.sigterm:
            return
        if unit.phase != "running":
            self._end(of, unit, why)
            return
        unit.sigterm = why
        if unit.script.stubborn:
            self._later(self._time.now() + of.template.grace, partial(self._end, of, unit, why, signal=9))
        else:
            self._later(self._time.now() + _LAST_WORDS, partial(self._obey, of, unit, why))

    def _obey(self, of: Object, unit: Unit, why: str) -> None:
        if unit.phase == "running":
            self._write(of, unit, self._event(unit, "finished", **Outcome(RunState.CANCELLED).to_json()))
            self._end(of, unit, why, code=1)

    def _end(self, of: Object, unit: Unit, reason: str, *, code: int | None = None, signal: int | None = None) -> None:
        if unit.phase == "ended":
            return
        if unit.phase in ("starting", "running"):
            of.at_work -= 1
            self._at_work -= 1
        unit.phase, unit.reason, unit.exit_code, unit.signal = "ended", reason, code, signal
        of.changed.append(unit.index)
        self._admit(of)
        if self._is_small:
            for other in self._objects.values():
                self._admit(other)

    def _write(self, of: Object, unit: Unit, event: Event) -> None:
        unit.journal.append(event)
        of.changed.append(unit.index)

    def _event(self, unit: Unit, what: str, **facts: Any) -> Event:
        return {
            "event": what,
            "run": unit.task.run,
            "attempt": unit.task.attempt,
            "time": self._time.now(),
            **facts,
        }


def _script_of(task: Task) -> Script:
    """Return what a task does."""
    return Script(**task.params["script"]["inline"])


def _returned(value: Any) -> Outcome:
    output = Output("return", "return", "json", type(value).__name__, inline=value, size=4)
    return Outcome(RunState.SUCCEEDED, returns={"keys": ["return"]}, outputs=(output,))


def _raised() -> Outcome:
    return Outcome(RunState.FAILED, Reason.ERROR, RemoteFailure.of_error(errors.RunError("as its script says")))
