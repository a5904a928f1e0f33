"""Function versions, their plans and their tags."""

from __future__ import annotations

from mlfn.store.queries import TagRow
from mlfn.store.sql.connection import Connected


class FunctionCommands(Connected):
    """Functions, plans, tags."""

    def add_function(self, digest: str, *, project: str, name: str, spec: str, time: float) -> None:
        self.connection.write(
            "INSERT INTO functions (hash, project, name, spec, created) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (hash) DO UPDATE SET spec = excluded.spec WHERE functions.spec <> excluded.spec",
            (digest, project, name, spec, time),
        )

    def add_plan(self, digest: str, *, function: str, body: str) -> None:
        self.connection.write(
            "INSERT INTO plans (hash, function, body) VALUES (?, ?, ?) "
            "ON CONFLICT (hash) DO UPDATE SET body = excluded.body WHERE plans.body <> excluded.body",
            (digest, function, body),
        )

    def move_tag(self, row: TagRow, *, time: float) -> None:
        self.connection.write(
            "INSERT INTO tags (project, name, tag, function, run, moved) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (project, name, tag) DO UPDATE SET function = excluded.function, run = excluded.run, "
            "moved = excluded.moved",
            (row.project, row.name, row.tag, row.function, row.run, time),
        )
