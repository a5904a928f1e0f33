"""One engine shared by a process's threads: a lock around it, transactions, statements for many rows."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

from mlfn.errors import StoreError
from mlfn.store.sql.engine import Engine, migrations, schema_of

TEXT, INTEGER, REAL = "TEXT", "integer", "real"  # types of a batch's columns
Row = Sequence[Any]


class Connection:
    """One database connection for all threads: waiting for a lock is faster than SQLite's own waiting between two.

    A server writes for two at a time: there, a caller's new run has an engine of its own, and waits for no batch of the dispatcher.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._lock = threading.RLock()
        self._inserts = engine.for_inserts()
        self._insert_lock = self._lock if self._inserts is engine else threading.RLock()
        _connections.add(self)
        try:
            if schema_of(engine) != len(migrations()):
                self._migrate()
        except BaseException:
            engine.close()
            raise

    def _migrate(self) -> None:
        from mlfn.store.sql.migration import migrate

        with self._transaction(self.engine.begin_migration):
            migrate(self.engine)
        self.engine.close()  # the next connection has the usual settings

    def writing(self) -> AbstractContextManager[Engine]:
        """Run one transaction: committed at the end, undone on any exception."""
        return self._transaction(self.engine.begin)

    @contextmanager
    def _transaction(self, begin: Callable[[], None]) -> Iterator[Engine]:
        with self._lock:
            try:
                begin()
                yield self.engine
                self.engine.commit()
            except BaseException:
                with suppress(StoreError):  # closing the connection will undo it
                    self.engine.rollback()
                raise

    @contextmanager
    def dry_run(self) -> Iterator[Engine]:
        """Run one transaction that is undone at its end."""
        with self._lock:
            self.engine.begin()
            try:
                yield self.engine
            finally:
                self.engine.rollback()

    def insert_alone(self, sql: str, args: Sequence[Any]) -> int:
        """Run an INSERT of one new row in a transaction of its own; return 0 where the row was there before."""
        with self._insert_lock:
            return self._inserts.insert_alone(sql, args)

    def write(self, sql: str, args: Sequence[Any]) -> int:
        """Run one statement in a transaction of its own and return how many rows it changed."""
        with self.writing() as engine:
            return changed_rows(engine, sql, args)

    def read(self, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of one query."""
        with self._lock:
            return self.engine.fetch(sql, args)

    def size(self) -> int:
        """Return how many bytes the database's tables and indexes take."""
        with self._lock:
            return self.engine.size()

    def close(self) -> None:
        """Close the database's connections; the next use opens others."""
        with self._lock, self._insert_lock:
            self.engine.close()
            self._inserts.close()

    def before_fork(self) -> None:
        """Keep other threads out of the store while the process forks."""
        self._lock.acquire()
        self._insert_lock.acquire()
        self.engine.before_fork()

    def after_fork_in_parent(self) -> None:
        """Let other threads in again."""
        self._insert_lock.release()
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Replace the locks, which another thread may have held, and the connections."""
        self._lock = threading.RLock()
        self.engine.after_fork()
        if self._inserts is self.engine:
            self._insert_lock = self._lock
        else:
            self._insert_lock = threading.RLock()
            self._inserts.after_fork()


class Connected:
    """Base of queries and commands, which share one connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection


class Batch:
    """A statement in which ``{rows}`` stands for a table of arguments, and names in braces for its columns."""

    def __init__(self, columns: Mapping[str, str], sql: str) -> None:
        self._types = tuple(columns.values())
        self._names = {name: f"new.column{number}" for number, name in enumerate(columns, 1)}
        self._sql = sql
        self._texts: dict[tuple[type, int], str] = {}  # as each engine writes it, by number of rows

    def changed(self, engine: Engine, rows: Sequence[Row]) -> int:
        """Run it and return how many rows it changed."""
        return sum(cursor.rowcount for cursor in self._execute(engine, rows, ()))

    def returned(self, engine: Engine, rows: Sequence[Row], *args: Any) -> list[tuple[Any, ...]]:
        """Run it, with `args` after the rows, and return what it returns."""
        return [row for cursor in self._execute(engine, rows, args) for row in cursor.fetchall()]

    def for_each(self, engine: Engine, rows: Sequence[Row]) -> list[tuple[Any, ...] | None]:
        """Run it and return what it returns for each row, None where nothing; both begin with the same id."""
        found: list[tuple[Any, ...] | None] = [None] * len(rows)
        left = list(range(len(rows)))
        while left:
            some = {rows[index][0]: index for index in reversed(left)}  # a statement changes a row once
            for row in self.returned(engine, [rows[index] for index in some.values()]):
                found[some[row[0]]] = row
            left = [] if len(some) == len(left) else [index for index in left if some[rows[index][0]] != index]
        return found

    def _execute(self, engine: Engine, rows: Sequence[Row], args: Sequence[Any]) -> Iterator[Any]:
        for some in engine.pieces(rows):
            yield engine.execute(self._text(engine, len(some)), [*engine.arguments(some, self._types), *args])

    def _text(self, engine: Engine, count: int) -> str:
        text = self._texts.get((type(engine), count))
        if text is None:
            text = self._sql.format(rows=engine.table_of_arguments(self._types, count), **self._names)
            self._texts[type(engine), count] = text
        return text


def changed_rows(engine: Engine, sql: str, args: Sequence[Any]) -> int:
    """Run one statement and return how many rows it changed."""
    rows: int = engine.execute(sql, args).rowcount
    return rows


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()
_forking: list[Connection] = []
_fork_lock = threading.Lock()  # two threads that fork do so one after the other


def _before_fork() -> None:
    _fork_lock.acquire()
    _forking.extend(_connections)
    for connection in _forking:
        connection.before_fork()


def _after_fork_in_parent() -> None:
    while _forking:
        _forking.pop().after_fork_in_parent()
    _fork_lock.release()


def _after_fork_in_child() -> None:
    while _forking:
        _forking.pop().after_fork_in_child()
    _fork_lock.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
