"""What a database must offer to the store: one connection, transactions, and its dialect's column types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from mlfn.errors import StoreError


class Engine(Protocol):
    """One connection to one database. It is not thread-safe: `Connection` locks around it."""

    types: Mapping[str, str]  # what a migration's words in braces mean here
    label: str

    def execute(self, sql: str, args: Sequence[Any] = ()) -> Any:
        """Run one statement with ``?`` for its arguments and return its cursor."""
        ...

    def insert_alone(self, sql: str, args: Sequence[Any]) -> int:
        """Run an INSERT of one new row as a transaction of its own; return 0 where the row was there before."""
        ...

    def fetch(self, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of one query."""
        ...

    def pieces(self, rows: Sequence[Sequence[Any]]) -> Iterator[Sequence[Sequence[Any]]]:
        """Yield rows of arguments in pieces, each for one statement."""
        ...

    def table_of_arguments(self, types: Sequence[str], count: int) -> str:
        """Return a table ``new`` of so many rows of arguments, with ``column1`` and so on, as SQL."""
        ...

    def arguments(self, rows: Sequence[Sequence[Any]], types: Sequence[str]) -> list[Any]:
        """Return the arguments of that table."""
        ...

    def begin(self) -> None:
        """Start a transaction that writes, and take the write lock at once where there is one."""
        ...

    def commit(self) -> None:
        """Commit the transaction."""
        ...

    def rollback(self) -> None:
        """Undo the transaction."""
        ...

    def begin_migration(self) -> None:
        """Start a transaction that keeps other processes out while the schema changes."""
        ...

    def for_inserts(self) -> Engine:
        """Return the engine of `insert_alone`: another connection where the database writes for two at a time, else this one."""
        ...

    def size(self) -> int:
        """Return how many bytes the tables and indexes take."""
        ...

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        ...

    def before_fork(self) -> None:
        """Prepare for a child that must not share the connection; called in the parent, outside of any transaction."""
        ...

    def after_fork(self) -> None:
        """Forget the parent's connection without touching it; called in the child."""
        ...


def migrations() -> list[Path]:
    """Return the scripts that make the schema which this mlfn knows, in order."""
    return sorted((Path(__file__).parents[1] / "migrations").glob("*.sql"))


def schema_of(engine: Engine) -> int:
    """Return how many of them have been run; 0 for an empty database."""
    try:
        return int(engine.execute("SELECT version FROM meta").fetchone()[0])
    except (StoreError, TypeError) as error:
        if isinstance(error, StoreError) and type(error) is not StoreError:
            raise
        return 0  # no such table, or no row yet: the lock decides
