"""The process that holds one object of the real engine: it starts its units, ends them, and says how they are.

``python node.py DRAFT``: a folder of the object, which becomes the object by being renamed. What is in no file, as environments
with secrets are not, comes by stdin. It knows nothing of clients.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

from mlfn.worker.journal_reader import JournalReader
from mlfn.worker.log_masking import start_pump

_POLL = 0.01
_EXISTS = 17


class Unit:
    """One unit: its folder, its process, and its status as a file."""

    def __init__(self, folder: Path, node: Node) -> None:
        self.folder = folder
        self._node = node
        self._process: subprocess.Popen[bytes] | None = None
        self._pump: subprocess.Popen[bytes] | None = None
        self._reader = JournalReader(folder / "rank-0.journal")
        self._last: dict[str, Any] | None = None  # its outcome, held back until its log is complete
        self._room: IO[bytes] | None = None
        self._why = ""  # it was sent SIGTERM
        self._kill_at = self._deadline = float("inf")
        self.has_ended = False

    def attend(self) -> None:
        """Start it where there is room, end it where it must, and note its end."""
        if self._process is None:
            if why := self._asked_to_end():
                self._end(why)
            elif not self._start():
                self._write("queued", message=f"room: {self._node.room} units are at work at the engine")
            return
        code = self._process.poll()
        self._relay(has_ended=code is not None)
        if code is not None:
            reason = self._why or ("killed" if code < 0 else "exited")
            self._end(reason, exit_code=None if code < 0 else code, signal=-code if code < 0 else None)
        elif not self._why and (why := self._asked_to_end()):
            self.terminate(why)
        elif time.monotonic() >= self._kill_at:
            self._signal(signal.SIGKILL)

    def terminate(self, why: str) -> None:
        """SIGTERM now, SIGKILL to its group after the grace time."""
        if self._process is not None and not self._why:
            self._why = why
            self._kill_at = time.monotonic() + self._node.grace
            self._signal(signal.SIGTERM)

    def _asked_to_end(self) -> str:
        with contextlib.suppress(OSError):
            return (self.folder / "end").read_text()
        return "deadline" if time.monotonic() >= self._deadline else ""

    def _start(self) -> bool:
        if not self._node.has_room():
            return False
        self._room = self._node.take_room()
        if self._room is None:
            return False
        log = Path(json.loads((self.folder / "assignment.json").read_text())["task"]["log"])
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            self._pump = start_pump(self._node.masked, file.fileno()) if self._node.masked else None
            output = file if self._pump is None else self._pump.stdin
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.unit", str(self.folder)],
                env=self._node.environ,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        if self._pump is not None and self._pump.stdin is not None:
            self._pump.stdin.close()
        self._write("running")
        if self._node.timeout is not None:
            self._deadline = time.monotonic() + self._node.timeout
        return True

    def _end(self, reason: str, **facts: Any) -> None:
        self.has_ended = True
        if self._process is not None:
            self._signal(signal.SIGKILL)  # what it left running
        if self._pump is not None:
            self._pump.wait()  # then its log is complete
        if self._last is not None:
            self._append([self._last])
        if self._room is not None:
            self._room.close()
        self._write("ended", reason=reason, **facts)

    def _relay(self, *, has_ended: bool) -> None:
        """Append what it has reported to its numbered lines, which each client reads."""
        for events, _ in self._reader.read(has_ended=has_ended):
            found = [event for event in events if event["event"] != "finished"]
            self._append(found)
            self._last = events[-1] if len(found) < len(events) else self._last

    def _append(self, events: list[dict[str, Any]]) -> None:
        with contextlib.suppress(OSError), (self.folder / "lines").open("a") as file:  # the object may be deleted
            file.writelines(json.dumps(event) + "\n" for event in events)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            (os.killpg if number == signal.SIGKILL else os.kill)(self._process.pid, number)

    def _write(self, phase: str, **facts: Any) -> None:
        text = json.dumps({"phase": phase, **facts})
        path = self.folder / "status.json"
        with contextlib.suppress(OSError):  # the object was deleted
            if not path.exists() or path.read_text() != text:
                (self.folder / "status.new").write_text(text)
                (self.folder / "status.new").replace(path)


class Node:
    """One object."""

    def __init__(self, draft: Path, asked: dict[str, Any]) -> None:
        self.folder = Path(asked["folder"])
        self.room, self.grace, self.timeout = asked["room"], asked["grace"], asked["timeout"]
        self.masked, self.environ = asked["masked"], asked["environ"]
        self._parallel = asked["parallel"] or len(asked["units"])
        self._rooms = Path(asked["rooms"])
        draft.rename(self.folder)
        self.units = [Unit(self.folder / name, self) for name in asked["units"]]

    def run(self) -> None:
        """Attend to the units until each has ended."""
        while not all(unit.has_ended for unit in self.units):
            is_deleted = not self.folder.exists()
            for unit in self.units:
                if not unit.has_ended:
                    if is_deleted:
                        unit.terminate("deleted")
                    unit.attend()
            if is_deleted and not self.is_at_work():
                break
            time.sleep(_POLL)

    def is_at_work(self) -> int:
        """Return how many units have a process."""
        return sum(unit._process is not None and not unit.has_ended for unit in self.units)

    def has_room(self) -> bool:
        """Return whether one more of its own units may be at work."""
        return self.folder.exists() and self.is_at_work() < self._parallel

    def take_room(self) -> IO[bytes] | None:
        """Return a lock that no other unit of the engine has, or None; closing it gives the room back."""
        for number in range(self.room):
            file = (self._rooms / str(number)).open("ab")
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return file
            file.close()
        return None


def main() -> None:
    """Become an object, answer, and hold it."""
    asked = json.loads(sys.stdin.buffer.readline())
    draft = Path(sys.argv[1])
    try:
        node = Node(draft, asked)
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)
        sys.exit(_EXISTS)
    os.write(1, b"created\n")
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    node.run()


if __name__ == "__main__":
    main()
