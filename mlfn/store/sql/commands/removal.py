"""Removal of runs with all their rows."""

from __future__ import annotations

from collections.abc import Sequence

from mlfn.store.sql.connection import Connected
from mlfn.store.sql.engine import Engine


class RemovalCommands(Connected):
    """Removal."""

    def remove_runs(self, runs: Sequence[str]) -> None:
        with self.connection.writing() as engine:
            for run in runs:
                _remove(engine, run, only="AND state NOT IN ('pending', 'running')")

    def remove_unreadable(self, run: str, *, with_parts: Sequence[str]) -> None:
        with self.connection.writing() as engine:
            for gone in (run, *with_parts):
                _remove(engine, gone)
            engine.execute("UPDATE runs SET parent = NULL WHERE parent = ?", (run,))


def _remove(engine: Engine, run: str, *, only: str = "") -> None:
    row = engine.execute(f"DELETE FROM runs WHERE id = ? {only} RETURNING seq, labels", (run,)).fetchone()
    if row is None:
        return
    seq, labels = row
    for table in ("attempts", "outputs", "metrics", "scores", "events"):
        engine.execute(f"DELETE FROM {table} WHERE run = ?", (seq,))
    if labels != "{}":  # no index finds the labels of a run
        engine.execute("DELETE FROM labels WHERE run = ?", (seq,))
    engine.execute("DELETE FROM sweeps WHERE run = ?", (run,))
