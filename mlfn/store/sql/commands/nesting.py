"""Children that a handler opens: runs that live and end within an attempt of their parent."""

from __future__ import annotations

import json
from collections.abc import Iterator

from mlfn.errors import RunLostError
from mlfn.spec.record import BEST, Outcome, Reason, RemoteFailure, RunState
from mlfn.store.changes import BestMarked, ChildStarted, Finished
from mlfn.store.sql.commands.results import HELD, add_labels
from mlfn.store.sql.connection import changed_rows
from mlfn.store.sql.engine import Engine

# ON CONFLICT DO NOTHING: outputs that the parent logged itself stay.
_OUTPUTS_OF_BEST = (
    "INSERT INTO outputs (run, attempt, key, role, packer, type, inline, path, sha256, size) "
    "SELECT ?, ?, key, role, packer, type, inline, path, sha256, size FROM outputs "
    f"WHERE run = ? AND attempt = 1 AND key <> '{BEST}' ON CONFLICT DO NOTHING"  # that of a grandchild
)
_SCORES_OF_BEST = (
    "INSERT INTO scores (run, name, value) SELECT ?, name, value FROM scores WHERE run = ? "
    f"AND name IN (SELECT key FROM outputs WHERE run = ? AND attempt = 1 AND key <> '{BEST}') ON CONFLICT DO NOTHING"
)
_NUMBER_OF_BEST = (
    "INSERT INTO outputs (run, attempt, key, role, packer, type, inline, size) "
    "VALUES (?, ?, ?, 'result', 'json', 'int', ?, 0) ON CONFLICT DO NOTHING"
)
_SCORE_OF_NUMBER = "INSERT INTO scores (run, name, value) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"


def start_child(engine: Engine, change: ChildStarted) -> int:
    """Add a running child with the next iteration to a running parent."""
    # An UPDATE and no SELECT: its lock orders this transaction wholly before or after the one that ends the parent.
    if not changed_rows(engine, f"UPDATE runs SET nests = 1 WHERE {HELD}", (change.parent, change.attempt)):
        return 0
    params = json.dumps(change.params)
    added = engine.execute(
        "INSERT INTO runs (id, project, name, function, plan, place, state, attempt, owner, execution, params, created, "
        "started, claimed, begun, labels, parent, iteration, point, part_of) "
        "SELECT CAST(? AS TEXT), project, name, function, plan, place, 'running', 1, owner, execution, CAST(? AS TEXT), "
        "?, ?, ?, ?, labels, id, "
        "(SELECT COALESCE(max(other.iteration), 0) + 1 FROM runs AS other WHERE other.parent = runs.id), "
        "CAST(? AS TEXT), COALESCE(part_of, id) FROM runs WHERE id = ? ON CONFLICT DO NOTHING RETURNING seq, labels",
        (change.run, params, *[change.time] * 4, params, change.parent),
    ).fetchone()
    if added is None:
        return 0
    seq, labels = added
    add_labels(engine, [(key, value, seq) for key, value in json.loads(labels).items()])
    return 1


def mark_best(engine: Engine, change: BestMarked) -> int:
    """Note whose outputs a run is to have, if that child has succeeded; the last one marked counts."""
    return changed_rows(
        engine,
        f"UPDATE runs SET best = ? WHERE {HELD} AND EXISTS "
        "(SELECT 1 FROM runs AS child WHERE child.id = ? AND child.parent = runs.id AND child.state = 'succeeded')",
        (change.run, change.parent, change.attempt, change.run),
    )


def copy_outputs_of_best(engine: Engine, seq: int, attempt: int, best: str) -> None:
    """Give a run the outputs and the iteration of its best child; files stay where they are."""
    row = engine.execute("SELECT seq, iteration FROM runs WHERE id = ?", (best,)).fetchone()
    if row is None:
        return  # removed meanwhile
    child, iteration = row
    engine.execute(_OUTPUTS_OF_BEST, (seq, attempt, child))
    engine.execute(_SCORES_OF_BEST, (seq, child, child))
    engine.execute(_NUMBER_OF_BEST, (seq, attempt, BEST, str(iteration)))
    engine.execute(_SCORE_OF_NUMBER, (seq, BEST, iteration))


def ends_of_open_children(
    engine: Engine, parent: str, *, state: RunState, reason: Reason | None, time: float
) -> Iterator[Finished]:
    """Yield the ends of children that are still running when their parent's attempt ends."""
    rows = engine.execute(
        "SELECT id, name, iteration FROM runs WHERE parent = ? AND part_of IS NOT NULL AND state = 'running' "
        "ORDER BY iteration",
        (parent,),
    ).fetchall()
    for run, name, iteration in rows:
        yield Finished(run, 1, _end_of(f"Child {iteration} of {name} ({parent[:8]})", state, reason), time)


def _end_of(child: str, state: RunState, reason: Reason | None) -> Outcome:
    if state is RunState.CANCELLED:
        return Outcome(state)
    if state is RunState.SUCCEEDED:
        text = f"{child} was still open when its run ended: open it by `with`, and wait for the threads that use it."
    else:
        how = f"was {state}" if state is RunState.PRUNED else f"failed ({reason})"
        text = f"{child} was still open when its run {how}."
    reason = Reason.LOST if reason in (None, Reason.ERROR) else reason
    return Outcome(RunState.FAILED, reason, RemoteFailure.of_error(RunLostError(text)))
