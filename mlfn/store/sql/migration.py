"""Runs the numbered migrations that a store lacks; what finds it current does not load this."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mlfn.errors import StoreVersionError
from mlfn.store.sql.engine import Engine, migrations, schema_of


def migrate(engine: Engine) -> None:
    """Bring a store's schema up to date, within a transaction that keeps other processes out."""
    scripts = migrations()
    # Another process may have migrated it while this one waited for the lock.
    engine.execute("CREATE TABLE IF NOT EXISTS meta (version INTEGER NOT NULL)")
    version = schema_of(engine)
    if version > len(scripts):
        raise StoreVersionError(
            f"The store {engine.label} has schema {version}, this mlfn knows up to {len(scripts)}: "
            "update mlfn (pip install -U mlfn), or set MLFN_DATA or MLFN_STORE to another store."
        )
    for script in scripts[version:]:
        for statement in _statements(script.read_text(), engine.types):
            engine.execute(statement)
    engine.execute("DELETE FROM meta")
    engine.execute("INSERT INTO meta (version) VALUES (?)", (len(scripts),))


def _statements(script: str, types: Mapping[str, str]) -> Iterator[str]:
    """Yield the statements of a migration in this dialect."""
    lines = (line for line in script.splitlines() if not line.startswith("--"))
    for statement in "\n".join(lines).split(";\n"):
        if statement.strip():
            yield statement.format(**types)
