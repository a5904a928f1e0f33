"""A kind whose runs no process of the user's place holds: an engine of its own does, and users name the place."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlfn
from mlfn.dispatch.session import current_session
from mlfn.errors import OptionError, UnknownNameError
from tests.architecture.source import ROOT
from tests.packages import installed

ENTRY_POINTS = "[mlfn.kinds]\nattic = upstairs.kind:Attic\n[mlfn.engines]\nattic-rooms = upstairs.engine:Rooms\n"
KIND = """
from dataclasses import dataclass
from typing import ClassVar

import mlfn

@dataclass(frozen=True)
class Attic(mlfn.Job):
    ENGINES: ClassVar = {"local": "attic-rooms"}
    room: str = "left"
"""
ENGINE = """
from mlfn.backends.places.local.place import LocalPlace

class Rooms(LocalPlace):
    @staticmethod
    def target(*, room="left", **place):
        return {"room": room, **LocalPlace.target(**place)}

    def __init__(self, config, *, room="left", **place):
        super().__init__(config, **place)
        self.room = room
"""
SUBMITS = """
import sys

import mlfn

@mlfn.function(kind="attic")
def waits() -> int:
    import time
    time.sleep(1.5)
    return 4

if __name__ == "__main__":
    import os, time
    run = waits.submit()
    print(run.id, flush=True)
    while run.state == "pending":
        time.sleep(0.02)
    os._exit(9)
"""


@pytest.fixture(autouse=True)
def upstairs(tmp_path: Path, local: Path) -> Iterator[Path]:
    with installed(tmp_path, "upstairs", ENTRY_POINTS, {"kind": KIND, "engine": ENGINE}) as site:
        yield site


@mlfn.function
def square(x: int) -> int:
    return x * x


def engines() -> set[tuple[str, str]]:
    return {(row.place, row.target) for row in current_session().store.executions()}


def test_the_engine_holds_what_users_place_at_local():
    run = square.with_options(kind="attic").submit(3)

    assert run.result(30) == 9
    assert run.record.place == "local"
    assert engines() == {("attic-rooms", "")}


def test_an_engine_connects_by_options_of_both():
    from upstairs.kind import Attic  # type: ignore[import-not-found]

    sweep = square.with_options(kind=Attic(room="right")).on("local", max_workers=1).map([1, 2])

    assert list(sweep.submit()) == [1, 4]
    assert engines() == {("attic-rooms", '{"max_workers": 1, "room": "right"}')}


def test_a_kind_is_refused_where_it_names_no_engine():
    with pytest.raises(OptionError, match="kind='attic' does not run on='inline': on='local' is allowed"):
        square.with_options(kind="attic").on("inline").submit(3)


def test_no_user_places_a_run_at_an_engine():
    with pytest.raises(UnknownNameError, match="No place is called 'attic-rooms'"):
        square.on("attic-rooms")


def test_the_run_of_a_dead_client_is_found_there(tmp_path: Path, upstairs: Path):
    script = tmp_path / "submits.py"
    script.write_text(SUBMITS)

    environ = {**os.environ, "PYTHONPATH": f"{upstairs}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, env=environ)

    assert done.returncode == 9, done.stderr
    assert engines() == {("attic-rooms", "")}
    assert mlfn.run(done.stdout.strip()).result(30) == 4
