"""Queries about clients and their executions."""

from __future__ import annotations

from typing import Any

from mlfn.errors import StoreCorruptError
from mlfn.store.queries import ExecutionRow
from mlfn.store.rows import Fault, warn_skipped
from mlfn.store.sql import shapes
from mlfn.store.sql.connection import Connected


class ClientQueries(Connected):
    """Clients and executions."""

    def clients(self) -> list[tuple[str, str, int, str, float]]:
        rows = self.connection.read("SELECT id, host, pid, started, beat FROM clients")
        return [row for row in rows if _fits(shapes.CLIENT, row)]

    def executions(self, client: str | None = None) -> list[ExecutionRow]:
        where, args = ("WHERE client = ?", (client,)) if client else ("", ())
        rows = self.connection.read(f"SELECT {', '.join(shapes.EXECUTION.columns)} FROM executions {where}", args)
        return [found for row in rows if (found := _execution_of(row)) is not None]

    def execution_ids(self) -> set[str]:
        return {row[0] for row in self.connection.read("SELECT id FROM executions")}

    def is_needed(self, client: str) -> bool:
        [(needed,)] = self.connection.read(
            "SELECT EXISTS (SELECT 1 FROM runs WHERE owner = ? AND state IN ('pending', 'running') AND part_of IS NULL) "
            "OR EXISTS (SELECT 1 FROM executions WHERE client = ?)",
            (client, client),
        )
        return bool(needed)


def _execution_of(row: tuple[Any, ...]) -> ExecutionRow | None:
    """Return the execution of a row; None, with a warning, where it cannot be read."""
    values = shapes.parse_row(shapes.EXECUTION, row, row[0], {"handle": shapes.parse_object})
    if not isinstance(values, Fault):
        return ExecutionRow(**values)
    _warn(shapes.EXECUTION, row, values.column, values.why)
    return None


def _fits(shape: shapes.Shape, row: tuple[Any, ...]) -> bool:
    """Return whether a row can be read, and warn if not."""
    misfit = shape.misfit(row)
    if misfit is not None:
        _warn(shape, row, *misfit)
    return misfit is None


def _warn(shape: shapes.Shape, row: tuple[Any, ...], column: str, why: str) -> None:
    warn_skipped(
        StoreCorruptError(
            f"The row of {row[0]!r} cannot be read ({shape.table}.{column}: {why}); restore the store from a copy."
        )
    )
