"""Queries over SQL, one file per subject; what reads imports no command."""

from __future__ import annotations

from mlfn.store.sql.queries.children import SqlSweepQueries
from mlfn.store.sql.queries.clients import ClientQueries
from mlfn.store.sql.queries.functions import FunctionQueries
from mlfn.store.sql.queries.integrity import IntegrityQueries
from mlfn.store.sql.queries.results import ResultQueries


class SqlReader(IntegrityQueries, ResultQueries, FunctionQueries, ClientQueries, SqlSweepQueries):
    """Implements `mlfn.store.sweeps.Reader`."""

    @property
    def label(self) -> str:
        """The store's address as messages show it."""
        return self.connection.engine.label

    def schema_version(self) -> int:
        [(version,)] = self.connection.read("SELECT version FROM meta")
        return int(version)

    def size(self) -> int:
        return self.connection.size()

    def close(self) -> None:
        self.connection.close()
