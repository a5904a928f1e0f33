"""Whose signature counts: a worker has a key of its own, and what it signs counts for its own runs alone."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mlfn
from mlfn.dispatch.session import current_session
from mlfn.dispatch.signers import signers_of
from mlfn.errors import MlfnError, SignatureError
from mlfn.store.changes import OutputLogged


class Thing:
    """A value that only a pickle can store."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and other.name == self.name

    __hash__ = None  # type: ignore[assignment]


class Trap:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


@mlfn.function(kind=mlfn.Job(fresh=True))
def make(name: str) -> Thing:
    return Thing(name)


@mlfn.function(kind=mlfn.Job(fresh=True))
def set_trap(path: str) -> Trap:
    return Trap(path)


@mlfn.function
def wait_for(path: str) -> str:
    while not os.path.exists(path):
        time.sleep(0.01)
    return "done"


@mlfn.function
def name_of(thing: Thing) -> str:
    return thing.name


@mlfn.function
def name_of_any(thing: Any) -> str:
    return str(thing)


@mlfn.function
def rate(x: int, ctx: mlfn.Context) -> Thing:
    ctx.log_metric("score", x)
    return Thing(str(x))


@mlfn.function
def open_children(ctx: mlfn.Context) -> None:
    for name in ("a", "b"):
        with ctx.child(thing=Thing(name)) as child:
            child.log_result("thing", Thing(name))
            child.log_metric("loss", float(ord(name)))
    child.mark_best()


def output_of(run: mlfn.Run[Any]) -> Path:
    return Path(getattr(run.outputs, "return").path)


@pytest.fixture
def victim(tmp_path: Path) -> mlfn.Run[str]:
    """A run that has an output which the worker of another run has made, and that leaves a folder where it is unpickled."""
    trap, victim = set_trap.submit(str(tmp_path / "sprung")), wait_for.submit(str(tmp_path / "gate"))
    assert trap.wait()
    while victim.state != "running":
        time.sleep(0.01)
    store = current_session().store
    [planted] = store.outputs(trap.id, 1)
    assert store.apply([OutputLogged(victim.id, 1, replace(planted, key="planted"))]) == [1]
    (tmp_path / "gate").touch()
    assert victim.result() == "done"
    return victim


def test_a_planted_output_is_not_unpickled(victim: mlfn.Run[str], tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="signed by execution"):
        victim.outputs["planted"]
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("place", ["local", "inline"])
def test_a_planted_output_reaches_no_other_run(victim: mlfn.Run[str], tmp_path: Path, place: str) -> None:
    run = name_of_any.on(place).submit(victim.outputs.planted)

    assert isinstance(run.exception(), SignatureError)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("place", ["local", "inline"])
def test_a_workers_pickle_is_another_runs_parameter(place: str) -> None:
    parent = make.submit("good")

    assert name_of.on(place).submit(getattr(parent.outputs, "return")).result() == "good"


@pytest.mark.parametrize("place", ["local", "inline"])
def test_a_callers_pickle_is_a_parameter(place: str) -> None:
    assert name_of.on(place).submit(Thing("mine")).result() == "mine"


def test_a_changed_parameter_is_refused_by_the_worker(tmp_path: Path) -> None:
    parent = make.submit("good")
    path = output_of(parent)
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)

    run = name_of.submit(getattr(parent.outputs, "return"))

    assert isinstance(run.exception(), SignatureError)


def test_a_retry_reads_the_same_pickles(tmp_path: Path) -> None:
    @mlfn.function(retry=mlfn.Retry(1, backoff=0.01))
    def fails_once(thing: Thing, mine: Thing, ctx: mlfn.Context) -> str:
        if ctx.attempt == 1:
            raise ValueError
        return thing.name + mine.name

    parent = make.submit("theirs")

    assert fails_once.submit(getattr(parent.outputs, "return"), Thing(" and mine")).result() == "theirs and mine"


@pytest.mark.parametrize("place", ["local", "inline"])
def test_a_sweep_has_the_pickle_of_its_best(place: str) -> None:
    described = rate.on(place).grid(x=[1, 3, 2]).with_options(select="max.score", memo=True)

    for sweep in (described.submit(), described.with_options(name="again").submit()):
        assert sweep.result() == Thing("3")
        assert mlfn.run(sweep.best.id).result() == Thing("3")


def test_a_handlers_child_has_pickles_of_its_worker() -> None:
    run = open_children.submit()
    assert run.wait()

    again = mlfn.run(run.id)
    assert [child.params["thing"].name for child in again.children] == ["a", "b"]
    assert again.children[1].outputs["thing"] == Thing("a")
    assert again.outputs["thing"] == Thing("b"), "the outputs of the best child are its parent's"


def test_an_error_comes_back_as_its_own_object() -> None:
    @mlfn.function
    def fail() -> None:
        error = ValueError("no")
        error.thing = Thing("kept")  # type: ignore[attr-defined]
        raise error

    error = fail.submit().exception()

    assert isinstance(error, ValueError) and error.thing == Thing("kept")  # type: ignore[attr-defined]


def test_signers_are_those_who_ran_it() -> None:
    run, inline = make.submit("a"), make.on("inline").submit("a")
    assert run.wait()

    assert signers_of(current_session().store, run.id) == {mlfn.run(run.id).record.execution}
    assert signers_of(current_session().store, inline.id) == set()


def test_a_payload_signed_by_another_does_not_run() -> None:
    run = make.submit("a")
    assert run.wait()
    [payload] = (current_session().folder / "payloads").iterdir()
    data = bytearray(payload.read_bytes())
    data[-2] ^= 1
    payload.write_bytes(data)

    with pytest.raises(MlfnError, match="changed or signed with another key"):
        mlfn.run(run.id).rerun().result()
