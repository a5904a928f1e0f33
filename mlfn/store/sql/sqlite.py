"""SQLite by the standard library: WAL, immediate transactions, files 0600."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from mlfn.errors import StorageError, StoreCorruptError, StoreError

_BUSY_SECONDS = 60.0
_LARGE_CACHE = "PRAGMA cache_size = -65536"  # in kB
_SIZES = (64, 32, 16, 8, 4, 2, 1)  # of statements for many rows: few, since each is prepared once
T = TypeVar("T")
A = TypeVar("A")


class SqliteEngine:
    """One file; readers never wait, writers queue."""

    types: Mapping[str, str] = {
        "serial": "INTEGER PRIMARY KEY AUTOINCREMENT",
        "real": "REAL",
        "integer": "INTEGER",
        "key": "INTEGER PRIMARY KEY",
        "clustered": "WITHOUT ROWID",
        "position": "rowid",
        "object": "json_object",
    }

    def __init__(self, path: Path) -> None:
        self.path = path
        self.label = str(path)
        self._connection: sqlite3.Connection | None = None

    def execute(self, sql: str, args: Sequence[Any] = ()) -> sqlite3.Cursor:
        return self._while_busy(sqlite3.Connection.execute, sql, args)

    def insert_alone(self, sql: str, args: Sequence[Any]) -> int:
        return self.execute(sql, args).rowcount

    def fetch(self, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._while_busy(_fetched, sql, args)

    def pieces(self, rows: Sequence[Sequence[Any]]) -> Iterator[Sequence[Sequence[Any]]]:
        start = 0
        for size in _SIZES:
            while len(rows) - start >= size:
                yield rows[start : start + size]
                start += size

    def table_of_arguments(self, types: Sequence[str], count: int) -> str:
        row = f"({', '.join('?' * len(types))})"
        return f"(VALUES {', '.join([row] * count)}) AS new"

    def arguments(self, rows: Sequence[Sequence[Any]], types: Sequence[str]) -> list[Any]:
        return list(chain.from_iterable(rows))

    def begin(self) -> None:
        # A deferred transaction that reads and then writes fails at once if another writer came between, whatever the
        # busy timeout.
        self.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self.execute("COMMIT")

    def rollback(self) -> None:
        connection = self._connection
        if connection is not None and connection.in_transaction:
            with self._errors():
                connection.execute("ROLLBACK")

    def begin_migration(self) -> None:
        self.execute(_LARGE_CACHE)  # old rows are found by random ids
        self.execute("BEGIN EXCLUSIVE")

    def for_inserts(self) -> SqliteEngine:
        return self

    def size(self) -> int:
        files = [self.path, *(self.path.with_name(f"{self.path.name}{end}") for end in ("-wal", "-shm"))]
        return sum(file.stat().st_size for file in files if file.exists())

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def before_fork(self) -> None:
        # SQLite keeps a table of the locks that its process holds. A child inherits the table but not the locks: even a
        # connection of its own would rely on locks that do not exist, and lose its commits when the parent, as the last
        # user that it knows of, removes the log. Without an open connection the table is empty.
        self.close()

    def after_fork(self) -> None:
        pass  # before_fork has closed the connection

    def _connect(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
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
            # NORMAL: a commit outlives any process; a power cut may lose the last commits, whole.
            self.execute("PRAGMA synchronous=NORMAL")
            # In kB, taken as they are needed: the index of 200,000 random ids has room, which 2 MB have not.
            self.execute("PRAGMA cache_size=-16384")
        except BaseException:
            self.close()
            raise
        return self._connection

    def _while_busy(self, action: Callable[[sqlite3.Connection, str, A], T], sql: str, args: A) -> T:
        """Retry while the database is busy: SQLite does not honour its own timeout everywhere."""
        connection = self._connection or self._connect()
        until = None
        while True:
            try:
                return action(connection, sql, args)
            except sqlite3.DatabaseError as error:
                mapped = self._mapped(error)
                if not isinstance(mapped, _BusyError):
                    raise mapped from error
                until = until or time.monotonic() + _BUSY_SECONDS
                if time.monotonic() > until:
                    raise StorageError(
                        f"The store {self.path} stayed locked for {_BUSY_SECONDS:.0f} s; "
                        "find the process that holds it with `lsof` or `fuser`, and end it."
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
    """Return all rows; text that is not UTF-8, as in a damaged row, comes as bytes."""
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
    """Another connection is writing."""
