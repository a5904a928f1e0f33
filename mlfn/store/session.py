"""One engine shared by a process's threads: a lock around it, transactions, the schema brought up to date."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mlfn.errors import StoreError, StoreVersionError
from mlfn.store.engine import Engine, statements


class Session:
    """Serialises the use of one connection; SQLite's own waiting between two of one process would be slower."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._lock = threading.RLock()
        _sessions.add(self)
        try:
            self._migrate()
        except BaseException:
            engine.close()
            raise

    @contextmanager
    def writing(self) -> Iterator[Engine]:
        """Run one transaction that writes: committed at the end, undone on any exception."""
        with self._lock:
            self.engine.begin(write=True)
            try:
                yield self.engine
                self.engine.commit()
            except BaseException:
                with suppress(StoreError):  # where even that is refused, closing the connection will do it
                    self.engine.rollback()
                raise

    @contextmanager
    def trying(self) -> Iterator[Engine]:
        """Run one transaction that is undone at its end."""
        with self._lock:
            self.engine.begin(write=True)
            try:
                yield self.engine
            finally:
                self.engine.rollback()

    def read(self, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of one query."""
        with self._lock:
            return self.engine.fetch(sql, args)

    def close(self) -> None:
        """Give the connection back."""
        with self._lock:
            self.engine.close()

    def before_fork(self) -> None:
        """Let no thread be within the store while the process forks."""
        self._lock.acquire()
        self.engine.before_fork()

    def after_fork_in_parent(self) -> None:
        """Go on after a fork."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Start afresh in a forked child."""
        self._lock = threading.RLock()
        self.engine.after_fork()

    def _migrate(self) -> None:
        scripts = _migrations()
        if self._version() == len(scripts):
            return
        with self.engine.lock_schema():
            # Another process may have done it while this one waited for the lock.
            version = self._version_inside()
            if version > len(scripts):
                raise StoreVersionError(
                    f"The store {self.engine.label} has schema {version}, this mlfn knows up to {len(scripts)}: "
                    "update mlfn (pip install -U mlfn), or set MLFN_DATA or MLFN_STORE to another store."
                )
            for script in scripts[version:]:
                for statement in statements(script, self.engine.types):
                    self.engine.execute(statement)
            self.engine.execute("DELETE FROM meta")
            self.engine.execute("INSERT INTO meta (version) VALUES (?)", (len(scripts),))

    def _version(self) -> int:
        try:
            return int(self.engine.execute("SELECT version FROM meta").fetchone()[0])
        except (StoreError, TypeError) as error:
            if isinstance(error, StoreError) and type(error) is not StoreError:
                raise
            return 0  # no such table, or no row yet: the lock decides

    def _version_inside(self) -> int:
        self.engine.execute("CREATE TABLE IF NOT EXISTS meta (version INTEGER NOT NULL)")
        row = self.engine.execute("SELECT version FROM meta").fetchone()
        return int(row[0]) if row else 0


def _migrations() -> list[str]:
    return [path.read_text() for path in sorted(Path(__file__).with_name("migrations").glob("*.sql"))]


_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


_forking: list[Session] = []
_fork_lock = threading.Lock()  # of two threads that fork, one after the other


def _before_fork() -> None:
    _fork_lock.acquire()
    _forking.extend(_sessions)
    for session in _forking:
        session.before_fork()


def _after_fork_in_parent() -> None:
    while _forking:
        _forking.pop().after_fork_in_parent()
    _fork_lock.release()


def _after_fork_in_child() -> None:
    while _forking:
        _forking.pop().after_fork_in_child()
    _fork_lock.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
