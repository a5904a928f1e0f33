"""What a database must offer to `SqlStore`: one connection, transactions, and its dialect's three types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol


class Engine(Protocol):
    """One connection to one database; not thread-safe, the store locks around it."""

    types: Mapping[str, str]
    label: str

    def execute(self, sql: str, args: Sequence[Any] = ()) -> Any:
        """Run one statement with ``?`` for its arguments; the answer has rowcount and its first row."""
        ...

    def fetch(self, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of one query."""
        ...

    def begin(self, *, write: bool) -> None:
        """Open a transaction; one that writes takes the writer's place at once."""
        ...

    def commit(self) -> None:
        """Make the transaction last."""
        ...

    def rollback(self) -> None:
        """Undo the transaction."""
        ...

    def lock_schema(self) -> AbstractContextManager[None]:
        """Hold others off while the schema changes, in a transaction of its own."""
        ...

    def close(self) -> None:
        """Give the connection back."""
        ...

    def before_fork(self) -> None:
        """Prepare for a child that must not share the connection; called in the parent, outside of any transaction."""
        ...

    def after_fork(self) -> None:
        """Forget the parent's connection without touching it, and open another at the next use."""
        ...


def statements(script: str, types: Mapping[str, str]) -> Iterator[str]:
    """Yield the statements of a migration in this dialect."""
    lines = (line for line in script.splitlines() if not line.startswith("--"))
    for statement in "\n".join(lines).split(";\n"):
        if statement.strip():
            yield statement.format(**types)
