"""An engine of real processes: each object is a folder and a process that outlives the client; see `node`."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlfn.worker.assignment import Assignment
from mlfn.worker.journal_reader import read_events
from mlfn.worker.task import Task
from tests.chaos import node
from tests.chaos.engine import ExistsError, Template, UnitStatus, UnreachableError
from tests.chaos.rates import ROUGH

_POLL = 0.02


@dataclass
class _Seen:
    """A unit as it was when it was asked for last."""

    version: int = 0
    status: UnitStatus | None = None
    events: list[Mapping[str, Any]] = field(default_factory=list)
    offset: int = 0


class ProcessEngine:
    """Objects below a folder; `room` units are at work at a time, of all objects together."""

    RATES = ROUGH

    def __init__(self, folder: Path, *, room: int) -> None:
        self._folder = folder
        self._room = room
        self._woken = threading.Event()
        self._version = 0
        self._seen: dict[tuple[str, int], _Seen] = {}
        for name in ("objects", "drafts", "rooms"):
            (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)

    def now(self) -> float:
        """Return the time."""
        return time.time()

    def wait(self, until: float, is_woken: Callable[[], bool]) -> None:
        """Wait a little."""
        self._woken.wait(max(0.0, min(_POLL, until - time.time())))
        self._woken.clear()

    def wake(self) -> None:
        """Interrupt `wait`."""
        self._woken.set()

    def create(self, name: str, tasks: Sequence[Task], template: Template) -> None:
        """Start the process that becomes the object."""
        self._reach()
        if self._object(name).exists():
            raise ExistsError(name)
        assert template.plan is not None
        plan = template.plan(name)
        draft = self._folder / "drafts" / f"{name}-{secrets.token_hex(4)}"
        units = [str(index) for index in range(len(tasks))]
        for unit, task in zip(units, tasks, strict=True):
            (draft / unit).mkdir(mode=0o700, parents=True)
            Assignment(plan, task).write(draft / unit)
        path = os.pathsep.join(folder for folder in sys.path if folder)
        environ = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
        asked = {
            "folder": str(self._object(name)),
            "rooms": str(self._folder / "rooms"),
            "room": self._room,
            "units": units,
            "parallel": template.parallel,
            "timeout": template.timeout,
            "grace": template.grace,
            "masked": list(template.masked),
            "environ": {**environ, **Assignment.environ(plan, {})},
        }
        process = subprocess.Popen(
            [sys.executable, node.__file__, str(draft)],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert process.stdin is not None and process.stdout is not None
        with process.stdin, process.stdout:
            process.stdin.write(json.dumps(asked).encode() + b"\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        threading.Thread(target=process.wait, daemon=True).start()
        if not answer:
            raise ExistsError(name)
        with (self._folder / "created").open("a") as file:
            file.write(f"{name}\n")

    def watch(self, name: str, since: int) -> tuple[int, Sequence[UnitStatus]] | None:
        """Return its units that changed since a version."""
        self._reach()
        if not self._object(name).exists():
            return None
        found = []
        for folder in sorted(self._object(name).iterdir(), key=lambda path: int(path.name)):
            seen = self._seen.setdefault((name, int(folder.name)), _Seen())
            status = self._status(folder, seen)
            if status is not None and status != seen.status:
                self._version += 1
                seen.version, seen.status = self._version, status
            if seen.status is not None and seen.version > since:
                found.append(seen.status)
        return self._version, found

    def _status(self, folder: Path, seen: _Seen) -> UnitStatus | None:
        try:
            task = json.loads((folder / "assignment.json").read_bytes())["task"]
        except OSError:
            return None
        try:
            facts = json.loads((folder / "status.json").read_bytes())  # before its lines, which are then complete
        except OSError:
            facts = {"phase": "queued"}
        for event, offset in read_events(folder / "lines", seen.offset):
            seen.events.append(event)
            seen.offset = offset
        return UnitStatus(int(folder.name), task["run"], task["attempt"], lines=len(seen.events), **facts)

    def lines(self, name: str, index: int, first: int) -> Sequence[Mapping[str, Any]]:
        """Return what `watch` has counted, from line `first` on."""
        self._reach()
        seen = self._seen[name, index]
        assert seen.status is not None
        return seen.events[first : seen.status.lines]

    def log(self, name: str, index: int, offset: int) -> bytes:
        """Return a unit's log from an offset on."""
        self._reach()
        task = json.loads((self._object(name) / str(index) / "assignment.json").read_bytes())["task"]
        with Path(task["log"]).open("rb") as file:
            file.seek(offset)
            return file.read()

    def stop(self, name: str, index: int) -> None:
        """Have a unit ended."""
        self.end(name, index, "stopped")

    def end(self, name: str, index: int, why: str) -> None:
        """Have a unit ended for a reason."""
        self._reach()
        end = self._object(name) / str(index) / "end"
        if end.parent.exists() and not end.exists():
            end.write_text(why)

    def delete(self, name: str) -> None:
        """Remove an object; its process ends its units."""
        self._reach()
        drafts = self._folder / "drafts" / f"{name}-{secrets.token_hex(4)}"
        if self._object(name).exists():
            self._object(name).rename(drafts)
            shutil.rmtree(drafts, ignore_errors=True)
        for key in [key for key in self._seen if key[0] == name]:
            del self._seen[key]

    # -- past the API

    def created(self) -> list[str]:
        """Return the objects that there have ever been."""
        path = self._folder / "created"
        return path.read_text().split() if path.exists() else []

    def holding(self, run: str) -> list[tuple[str, int]]:
        """Return the objects, and their units, that are labelled with a run."""
        paths = (self._folder / "objects").glob("*/*/assignment.json")
        return [
            (path.parts[-3], int(path.parts[-2]))
            for path in paths
            if json.loads(path.read_bytes())["task"]["run"] == run
        ]

    @property
    def cut_off(self) -> Path:
        """The file that cuts the engine off from all clients while it is there."""
        return self._folder / "cut-off"

    def _object(self, name: str) -> Path:
        return self._folder / "objects" / name

    def _reach(self) -> None:
        if self.cut_off.exists():
            raise UnreachableError
