"""What the suite does behind the public names: the only module of it that knows others of mlfn."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from mlfn.backends.registry import place_class
from mlfn.code import envelope
from mlfn.dispatch import session as sessions
from mlfn.settings import current as settings
from mlfn.store import open_queries

_ENDS = ("succeeded", "failed", "cancelled", "pruned")
OTHER_MINOR = "3.99"


def close_clients() -> None:
    """End what this process has submitted, its workers and its settings."""
    ending = list(sessions._sessions.values())
    sessions._sessions.clear()
    for session in ending:
        for inflight in session.unfinished():
            controller = session.controller_of(inflight.run)
            if controller is not None:  # else it has just ended
                controller.cancel(inflight.run)
        for inflight in session.unfinished():
            inflight.done.wait(10)
        session.close()
    settings.reset()


def place_called(name: str) -> Any:
    """Return the class of a place."""
    return place_class(name)


def signing_key() -> bytes:
    """Return the user's key."""
    return settings.signing_key()


@contextmanager
def submitting_from_another_python() -> Iterator[None]:
    """Have payloads say that they were written by another Python minor."""
    here = envelope._python_minor
    envelope._python_minor = lambda: OTHER_MINOR
    try:
        yield
    finally:
        envelope._python_minor = here


def ends_recorded(data: Path, run: str) -> list[str]:
    """Return each end that the store has recorded of a run."""
    return [what for what in _events(data, run) if what in _ENDS]


def adoptions(data: Path, run: str) -> int:
    """Return how often another client has become the owner of a run."""
    return _events(data, run).count("adopted")


def declare_clients_dead(data: Path) -> None:
    """Let each client that is registered now seem to be another process that got its pid later."""
    _execute(data, "UPDATE clients SET started = 'another'")


def _events(data: Path, run: str) -> list[str]:
    with closing(open_queries("", data)) as store:
        return [what for _, _, what, _ in store.events(run)]


def _execute(data: Path, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(data / "mlfn.db", timeout=30)) as connection, connection:
        return connection.execute(sql, values).fetchall()
