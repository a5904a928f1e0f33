"""The ordinary way of a run: submitted, claimed, started, finished. Each statement names the state and attempt it starts from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

from mlfn.spec.record import Output, Reason, RemoteFailure, RunState
from mlfn.store.changes import Acknowledged, Claimed, Finished, Started, StatusNoted, Submitted
from mlfn.store.sql.commands.nesting import copy_outputs_of_best, ends_of_open_children
from mlfn.store.sql.commands.results import HELD, HELD_EACH, add_labels, add_outputs
from mlfn.store.sql.connection import INTEGER, REAL, TEXT, Batch
from mlfn.store.sql.engine import Engine

_NEW_RUN = (
    "INSERT INTO runs (state, id, project, name, function, plan, place, owner, params, created, labels, parent, iteration, "
    "point, memo, sweep)"
)
_ADD_ONE = f"{_NEW_RUN} VALUES ('pending'{', ?' * 15}) ON CONFLICT DO NOTHING"
_TYPES = (*[TEXT] * 8, REAL, TEXT, TEXT, INTEGER, TEXT, TEXT, INTEGER)
_ADD = Batch(
    {f"value{number}": type_ for number, type_ in enumerate(_TYPES)},
    f"{_NEW_RUN} SELECT 'pending', new.* FROM {{rows}} WHERE 1 = 1 ON CONFLICT DO NOTHING RETURNING id, seq",
)
_ADD_DRIVEN = Batch(
    {f"value{number}": type_ for number, type_ in enumerate(_TYPES)},
    f"{_NEW_RUN} SELECT 'pending', new.* FROM {{rows}} WHERE EXISTS (SELECT 1 FROM runs WHERE {HELD}) "
    "ON CONFLICT DO NOTHING RETURNING id, seq",
)
_CLAIM = Batch(
    {
        "run": TEXT,
        "owner": TEXT,
        "execution": TEXT,
        "unit": INTEGER,
        "queued": INTEGER,
        "claimed": REAL,
        "started": REAL,
    },
    "UPDATE runs SET state = 'running', attempt = attempt + 1, execution = {execution}, unit = {unit}, queued = {queued}, "
    "acknowledged = 0, claimed = {claimed}, started = COALESCE(started, {started}) FROM {rows} "
    "WHERE id = {run} AND state = 'pending' AND owner = {owner} AND cancel_requested = 0 RETURNING id, attempt",
)
_START = Batch(
    {"run": TEXT, "attempt": INTEGER, "begun": REAL},
    "UPDATE runs SET begun = {begun}, started = COALESCE(started, {begun}), queued = 0, status = NULL FROM {rows} "
    f"WHERE {HELD_EACH} AND begun IS NULL RETURNING id",
)
_NOTE_STATUS = Batch(
    {"run": TEXT, "attempt": INTEGER, "words": TEXT},
    f"UPDATE runs SET status = {{words}} FROM {{rows}} WHERE {HELD_EACH} AND queued = 1 RETURNING id",
)
_ACKNOWLEDGE = Batch(
    {"run": TEXT, "attempt": INTEGER, "lines": INTEGER},
    f"UPDATE runs SET acknowledged = {{lines}} FROM {{rows}} WHERE {HELD_EACH} AND acknowledged < {{lines}} RETURNING id",
)
_FINISH = Batch(
    {
        "run": TEXT,
        "attempt": INTEGER,
        "state": TEXT,
        "reason": TEXT,
        "failure": TEXT,
        "returns": TEXT,
        "ended": REAL,
        "begun": REAL,
    },
    "UPDATE runs SET state = {state}, reason = {reason}, failure = {failure}, returns = {returns}, ended = {ended}, "
    "begun = COALESCE(begun, {begun}), started = COALESCE(started, {begun}), queued = 0, status = NULL FROM {rows} "
    f"WHERE {HELD_EACH} RETURNING id, seq, nests, best",
)


def submit(engine: Engine, changes: Sequence[Submitted], *, sweep: bool = False) -> list[int]:
    """Add runs, but none that is there or whose sweep is driven by another attempt."""
    answers: list[int] = []
    for driven, group in groupby(changes, key=attrgetter("parent", "driver")):
        answers += _submit_like(engine, list(group), driven if driven[1] is not None else (), sweep=sweep)
    return answers


def is_one_row(change: Submitted) -> bool:
    """Return whether a new run is one row, which needs no fence."""
    return change.driver is None and not change.labels


def insert_of(change: Submitted) -> tuple[str, tuple[Any, ...]]:
    """Return the statement that adds such a run, and its arguments."""
    return _ADD_ONE, _new_row(change)


def _submit_like(engine: Engine, changes: Sequence[Submitted], driven: tuple[Any, ...], *, sweep: bool) -> list[int]:
    """Add runs without a driver, or those of one parent and its attempt."""
    rows = [_new_row(change, sweep=sweep) for change in changes]
    added = dict((_ADD_DRIVEN if driven else _ADD).returned(engine, rows, *driven))
    labels: list[tuple[str, str, int]] = []
    answers: list[int] = []
    for change in changes:
        seq = added.pop(change.run, None)
        answers.append(seq is not None)
        if seq is not None and change.labels:
            labels += [(key, value, seq) for key, value in change.labels.items()]
    add_labels(engine, labels)
    return answers


def _new_row(change: Submitted, *, sweep: bool = False) -> tuple[Any, ...]:
    return (
        change.run,
        change.project,
        change.name,
        change.function,
        change.plan,
        change.place,
        change.owner,
        json.dumps(change.params),
        change.time,
        json.dumps(change.labels) if change.labels else "{}",
        change.parent,
        change.iteration,
        None if change.point is None else json.dumps(change.point),
        change.memo,
        int(sweep),
    )


def claim(engine: Engine, changes: Sequence[Claimed]) -> list[int]:
    """Begin the next attempt of pending runs and return its number."""
    moved = _CLAIM.for_each(engine, [_claim_row(change) for change in changes])
    for change, row in zip(changes, moved, strict=True):
        if row is not None and change.body is not None:
            engine.execute("UPDATE sweeps SET body = ? WHERE run = ?", (json.dumps(change.body), change.run))
    return [0 if row is None else row[1] for row in moved]


def _claim_row(change: Claimed) -> tuple[Any, ...]:
    started = None if change.queued else change.time
    return change.run, change.owner, change.execution, change.unit, int(change.queued), change.time, started


def note_status(engine: Engine, changes: Sequence[StatusNoted]) -> list[int]:
    """Note what queued attempts wait for."""
    moved = _NOTE_STATUS.for_each(engine, [(change.run, change.attempt, change.status) for change in changes])
    return [int(row is not None) for row in moved]


def start(engine: Engine, changes: Sequence[Started]) -> list[int]:
    """Note when attempts started."""
    moved = _START.for_each(engine, [(change.run, change.attempt, change.time) for change in changes])
    return [int(row is not None) for row in moved]


def acknowledge(engine: Engine, changes: Sequence[Acknowledged]) -> list[int]:
    """Note how many lines of the journals of running attempts are recorded."""
    moved = _ACKNOWLEDGE.for_each(engine, [(change.run, change.attempt, change.lines) for change in changes])
    return [int(row is not None) for row in moved]


def finish(engine: Engine, changes: Sequence[Finished]) -> list[int]:
    """End running attempts and their runs."""
    moved = _FINISH.for_each(engine, [_end_row(change) for change in changes])
    outputs: list[tuple[int, int, Output]] = []
    copies: list[tuple[int, int, str]] = []
    for change, row in zip(changes, moved, strict=True):
        if row is None:
            continue
        _, seq, nests, best = row
        outputs += [(seq, change.attempt, output) for output in change.outcome.outputs]
        if nests:
            end_children(engine, change.run, change.outcome.state, change.outcome.reason, change.time)
        if best is not None:
            copies.append((seq, change.attempt, best))
    add_outputs(engine, outputs)
    for copy in copies:
        copy_outputs_of_best(engine, *copy)
    return [int(row is not None) for row in moved]


def _end_row(change: Finished) -> tuple[Any, ...]:
    outcome = change.outcome
    return (
        change.run,
        change.attempt,
        outcome.state.value,
        outcome.reason and outcome.reason.value,
        failure_json(outcome.failure),
        None if outcome.returns is None else json.dumps(outcome.returns),
        change.time,
        change.started,
    )


def end_children(engine: Engine, parent: str, state: RunState, reason: Reason | None, time: float) -> None:
    """End the children that are open when the attempt of their parent ends."""
    ends = list(ends_of_open_children(engine, parent, state=state, reason=reason, time=time))
    if ends:
        finish(engine, ends)


def failure_json(failure: RemoteFailure | None) -> str | None:
    """Return a failure as its column has it."""
    return None if failure is None else json.dumps(failure.to_json())
