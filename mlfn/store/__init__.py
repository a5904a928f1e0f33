"""Where functions, runs and their outcomes are kept: SQLite by default, PostgreSQL by URL.

A store is three protocols, and a caller is annotated with the narrowest that it needs:

- `commands.Commands`: everything that changes. A run changes by `apply`, which takes the dataclasses of `changes`.
- `queries.Queries`: everything that reads runs, outputs, metrics, functions, clients and executions.
- `sweeps.SweepQueries`: what a sweep's driver and its views read about its children.

`open_store` returns one object that has all three; `open_queries` one that reads and loads no command. `rows` holds what
is known about rows that cannot be read.

`sql` implements them over one shared connection, one file per subject under `sql/queries` and `sql/commands`. Another
database is an engine: a file beside `sql/sqlite.py` with the methods of `sql.engine.Engine`. Another kind of store, over
HTTP for instance, is a folder beside `sql` that implements one protocol at a time. Both get their URL scheme below.

The contract suites to subclass are in `mlfn.testing.store`, one for each protocol and one for children of handlers
(`CommandsContract`, `NestingContract`, `QueriesContract`, `SweepsContract`), and `StoreContract`, which is all of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlfn.errors import SettingsError

if TYPE_CHECKING:
    from mlfn.store.commands import Store
    from mlfn.store.sql.connection import Connection
    from mlfn.store.sweeps import Reader

_SCHEMES = "an empty text (SQLite in the data folder), 'sqlite:///path/to/mlfn.db' or 'postgresql://user@host/database'"


def open_store(url: str, folder: Path) -> Store:
    """Open the store at `url`, bringing its schema up to date; an empty url means SQLite in `folder`."""
    from mlfn.store.sql.store import SqlStore

    return SqlStore(_connect(url, folder))


def open_queries(url: str, folder: Path) -> Reader:
    """Open the same store for reading alone."""
    from mlfn.store.sql.queries import SqlReader

    return SqlReader(_connect(url, folder))


def _connect(url: str, folder: Path) -> Connection:
    from mlfn.store.sql.connection import Connection

    if not url or url.startswith("sqlite:///"):
        from mlfn.store.sql.sqlite import SqliteEngine

        return Connection(SqliteEngine(Path(url[len("sqlite:///") :]) if url else folder / "mlfn.db"))
    if url.startswith(("postgresql://", "postgres://")):
        from mlfn.store.sql.postgres import PostgresEngine

        return Connection(PostgresEngine(url))
    raise SettingsError(f"store={url!r} has a scheme that no store knows: allowed is {_SCHEMES}.")
