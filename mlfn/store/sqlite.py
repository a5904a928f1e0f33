"""SQLite by the standard library: WAL, immediate transactions, files 0600."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlfn.errors import StorageError, StoreCorruptError, StoreError

_BUSY_SECONDS = 60.0


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
        with self._errors():
            return self._connect().execute(sql, args)

    def begin(self, *, write: bool) -> None:
        # A deferred transaction that reads and then writes fails at once when another writer came between
        # (no busy timeout helps), so one that writes says so from the start.
        self._patiently("BEGIN IMMEDIATE" if write else "BEGIN")

    def commit(self) -> None:
        self._patiently("COMMIT")

    def rollback(self) -> None:
        connection = self._connection
        if connection is not None and connection.in_transaction:
            connection.execute("ROLLBACK")

    @contextmanager
    def lock_schema(self) -> Iterator[None]:
        self._patiently("BEGIN EXCLUSIVE")
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

    def reopen_after_fork(self) -> None:
        # Closing the parent's connection here would drop the parent's locks on the file: it is leaked on purpose.
        _leaked.append(self._connection)
        self._connection = None

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
        connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        self._connection = connection
        self._patiently("PRAGMA journal_mode=WAL")
        # NORMAL: a commit outlives any process; after a power cut the last ones may be missing, never half there.
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    def _patiently(self, sql: str) -> None:
        """Run `sql`, again while the database is busy: SQLite's own timeout is not honoured everywhere."""
        connection = self._connect()
        until = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                with self._errors():
                    connection.execute(sql)
                return
            except _BusyError as error:
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


class _BusyError(StoreError):
    """Another connection writes."""


_leaked: list[sqlite3.Connection | None] = []
