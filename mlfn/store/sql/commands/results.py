"""What an attempt logs: metrics, outputs, progress; labels of a run, and what happens to it beside its attempts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mlfn.spec.record import PAGE, Output, number_of
from mlfn.store.changes import MetricsLogged, OutputLogged, PageNoted, Point, Progressed
from mlfn.store.sql.connection import INTEGER, REAL, TEXT, Batch
from mlfn.store.sql.engine import Engine

# True while this attempt is the one that runs.
HELD = "id = ? AND attempt = ? AND state = 'running'"
HELD_EACH = "id = {run} AND attempt = {attempt} AND state = 'running'"  # of the rows of a batch
_ADD_POINTS = Batch(
    {
        "run": INTEGER,
        "attempt": INTEGER,
        "name": TEXT,
        "number": INTEGER,
        "step": INTEGER,
        "value": REAL,
        "time": REAL,
    },
    "INSERT INTO metrics (run, attempt, name, number, step, value, time) SELECT * FROM {rows} WHERE 1 = 1 "
    "ON CONFLICT DO NOTHING",
)
_SET_OUTPUTS = Batch(
    {
        "run": INTEGER,
        "attempt": INTEGER,
        "key": TEXT,
        "role": TEXT,
        "packer": TEXT,
        "type": TEXT,
        "inline": TEXT,
        "path": TEXT,
        "sha256": TEXT,
        "size": INTEGER,
    },
    "INSERT INTO outputs (run, attempt, key, role, packer, type, inline, path, sha256, size) "
    "SELECT * FROM {rows} WHERE 1 = 1 ON CONFLICT (run, attempt, key) DO UPDATE SET role = excluded.role, "
    "packer = excluded.packer, type = excluded.type, inline = excluded.inline, path = excluded.path, "
    "sha256 = excluded.sha256, size = excluded.size",
)
_SET_SCORES = Batch(
    {"run": INTEGER, "name": TEXT, "value": REAL},
    "INSERT INTO scores (run, name, value) SELECT * FROM {rows} WHERE 1 = 1 "
    "ON CONFLICT (run, name) DO UPDATE SET value = excluded.value",
)
_SET_PROGRESS = Batch(
    {"run": TEXT, "attempt": INTEGER, "progress": TEXT},
    f"UPDATE runs SET progress = {{progress}} FROM {{rows}} WHERE {HELD_EACH} RETURNING id",
)
_ADD_LABELS = Batch(
    {"key": TEXT, "value": TEXT, "run": INTEGER},
    "INSERT INTO labels (key, value, run) SELECT * FROM {rows}",
)


def log_metrics(engine: Engine, changes: Sequence[MetricsLogged]) -> list[int]:
    """Add points to metrics, and the last value of each metric to the scores."""
    held = _held(engine, changes)
    points: dict[tuple[int, int], list[tuple[int, Point]]] = {}
    for change, seq in zip(changes, held, strict=True):
        if seq is not None:
            points.setdefault((seq, change.attempt), []).extend(enumerate(change.points, change.first))
    for (seq, attempt), numbered in points.items():
        _add_points(engine, seq, attempt, numbered)
    return [int(seq is not None) for seq in held]


def _add_points(engine: Engine, seq: int, attempt: int, numbered: Sequence[tuple[int, Point]]) -> None:
    rows = [
        (seq, attempt, name, number, step, None if value != value else value, time)  # noqa: PLR0124 - NaN is NULL
        for number, (name, step, value, time) in numbered
    ]
    if _ADD_POINTS.changed(engine, rows):  # else they were recorded before, and later ones perhaps too
        _set_scores(engine, {(seq, name): value for _, (name, _, value, _) in numbered})


def log_outputs(engine: Engine, changes: Sequence[OutputLogged]) -> list[int]:
    """Add or replace outputs of running attempts."""
    held = _held(engine, changes)
    add_outputs(
        engine,
        [(seq, change.attempt, change.output) for change, seq in zip(changes, held, strict=True) if seq is not None],
    )
    return [int(seq is not None) for seq in held]


def log_progress(engine: Engine, changes: Sequence[Progressed]) -> list[int]:
    """Replace the progress of running attempts."""
    moved = _SET_PROGRESS.for_each(
        engine, [(change.run, change.attempt, json.dumps(change.progress)) for change in changes]
    )
    return [int(row is not None) for row in moved]


def note_pages(engine: Engine, changes: Sequence[PageNoted]) -> list[int]:
    """Note the pages of running attempts' engines, among what happened to their runs."""
    held = _held(engine, changes)
    for change, seq in zip(changes, held, strict=True):
        if seq is not None:
            facts = (seq, change.time, PAGE, change.url)
            engine.execute("INSERT INTO events (run, time, what, detail) VALUES (?, ?, ?, ?)", facts)
    return [int(seq is not None) for seq in held]


def _held(engine: Engine, changes: Sequence[MetricsLogged | OutputLogged | PageNoted]) -> list[int | None]:
    """Return the keys of the runs of changes; None where another attempt than the change's is the one that runs."""
    known: dict[tuple[str, int], int | None] = {}
    for change in changes:
        attempt = change.run, change.attempt
        if attempt not in known:
            row = engine.execute(f"SELECT seq FROM runs WHERE {HELD}", attempt).fetchone()
            known[attempt] = None if row is None else row[0]
    return [known[change.run, change.attempt] for change in changes]


def add_outputs(engine: Engine, outputs: Sequence[tuple[int, int, Output]]) -> None:
    """Add or replace outputs, each of a run and attempt, and their numbers among the scores."""
    rows: dict[
        tuple[int, int, str], tuple[Any, ...]
    ] = {}  # the last of each name: a statement may not change a row twice
    numbers: dict[tuple[int, str], float] = {}
    for seq, attempt, output in outputs:
        inline = None if output.path is not None else json.dumps(output.inline)
        facts = (output.role, output.packer, output.type, inline, output.path, output.sha256, output.size)
        rows[seq, attempt, output.key] = (seq, attempt, output.key, *facts)
        # A number that the function returns or logs can be sorted by, as a metric can.
        number = output.inline if type(output.inline) in (int, float, str) else number_of(output.inline)
        if number is not None and type(number) is not str:
            numbers[seq, output.key] = number
    _SET_OUTPUTS.changed(engine, [*rows.values()])
    _set_scores(engine, numbers)


def _set_scores(engine: Engine, values: Mapping[tuple[int, str], float]) -> None:
    """Set the scores of runs by name."""
    rows = []
    for (seq, name), value in values.items():
        try:
            number = float(value)
        except OverflowError:  # larger than any number that the column holds
            continue
        if math.isnan(number):  # NaN cannot be ordered, and the score before it is out of date
            engine.execute("DELETE FROM scores WHERE run = ? AND name = ?", (seq, name))
        else:
            rows.append((seq, name, number))
    _SET_SCORES.changed(engine, rows)


def add_labels(engine: Engine, labels: Sequence[tuple[str, str, int]]) -> None:
    """Let runs be found by labels, each with its value and the key of its run."""
    _ADD_LABELS.changed(engine, labels)


def add_event(engine: Engine, run: str, time: float, what: str) -> None:
    """Note what happened to a run that its own row and its attempts do not say."""
    engine.execute("INSERT INTO events (run, time, what) SELECT seq, ?, ? FROM runs WHERE id = ?", (time, what, run))
