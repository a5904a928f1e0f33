"""Clients and their executions."""

from __future__ import annotations

import json

from mlfn.host.identity import ProcessIdentity
from mlfn.store.changes import ExecutionCreated
from mlfn.store.sql.connection import Connected, changed_rows
from mlfn.store.sql.engine import Engine


class ClientCommands(Connected):
    """Clients and executions."""

    def register_client(self, client: str, process: ProcessIdentity, *, time: float) -> None:
        self.connection.write(
            "INSERT INTO clients (id, host, pid, started, beat) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET beat = excluded.beat",
            (client, process.host, process.pid, process.started, time),
        )

    def remove_client(self, client: str) -> None:
        self.connection.write("DELETE FROM clients WHERE id = ?", (client,))

    def adopt_execution(self, execution: str, *, client: str, former: str) -> bool:
        sql = "UPDATE executions SET client = ? WHERE id = ? AND client = ?"
        return bool(self.connection.write(sql, (client, execution, former)))

    def remove_execution(self, execution: str) -> None:
        self.connection.write("DELETE FROM executions WHERE id = ?", (execution,))


def create_execution(engine: Engine, change: ExecutionCreated) -> int:
    """Add an execution."""
    handle = json.dumps(change.handle)
    return changed_rows(
        engine,
        "INSERT INTO executions (id, client, place, target, handle, units) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (change.execution, change.client, change.place, change.target, handle, change.units),
    )
