"""Where functions, runs and their outcomes are kept: SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

from pathlib import Path

from mlfn.errors import SettingsError
from mlfn.store.sql import SqlStore

_SCHEMES = "an empty text (SQLite in the data folder), 'sqlite:///path/to/mlfn.db' or 'postgresql://user@host/database'"


def open_store(url: str, folder: Path) -> SqlStore:
    """Open the store at `url`, bringing its schema up to date; an empty url means SQLite in `folder`."""
    if not url or url.startswith("sqlite:///"):
        from mlfn.store.sqlite import SqliteEngine

        return SqlStore(SqliteEngine(Path(url[len("sqlite:///") :]) if url else folder / "mlfn.db"))
    if url.startswith(("postgresql://", "postgres://")):
        from mlfn.store.postgres import PostgresEngine

        return SqlStore(PostgresEngine(url))
    raise SettingsError(f"store={url!r} has a scheme that no store knows: allowed is {_SCHEMES}.")
