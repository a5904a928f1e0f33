"""The world of a story: one engine, clients that live and die in one thread, and a store."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mlfn.dispatch import dispatcher as dispatchers
from mlfn.dispatch.dispatcher import Dispatcher
from mlfn.dispatch.inflight import InflightRun
from mlfn.dispatch.session import Session
from mlfn.host import failpoints
from mlfn.host.identity import new_id, now
from mlfn.settings.declarations import Settings
from mlfn.spec.canonical import canonical
from mlfn.spec.plan import Plan
from mlfn.spec.record import RunRecord
from mlfn.store import open_store
from mlfn.store.changes import FAILPOINTS, Submitted
from mlfn.store.queries import RunFilter
from mlfn.worker.task import Task
from tests.chaos.clock import CLOCK
from tests.chaos.engine import Template, UnitStatus
from tests.chaos.engines import VIRTUAL
from tests.chaos.virtual import VirtualEngine

T = TypeVar("T")
_CALLS = ("create", "watch", "lines", "stop", "delete")
POINTS = (*FAILPOINTS, *(f"engine.{call}.{when}" for call in _CALLS for when in ("before", "after")))
dispatchers._IDLE_WAIT = 0.25  # seconds: while one client has nothing to do, others have


class Killed(BaseException):
    """The client ends here, as by SIGKILL."""


class Time:
    """The clock of stories, for an engine."""

    def now(self) -> float:
        """Return seconds since 1970."""
        return CLOCK.now()

    def wait(self, until: float, is_woken: Callable[[], bool]) -> None:
        """Let time pass."""
        if not is_woken():
            CLOCK.sleep(until - CLOCK.now())

    def wake(self) -> None:
        """Do nothing: there is one thread."""


class StoryEngine(VirtualEngine):
    """An engine at each of whose calls the client may be killed."""

    def __init__(self, points: Points, *, room: int | None) -> None:
        super().__init__(Time(), room=room)
        self._points = points
        self.note: Callable[[str], None] | None = None
        self.on_create: Callable[[str], None] = lambda name: None

    def create(self, name: str, tasks: Sequence[Task], template: Template) -> None:
        def create() -> None:
            super(StoryEngine, self).create(name, tasks, template)
            self.on_create(name)

        self._at("create", name, create)

    def watch(self, name: str, since: int) -> tuple[int, Sequence[UnitStatus]] | None:
        return self._at("watch", name, lambda: super(StoryEngine, self).watch(name, since))

    def lines(self, name: str, index: int, first: int) -> Sequence[Mapping[str, Any]]:
        return self._at("lines", name, lambda: super(StoryEngine, self).lines(name, index, first))

    def stop(self, name: str, index: int) -> None:
        self._at("stop", name, lambda: super(StoryEngine, self).stop(name, index))

    def delete(self, name: str) -> None:
        self._at("delete", name, lambda: super(StoryEngine, self).delete(name))

    def _at(self, call: str, what: str, act: Callable[[], T]) -> T:
        self._points.pass_each([f"engine.{call}.before"])
        answer = act()
        if self.note is not None and call != "lines":
            self.note(f"    engine.{call} {what[:8]} -> {_brief_units(answer)}")
        self._points.pass_each([f"engine.{call}.after"])
        return answer


def _brief_units(answer: Any) -> str:
    if not isinstance(answer, tuple):
        return str(answer)
    return ", ".join(f"{unit.run[:8]} {unit.phase} {unit.reason} {unit.lines}" for unit in answer[1])


class Points:
    """The points at which a client may be killed."""

    def __init__(self) -> None:
        self._armed: str | None = None
        self._left = 0
        failpoints.ARE_ARMED = True
        failpoints.pass_each = self.pass_each

    def arm(self, name: str | None, left: int) -> None:
        """Kill the client that passes a point for the n-th time; None: any point."""
        self._armed, self._left = name, left

    def disarm(self) -> None:
        """Kill none."""
        self._left = 0

    def pass_each(self, names: Iterable[str]) -> None:
        """Pass points one after the other."""
        if self._left <= 0:
            return
        for name in names:
            if self._armed in (None, name):
                self._left -= 1
                if self._left == 0:
                    raise Killed(name)


class StorySession(Session):
    """A session whose dispatchers take turns in the story's thread."""

    def another_dispatcher(self, engine: str, target: str) -> Dispatcher:
        dispatcher = super().another_dispatcher(engine, target)
        dispatcher.run_by_turns()
        return dispatcher

    @property
    def dispatchers(self) -> list[Dispatcher]:
        """The dispatchers that there are."""
        return list(self._dispatchers.values())


class Client:
    """A process that uses the store."""

    def __init__(self, name: str, settings: Settings, note: Callable[[str], None] | None) -> None:
        self.name = name
        self.session = StorySession(settings)
        if note is not None:
            _note_changes(self.session.store, lambda text: note(f"{name}: {text}"))
        self.is_alive = True
        self.was_usurped = False
        self.asleep = 0  # turns that it misses: it was taken for dead

    def take_turn(self) -> None:
        """Let its dispatchers take a turn each."""
        for dispatcher in self.session.dispatchers:
            dispatcher.turn()

    def seem_dead(self) -> None:
        """Have other clients take it for dead."""
        self.was_usurped |= self.is_alive
        store: Any = self.session.store
        store.connection.write("UPDATE clients SET started = ? WHERE id = ?", ("another", self.session.id))

    def die(self) -> None:
        """End as by SIGKILL."""
        self.is_alive = False
        self.seem_dead()
        self.session.store.close()

    def resume_all(self) -> None:
        """Resume each run that is abandoned, as one does that waits for it."""
        self.session.reconcile()
        for record in unfinished(self.session):
            if self.session.inflight(record.id) is not None or self.session.is_abandoned(record) or not record.owner:
                self.session.resume(record)


