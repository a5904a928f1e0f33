"""What a sweep adds to the life of runs: its description and name, and children whose outcome is another run's."""

from __future__ import annotations

import json

from mlfn.store.changes import Reused, SweepClosed, SweepSubmitted
from mlfn.store.sql.commands.runs import submit
from mlfn.store.sql.connection import changed_rows
from mlfn.store.sql.engine import Engine

_COPIED = {
    "outputs": "key, role, packer, type, inline, path, sha256, size",
    "metrics": "name, number, step, value, time",
}


def submit_sweep(engine: Engine, change: SweepSubmitted) -> int:
    """Add a run with a sweep's description, unless another sweep holds its name."""
    if change.replaces is not None:
        engine.execute("UPDATE sweeps SET slot = NULL WHERE run = ? AND slot = ?", (change.replaces, change.slot))
    added = changed_rows(
        engine,
        "INSERT INTO sweeps (run, name, slot, body) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (change.run, change.name, change.slot, json.dumps(change.body)),
    )
    return submit(engine, [change.submitted], sweep=True)[0] if added else 0


def close_sweep(engine: Engine, change: SweepClosed) -> int:
    """Free the name of a sweep that is over."""
    over = "EXISTS (SELECT 1 FROM runs WHERE id = sweeps.run AND state NOT IN ('pending', 'running'))"
    return changed_rows(engine, f"UPDATE sweeps SET slot = NULL WHERE run = ? AND {over}", (change.run,))


def reuse(engine: Engine, change: Reused) -> int:
    """End a pending run with a copy of another run's outcome."""
    source = engine.execute(
        "SELECT seq, attempt FROM runs WHERE id = ? AND state = 'succeeded'", (change.source,)
    ).fetchone()
    if source is None:
        return 0
    moved = engine.execute(
        "UPDATE runs SET state = 'succeeded', reused = ?, attempt = 1, started = ?, ended = ?, "
        "returns = (SELECT returns FROM runs AS source WHERE source.seq = ?) WHERE id = ? AND state = 'pending' RETURNING seq",
        (change.source, change.time, change.time, source[0], change.run),
    ).fetchone()
    if moved is None:
        return 0
    for table, columns in _COPIED.items():
        engine.execute(
            f"INSERT INTO {table} (run, attempt, {columns}) SELECT ?, 1, {columns} FROM {table} WHERE run = ? AND attempt = ?",
            (*moved, *source),
        )
    engine.execute(
        "INSERT INTO scores (run, name, value) SELECT ?, name, value FROM scores WHERE run = ?", (*moved, source[0])
    )
    return 1
