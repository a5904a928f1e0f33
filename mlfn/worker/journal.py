"""A worker's events: one JSON line each, appended to a file that outlives the worker and its client.

The lines of each attempt are numbered from 0 on, so that one that is read again is known. Where points were staged since the
line before, ``staged`` says how many are.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import weakref
from pathlib import Path
from typing import Any

from mlfn.worker.journal_reader import event_of
from mlfn.worker.points import STORAGE_EXIT, PointsFile, points_path

MEMORY_EXIT = 71  # EX_OSERR: too little memory was left to report that
_ENDS = ("finished", "child_end")
_WAKE_NO_READER = ("started", "series")
_FORKED_NUMBERS = 1 << 40  # from here on the points of forked processes are numbered


class Journal:
    """Appends events; each is in the kernel's hands, safe from any process's end, before `send` returns."""

    def __init__(self, path: Path, control: socket.socket | None = None) -> None:
        self._fd = os.open(path, os.O_CREAT | os.O_APPEND | os.O_RDWR, 0o600)
        self._control = control  # by which the reader is woken; without it the reader polls
        self._is_forked = False
        self._lock = threading.Lock()
        self._lines: dict[tuple[str, int], int] = {}
        self._staged = 0
        self._shared_from: int | None = None  # from this offset on, forked processes may have written too
        self.points = PointsFile(points_path(path))
        _journals.add(self)

    def send(self, event: dict[str, Any]) -> None:
        """Append one event and wake the reader; a run's start waits for its next poll."""
        what = event["event"]
        if self._is_forked and what == "finished":
            os._exit(0)  # this process has returned from the handler that forked it: its parent reports the outcome
        with self._lock:
            if self._shared_from is None:
                self._append(event)
            else:
                self._append_in_turn(event)
        if self._control is not None and what not in _WAKE_NO_READER:
            self._wake_reader(self._control)

    def _append(self, event: dict[str, Any]) -> None:
        if event["run"]:
            self._number(event)
        line = json.dumps(event).encode() + b"\n"
        try:
            while (written := os.write(self._fd, line)) < len(line):
                line = line[written:]
        except OSError:
            os._exit(STORAGE_EXIT)
        self._staged = event.get(
            "staged", self._staged
        )  # not before: a stopped run's exception may come at any instant

    def _number(self, event: dict[str, Any]) -> None:
        attempt = (event["run"], event["attempt"])
        event["line"] = self._lines.get(attempt, 0)
        if event["event"] in _ENDS:
            self._lines.pop(attempt, None)
        else:
            self._lines[attempt] = event["line"] + 1
        if event["event"] != "series" and (staged := self.points.taken) != self._staged:
            event["staged"] = staged

    def _append_in_turn(self, event: dict[str, Any]) -> None:
        """Append a line after those that processes forked from this one, or its parent, have appended."""
        fcntl.lockf(self._fd, fcntl.LOCK_EX)
        try:
            self._count_others()
            if self._is_forked and "number" in event:
                event["number"] = _FORKED_NUMBERS + self._lines.get((event["run"], event["attempt"]), 0)
            self._append(event)
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def _count_others(self) -> None:
        start = self._shared_from or 0
        for line in os.pread(self._fd, os.fstat(self._fd).st_size - start, start).splitlines(keepends=True):
            self._shared_from = start = start + len(line)
            if (other := event_of(line)) is not None and isinstance(other.get("line"), int):
                attempt = (other["run"], other["attempt"])
                self._lines[attempt] = max(self._lines.get(attempt, 0), other["line"] + 1)

    def _wake_reader(self, control: socket.socket) -> None:
        try:
            control.send(b"!", socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass  # the reader has not read earlier ones
        except OSError:
            self._control = None  # the place has closed; the file is what counts

    def before_fork(self) -> None:
        """Let no other thread hold the lock, which a child would inherit locked; from here on lines are written in turn."""
        self._lock.acquire()
        if self._shared_from is None:
            self._shared_from = os.fstat(self._fd).st_size

    def after_fork_in_parent(self) -> None:
        """Let other threads in again."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Add no points to the parent's file, and report no outcome."""
        self._is_forked = True
        self.points.close()
        self._lock.release()


_journals: weakref.WeakSet[Journal] = weakref.WeakSet()
_forking: list[Journal] = []


def _before_fork() -> None:
    _forking[:] = _journals
    for journal in _forking:
        journal.before_fork()


def _after_fork_in_parent() -> None:
    while _forking:
        _forking.pop().after_fork_in_parent()


def _after_fork_in_child() -> None:
    while _forking:
        _forking.pop().after_fork_in_child()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
