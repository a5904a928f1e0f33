"""Changes and fixtures that the contracts of a store share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from mlfn.spec.record import Outcome, Output, Reason, RemoteFailure, RunRecord, RunState
from mlfn.store.changes import ChildStarted, Claimed, ExecutionCreated, MetricsLogged, Submitted, SweepSubmitted
from mlfn.store.commands import Store

SUCCEEDED = Outcome(RunState.SUCCEEDED, returns={"keys": ["return"]})
CANCELLED = Outcome(RunState.CANCELLED)
FAILED = Outcome(
    RunState.FAILED, Reason.ERROR, RemoteFailure("builtins.ValueError", "no", "trace", ("builtins.ValueError",))
)
PLAN: dict[str, Any] = {
    "function": "f",
    "name": "train",
    "project": "fraud",
    "payload": "x",
    "cwd": "/",
    "image": None,
    "timeout": None,
    "kind": {"name": "job"},
    "place": {"name": "local"},
    "shape": {"positional": ["n"]},
    "accepts": ["n"],
    "outputs": ["return"],
    "inputs": {},
    "requirements": [],
    "cpu": None,
    "mem": None,
    "gpus": None,
    "env": {},
    "secrets": [],
    "retry": None,
    "sys_path": [],
    "by_reference": [],
    "sources": {},
}
PARAMS = {"n": {"packer": "json", "inline": 1}}


def submitted(run: str, **changed: Any) -> Submitted:
    """Return a run of the client "me"."""
    values: dict[str, Any] = {
        "run": run,
        "name": "train",
        "project": "fraud",
        "function": "f" * 64,
        "plan": "p" * 64,
        "place": "local",
        "owner": "me",
        "params": PARAMS,
        "time": 1.0,
        **changed,
    }
    return Submitted(**values)


def claimed(run: str, owner: str = "me", execution: str | None = None, **more: Any) -> Claimed:
    """Return a claim by the client "me"."""
    return Claimed(run, owner, execution, 2.0, **more)


def point(
    run: str, attempt: int, name: str, step: int | None, value: float, time: float, *, number: int = 0
) -> MetricsLogged:
    """Return one point of a metric."""
    return MetricsLogged(run, attempt, number, ((name, step, value, time),))


def output(key: str, inline: object = None, **changed: Any) -> Output:
    """Return a result."""
    return Output(key, "result", "json", "int", inline=inline, **changed)


def new_sweep(run: str = "s", name: str | None = "nightly", **changed: Any) -> SweepSubmitted:
    """Return a sweep."""
    return SweepSubmitted(submitted(run, **changed), name, {"strategy": {"kind": "grid"}})


def new_child(iteration: int, *, driver: int | None = 1, **changed: Any) -> Submitted:
    """Return a child of the sweep "s"; its id is "c" and the iteration."""
    values = {"parent": "s", "iteration": iteration, "driver": driver, "point": {"n": iteration}, **changed}
    return submitted(f"c{iteration}", **values)


def opened(run: str, parent: str = "a", attempt: int = 1) -> ChildStarted:
    """Return a child that a handler opens."""
    return ChildStarted(run, parent, attempt, PARAMS, 2.5)


def created(execution: str = "w", client: str = "me") -> ExecutionCreated:
    """Return an execution."""
    return ExecutionCreated(execution, client, "local", "", {"pid": 1})


def state_of(store: Store, run: str = "a") -> str:
    """Return the state of a run as text."""
    return str(store.get_run(run).state)


def events_of(store: Store, run: str = "a") -> list[str]:
    """Return what happened to a run."""
    return [what for _, _, what, _ in store.events(run)]


def ids(records: Iterable[RunRecord]) -> str:
    """Return ids of one letter as a word."""
    return "".join(record.id for record in records)


class StoreFixtures:
    """Opens the store under test; a subclass gives `opener`."""

    @pytest.fixture
    def opener(self) -> Callable[[], Store]:
        """Return a function that opens the test's own, at first empty store, by another connection each time."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, opener: Callable[[], Store]) -> Iterator[Store]:
        """Open the store under test."""
        store = opener()
        yield store
        store.close()

    @pytest.fixture
    def another(self, opener: Callable[[], Store]) -> Iterator[Store]:
        """Open the same store by a second connection."""
        store = opener()
        yield store
        store.close()

    @pytest.fixture
    def running(self, store: Store) -> str:
        """Start a run and return its id."""
        assert store.apply([submitted("a"), claimed("a")]) == [1, 1]
        return "a"