def _note_changes(store: Any, note: Callable[[str], None]) -> None:
    """Note each batch that a store is given."""
    apply = store.apply

    def noting(changes: Sequence[Any], **more: Any) -> list[int]:
        answers: list[int] = apply(changes, **more)
        for change, answer in zip(changes, answers, strict=True):
            facts = [f"{name}={_brief(value)}" for name, value in change._asdict().items() if name in _NOTED]
            note(f"    {type(change).__name__}({', '.join(facts)}) -> {answer}")
        return answers

    store.apply = noting


_NOTED = ("run", "attempt", "execution", "owner", "outcome", "reason", "lines", "former", "not_before")


def _brief(value: Any) -> str:
    text = str(getattr(value, "state", value))
    return f"{text[:8]} {getattr(value, 'reason', '')}"


def unfinished(session: Session) -> list[RunRecord]:
    """Return the runs that are not terminal."""
    return session.store.list_runs(RunFilter(states=("pending", "running")), limit=1000, newest=False)


class World:
    """All that a story has."""

    def __init__(self, seed: int, folder: Path, template: Path, *, has_detail: bool) -> None:
        self._has_detail = has_detail
        self.random = random.Random(f"story {seed}")
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        shutil.copy(template, folder / "mlfn.db")
        self.settings = Settings(data=str(folder), grace=1.0, heartbeat=1.0)
        self.points = Points()
        self.engine = StoryEngine(self.points, room=self.random.choice([None, None, 1, 3]))
        self.engine.on_create = self._note_creator
        VIRTUAL["story"] = self.engine
        if has_detail:
            self.engine.note = self.note
        self.options = {"engine": "story", "seed": seed, "units": self.random.choice([1, 3, 100])}
        self.clients: list[Client] = []
        self.plans: dict[str, Plan] = {}
        self.scripts: dict[str, dict[str, Any]] = {}  # of each run
        self.cancelled: set[str] = set()
        self.deleted: set[str] = set()  # objects that were deleted past mlfn
        self.usurped = False  # a client that lives was taken for dead
        self.trace: list[str] = []
        self.acting: Client | None = None
        self.creators: dict[str, Client] = {}  # of objects

    def note(self, text: str) -> None:
        """Add a line to the trace."""
        self.trace.append(f"{CLOCK.elapsed:8.3f}  {text}")

    def _note_creator(self, name: str) -> None:
        assert self.acting is not None
        self.creators[name] = self.acting

    def is_out_of_reach(self, name: str) -> bool:
        """Return whether an object was created by a client after others had taken it for dead, which then died."""
        return self.creators[name].was_usurped and not self.creators[name].is_alive

    def living(self) -> list[Client]:
        """Return the clients that live."""
        return [client for client in self.clients if client.is_alive]

    def new_client(self) -> Client:
        """Start a client."""
        client = Client(f"client {len(self.clients)}", self.settings, self.note if self._has_detail else None)
        self.clients.append(client)
        self.note(f"{client.name} starts")
        return client

    def let(self, client: Client, what: str, act: Callable[[], object]) -> bool:
        """Let a client do something; False if it was killed at that."""
        self.acting = client
        try:
            act()
        except Killed as point:
            self.points.disarm()
            self.note(f"{client.name} is killed at {point}, as it is to {what}")
            client.die()
            return False
        return True

    def plan(self, session: Session, *, retry: Mapping[str, Any] | None, timeout: float | None) -> Plan:
        """Return a plan that is stored."""
        body = {
            "function": "f" * 64,
            "name": "story",
            "project": "default",
            "kind": {"name": "job", "options": {}},
            "place": {"name": "chaos", "options": self.options},
            "payload": "0" * 64,
            "outputs": [],
            "shape": {"positional": [], "varargs": None, "varkw": None, "context": None},
            "accepts": ["script"],
            "requirements": [],
            "secrets": [],
            "timeout": timeout,
            "retry": retry,
            "cwd": "",
            "sys_path": [],
            "by_reference": [],
            "sources": {},
        }
        text = canonical(body)
        if text not in self.plans:
            plan = self.plans[text] = Plan.of_body(body)
            session.store.add_function(plan.function, project=plan.project, name=plan.name, spec="{}", time=now())
            session.store.add_plan(plan.hash, function=plan.function, body=text)
        return self.plans[text]

    def submitted(self, session: Session, plan: Plan, script: dict[str, Any], *, iteration: int = 0) -> Submitted:
        """Return a new run that does what a script says."""
        run = new_id()
        self.scripts[run] = script
        return Submitted(
            run=run,
            name=plan.name,
            project=plan.project,
            function=plan.function,
            plan=plan.hash,
            place=plan.place.name,
            owner=session.id,
            params={"script": {"packer": "json", "inline": script}},
            time=now(),
            iteration=iteration,
        )

    def submit(self, client: Client, plan: Plan, batch: Sequence[Submitted], parallel: int | None) -> None:
        """Have a client submit runs in one transaction."""
        client.session.register()

        def prepare(inflight: InflightRun) -> None:
            inflight.parallel = parallel

        client.session.dispatcher(plan).submit(batch, plan, prepare)


def make_template(folder: Path) -> Path:
    """Return an empty store's file, to be copied."""
    folder.mkdir(parents=True, exist_ok=True)
    store = open_store("", folder)
    store.close()
    return folder / "mlfn.db"


def shown(script: Mapping[str, Any]) -> str:
    """Return a script in one line."""
    return json.dumps(script)
