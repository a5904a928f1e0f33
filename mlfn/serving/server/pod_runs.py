"""Runs of clients that share no folder with the server: what a run leaves is streamed, as a pod of a job writes it to its log.

``POST .../runs`` begins one, and streams it; ``GET .../runs/ID/CURSOR`` streams it, its journal from there on, also after its end;
``POST .../runs/ID/stop``, ``kill`` and ``forget`` say what they do. Any process of the pod answers for all of them.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlfn.backends.hosts.run_files import ASKED_TO_STOP, EXITS, RUNS_PATH, WORKER
from mlfn.host.identity import ProcessIdentity
from mlfn.serving.answers import BYTES, Answer, problem
from mlfn.serving.server.runs import Runs
from mlfn.worker.journal_reader import JournalReader, ends_in_order
from mlfn.worker.pod.memory import memory_kills
from mlfn.worker.pod.preparation import place_files
from mlfn.worker.pod.stream import MOST, StreamWriter
from mlfn.worker.pod.unit import too_large
from mlfn.worker.task import Task

FOLDER = "runs"
_ASKED, _OUTPUT, _ARTIFACTS, _BROUGHT = "asked.json", "output", "artifacts", "brought"
_ID = re.compile("[a-z0-9]{32}")
_POLL = 0.05
_LAST_LOOKS = 20  # after a process has ended, until its server has said how
_PIECE = 1 << 20


class PodRuns:
    """The runs of one pod, each in a folder below that of the server."""

    def __init__(self, runs: Runs, server: Path) -> None:
        self._runs = runs
        self._server = server
        self._tasks: set[asyncio.Task[Any]] = set()

    async def answer(self, method: str, path: str, body: bytes, given: bytes) -> Answer:
        """Answer what mlfn asks of a run."""
        if (refused := self._runs.refuse(given)) is not None:
            return refused
        execution, _, action = path.removeprefix(RUNS_PATH).strip("/").partition("/")
        if not execution:
            return await self._begin(json.loads(body))
        folder = self._server / FOLDER / execution
        if not _ID.fullmatch(execution) or not (folder / _ASKED).exists():
            return problem(404, f"This pod has not begun run {execution}.")
        if method == "GET":
            return self._streamed(folder, action)
        actions: Mapping[str, Callable[[], object]] = {
            "stop": lambda: _stop(folder),
            "kill": lambda: _signal(folder, signal.SIGKILL),
            "forget": lambda: shutil.rmtree(folder, ignore_errors=True),
        }
        if action not in actions:
            return problem(404, f"{action!r} is not done to a run: {', '.join(actions)} is.")
        actions[action]()
        return Answer(b"{}")

    async def _begin(self, wanted: dict[str, Any]) -> Answer:
        """Begin a run, and stream it; 503 where this process has no time for it. One that has begun is not begun again."""
        if (refused := self._runs.refuse_version(wanted)) is not None:
            return refused
        folder = self._server / FOLDER / wanted["execution"]
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            return self._streamed(folder)
        asked = wanted["asked"]
        brought = [path for path in asked["files"].values() if path.startswith(f"{_ARTIFACTS}/")]
        task = Task(**{**wanted["task"], "log": str(folder / _OUTPUT)})

        def before() -> None:
            _unpack(folder, asked, wanted["files"])

        noted = {"mark": asked["mark"], "brought": brought, "kills": memory_kills()}
        (folder / _ASKED).write_text(json.dumps(noted))
        running = asyncio.get_running_loop().create_task(self._runs.execute(folder, asked["plan"], task, before=before))
        await asyncio.sleep(0)
        if running.done() and running.result() is None:
            shutil.rmtree(folder, ignore_errors=True)
            return problem(503, "busy")
        self._tasks.add(running)
        running.add_done_callback(self._tasks.discard)
        return self._streamed(folder)

    def _streamed(self, folder: Path, cursor: str = "") -> Answer:
        return Answer(content_type=BYTES, pieces=self._pieces(folder, cursor))

    async def _pieces(self, folder: Path, cursor: str) -> AsyncIterator[bytes]:
        """Yield a run to its end."""
        chunks: list[bytes] = []
        stream = RunStream(folder, cursor, chunks.append)
        yield stream.greeting()
        looks = 0
        while True:
            has_ended, code, number = self._end_of(folder)
            if has_ended and code is None and number is None and not ends_in_order(folder / "journal"):
                looks += 1
                has_ended = looks > _LAST_LOOKS
            stream.read(has_ended=has_ended)
            if has_ended:
                stream.end(code, number)
            if chunks:
                yield b"".join(chunks)
                chunks.clear()
            if has_ended:
                return
            await asyncio.sleep(_POLL)

    def _end_of(self, folder: Path) -> tuple[bool, int | None, int | None]:
        """Return whether a run's process has left it, and by which exit code or signal where it has ended itself."""
        if ends_in_order(folder / "journal"):
            return True, None, None
        process = _process(folder)
        if process is None or process.state() != "gone":
            return False, None, None
        with suppress(OSError, ValueError):
            for line in reversed((self._server / EXITS).read_bytes().splitlines()):
                found = json.loads(line)
                if found["pid"] == process.pid:
                    return True, found["code"], found["signal"]
        return True, None, None


