"""What a server writes: its log as lines of JSON with secrets masked, and one line for each request."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mlfn.settings.masking import Masker

LOG, ACCESS = "server.log", "access.log"
MOST_BYTES = 32 * 2**20  # of each; the older half of what is kept is in a file that ends in .1
_LONGEST = 64 * 1024  # characters of one record


class JsonLines(logging.Formatter):
    """One record, one line: time, level, logger, message, and the traceback where there is one."""

    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__()
        self._masker = Masker(secrets)

    def format(self, record: logging.LogRecord) -> str:
        facts: dict[str, Any] = {
            "time": _stamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:_LONGEST],
            "pid": record.process,
        }
        if (request := getattr(record, "request", None)) is not None:
            facts["request"] = request
        if more := getattr(record, "with", None):  # of nuclio-sdk's logger
            facts["with"] = more
        if record.exc_info and record.exc_info[1] is not None:
            facts["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))[-_LONGEST:]
        return self._masker.text(json.dumps(facts, ensure_ascii=False, default=repr))


class ServerHandler(logging.Handler):
    """Writes to the server's log; while the main thread executes a run, what that thread logs goes to the run's own."""

    def __init__(self) -> None:
        super().__init__()
        self._file = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace", buffering=1)
        self._plain = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
        self.runs = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        try:
            if self.runs and record.thread == threading.main_thread().ident:
                sys.stderr.write(f"{self._plain.format(record)}\n")
            else:
                self._file.write(f"{self.format(record)}\n")
        except Exception:  # noqa: BLE001 - as every handler of logging does
            self.handleError(record)


def set_up(secrets: Iterable[str] = ()) -> None:
    """Have every logger of this process write lines of JSON to the server's log."""
    handler = ServerHandler()
    handler.setFormatter(JsonLines(secrets))
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(logging.WARNING)
    for name in ("mlfn.run", "mlfn.serving"):
        logging.getLogger(name).setLevel(logging.INFO)


@contextlib.contextmanager
def of_run() -> Iterator[None]:
    """Have what the main thread logs go to the log of the run that it executes."""
    handlers = [handler for handler in logging.root.handlers if isinstance(handler, ServerHandler)]
    for handler in handlers:
        handler.runs = True
    try:
        yield
    finally:
        for handler in handlers:
            handler.runs = False


class AccessLog:
    """One line for each request, in a file of a folder, else on stdout; written some at a time, and at the end."""

    def __init__(self, folder: Path | None) -> None:
        flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY
        self._fd = os.dup(1) if folder is None else os.open(folder / ACCESS, flags, 0o600)
        self._lines: list[tuple[float, str, str, int, float, int, str]] = []

    def add(self, method: str, path: str, status: int, seconds: float, size: int, request: str) -> None:
        """Note an answer."""
        self._lines.append((time.time(), method, path, status, seconds, size, request))

    def flush(self) -> bool:
        """Write what was noted; return whether there was any."""
        lines, self._lines = self._lines, []
        if lines:
            os.write(self._fd, "".join(map(_line, lines)).encode("utf-8", "replace"))
        return bool(lines)


def _line(noted: tuple[float, str, str, int, float, int, str]) -> str:
    when, method, path, status, seconds, size, request = noted
    more = f', "request": "{request}"' if request else ""
    return (
        f'{{"time": "{_stamp(when)}", {_asked(method, path)}, "status": {status}, '
        f'"ms": {seconds * 1000:.3f}, "bytes": {size}{more}}}\n'
    )


@functools.lru_cache(maxsize=1024)
def _asked(method: str, path: str) -> str:
    return f'"method": {json.dumps(method)}, "path": {json.dumps(path[:2048])}'


def _stamp(when: float) -> str:
    return f"{_second(int(when))}.{int(when % 1 * 1000):03d}Z"


@functools.lru_cache(maxsize=4)
def _second(when: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(when))


def keep_small(folder: Path) -> None:
    """Move a log aside that has become too large; those that write to it go on at its beginning."""
    for name in (LOG, ACCESS):
        path = folder / name
        if path.exists() and path.stat().st_size > MOST_BYTES:
            with open(path, "rb+") as file, open(path.with_name(f"{name}.1"), "wb") as older:
                while block := file.read(1 << 20):
                    older.write(block)
                file.truncate(0)
