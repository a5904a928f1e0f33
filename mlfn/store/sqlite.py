"""SQLite by the standard library: WAL, immediate transactions, files 0600."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from mlfn.errors import StorageError, StoreCorruptError, StoreError

_BUSY_SECONDS = 60.0
T = TypeVar("T")


class SqliteEngine:
    """One file; readers never wait, writers queue."""

    types: Mapping[str, str] = {
        "serial": "INTEGER PRIMARY KEY AUTOINCREMENT",
        "real": "REAL",
        "integer": "INTEGER",
    }

    def __init__(self, path: Path) -> None:
        self.path = path
        self.label = str(path)
        self._connection: sqlite3.Connection | None = None

    def execute(self, sql: str, args: Sequence[Any] = ()) -> sqlite3.Cursor:
        return self._patiently(lambda connection: connection.execute(sql, args))

    def fetch(self, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._patiently(lambda connection: _fetched(connection, sql, args))

    def begin(self, *, write: bool) -> None:
        # A deferred transaction that reads and then writes fails at once when another writer came between
        # (no busy timeout helps), so one that writes says so from the start.
        self.execute("BEGIN IMMEDIATE" if write else "BEGIN")

    def commit(self) -> None:
        self.execute("COMMIT")

    def rollback(self) -> None:
        connection = self._connection
        if connection is not None and connection.in_transaction:
            with self._errors():
                connection.execute("ROLLBACK")

    @contextmanager
    def lock_schema(self) -> Iterator[None]:
        self.execute("BEGIN EXCLUSIVE")
        try:
            yield
        except BaseException:
            self.rollback()
            raise
        self.commit()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def before_fork(self) -> None:
        # SQLite keeps a table of the locks that its process holds. A child inherits the table but not the locks:
        # even a connection of its own would then rely on locks that nobody holds, and lose what it commits when
        # the parent, for all it knows the last user, removes the log. Without an open connection the table is empty.
        self.close()

    def after_fork(self) -> None:
        pass  # there is nothing to forget

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._open()
        return self._connection

    def _open(self) -> sqlite3.Connection:
        try:
            if not self.path.exists():
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                # SQLite gives -wal and -shm the mode of the database file itself.
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise StorageError(
                f"The store {self.path} cannot be created ({error.strerror}); set MLFN_DATA to a folder that can be written."
            ) from error
        with self._errors():
            self._connection = sqlite3.connect(
                self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        try:
            self.execute("PRAGMA journal_mode=WAL")
            # NORMAL: a commit outlives any process; after a power cut the last ones may be missing, never half there.
            self.execute("PRAGMA synchronous=NORMAL")
        except BaseException:
            self.close()
            raise
        return self._connection

    def _patiently(self, action: Callable[[sqlite3.Connection], T]) -> T:
        """Do it again while the database is busy: SQLite's own timeout is not honoured everywhere."""
        connection = self._connect()
        until = None
        while True:
            try:
                with self._errors():
                    return action(connection)
            except _BusyError as error:
                until = until or time.monotonic() + _BUSY_SECONDS
                if time.monotonic() > until:
                    raise StorageError(
                        f"The store {self.path} stayed locked for {_BUSY_SECONDS:.0f} s; "
                        "see which process holds it, with `lsof` or `fuser`, and end that."
                    ) from error
                time.sleep(random.uniform(0.001, 0.02))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise self._mapped(error) from error

    def _mapped(self, error: sqlite3.DatabaseError) -> StoreError:
        text = str(error)
        if "locked" in text or "busy" in text:
            return _BusyError(text)
        if "malformed" in text or "not a database" in text:
            return StoreCorruptError(
                f"The store {self.path} is damaged ({text}); keep a copy, then try `sqlite3 {self.path} .recover`."
            )
        if "full" in text or "I/O" in text or "readonly" in text or "unable to open" in text:
            return StorageError(
                f"The store {self.path} cannot be written ({text}); free space or rights there, or set MLFN_DATA elsewhere."
            )
        return StoreError(f"The store {self.path} refused: {text}.")


def _fetched(connection: sqlite3.Connection, sql: str, args: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return all rows; text that is not UTF-8, as in a damaged row, comes as bytes and hurts no other row."""
    try:
        return connection.execute(sql, args).fetchall()
    except sqlite3.OperationalError as error:
        if "decode" not in str(error):
            raise
    usual, connection.text_factory = connection.text_factory, _text_or_bytes
    try:
        return connection.execute(sql, args).fetchall()
    finally:
        connection.text_factory = usual


def _text_or_bytes(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


class _BusyError(StoreError):
    """Another connection writes."""