class RunStream:
    """What a run has left in its folder so far, as a stream: all of its output and files, its journal from a cursor on."""

    def __init__(self, folder: Path, cursor: str, write: Callable[[bytes], object]) -> None:
        asked = json.loads((folder / _ASKED).read_text())
        self._folder = folder
        self._mark: str = asked["mark"]
        self._kills: int = asked["kills"]  # of memory in this pod, before the run
        self._stream = StreamWriter(write, self._mark)
        self._journal = JournalReader(folder / "journal", cursor)
        self._shipped = {folder / path for path in asked["brought"]}
        self._offset = 0
        self._too_large = 0

    def greeting(self) -> bytes:
        """Return the line that says that the run has begun."""
        found: list[bytes] = []
        StreamWriter(found.append, self._mark).event({"event": "begun"})
        return b"".join(found)

    def read(self, *, has_ended: bool) -> None:
        """Write what is new: output before the events that were journaled after it, files before the events that name them."""
        batches = list(self._journal.read(has_ended=has_ended))
        self._read_output()
        self._ship()
        for events, cursor in batches:
            shown = [self._as_it_arrives(event) for event in events]
            self._stream.event({"event": "batch", "cursor": cursor, "events": shown})
        self._stream.flush()

    def _as_it_arrives(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return an event; of an end, once the whole log is written, and as a failure where an output cannot be sent."""
        if event["event"] != "finished":
            return event
        self._stream.close()
        return {**event, **too_large(self._too_large).to_json()} if self._too_large else event

    def end(self, code: int | None, number: int | None) -> None:
        """Write how its process has ended, where it was not in order."""
        self._stream.close()
        is_oom = number == signal.SIGKILL and memory_kills() > self._kills
        self._stream.event({"event": "exit", "code": code, "signal": number, "oom": is_oom})

    def _read_output(self) -> None:
        with suppress(FileNotFoundError), (self._folder / _OUTPUT).open("rb") as file:
            file.seek(self._offset)
            while data := file.read(_PIECE):
                self._offset += len(data)
                self._stream.text(data)

    def _ship(self) -> None:
        for path in sorted((self._folder / _ARTIFACTS).rglob("*")):
            relative = path.relative_to(self._folder / _ARTIFACTS)
            if path in self._shipped or not path.is_file() or any(part.startswith(".") for part in relative.parts):
                continue
            self._shipped.add(path)
            size = path.stat().st_size
            if self._too_large or self._stream.used + size > MOST:
                self._too_large = max(self._too_large, size)
            else:
                self._stream.file(str(relative), path.read_bytes())


def _unpack(folder: Path, asked: Mapping[str, Any], files: Mapping[str, str]) -> None:
    """Put the files of a run's parameters where it looks for them."""
    brought = folder / _BROUGHT
    for path in (brought, folder / _ARTIFACTS):
        path.mkdir(exist_ok=True)
    for key, content in files.items():
        (brought / key).write_bytes(base64.b64decode(content))
    place_files(asked, brought, folder)


def _process(folder: Path) -> ProcessIdentity | None:
    with suppress(OSError, ValueError):
        return ProcessIdentity(**json.loads((folder / WORKER).read_bytes()))
    return None


def _stop(folder: Path) -> None:
    (folder / ASKED_TO_STOP).touch()
    _signal(folder, signal.SIGTERM)


def _signal(folder: Path, number: int) -> None:
    process = _process(folder)
    if process is not None and process.state() == "alive" and not ends_in_order(folder / "journal"):
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
