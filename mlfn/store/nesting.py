"""Children that a handler opens: rows that live and end within the attempt of the run that they are part of."""

from __future__ import annotations

import json
from collections.abc import Iterator

from mlfn.errors import RunLostError
from mlfn.spec.record import Outcome, Reason, RemoteFailure, RunState
from mlfn.store.changes import BestMarked, ChildBegun, Finished
from mlfn.store.engine import Engine

BEST = "best_iteration"

# An output of its own that the parent has under the same name stays.
_OUTPUTS_OF_BEST = (
    "INSERT INTO outputs (run, attempt, key, role, packer, type, inline, path, sha256, size) "
    "SELECT CAST(? AS TEXT), ?, key, role, packer, type, inline, path, sha256, size FROM outputs "
    f"WHERE run = ? AND attempt = 1 AND key <> '{BEST}' ON CONFLICT DO NOTHING"  # nor the number of a grandchild
)
_SCORES_OF_BEST = (
    "INSERT INTO scores (run, name, value) SELECT CAST(? AS TEXT), name, value FROM scores WHERE run = ? "
    f"AND name IN (SELECT key FROM outputs WHERE run = ? AND attempt = 1 AND key <> '{BEST}') ON CONFLICT DO NOTHING"
)
_NUMBER_OF_BEST = (
    "INSERT INTO outputs (run, attempt, key, role, packer, type, inline, size) "
    "SELECT CAST(? AS TEXT), ?, CAST(? AS TEXT), 'result', 'json', 'int', CAST(iteration AS TEXT), 0 "
    "FROM runs WHERE id = ? ON CONFLICT DO NOTHING"
)
_SCORE_OF_NUMBER = (
    "INSERT INTO scores (run, name, value) SELECT CAST(? AS TEXT), CAST(? AS TEXT), iteration FROM runs WHERE id = ? "
    "ON CONFLICT DO NOTHING"
)


def open_child(engine: Engine, change: ChildBegun) -> int:
    """Add a child under a run that is held, with the next number; 0 if it is not, or has the child already."""
    # Written and not only asked for: the parent's end, by whoever records it, then comes wholly before or after.
    held = engine.execute(
        "UPDATE runs SET nests = 1 WHERE id = ? AND attempt = ? AND state = 'running'", (change.parent, change.attempt)
    ).rowcount
    if not held:
        return 0
    params = json.dumps(change.params)
    added = engine.execute(
        "INSERT INTO runs (id, project, name, function, plan, place, state, attempt, owner, worker, params, created, "
        "started, labels, parent, iteration, point, part_of) "
        "SELECT CAST(? AS TEXT), project, name, function, plan, place, 'running', 1, owner, worker, CAST(? AS TEXT), "
        "?, ?, labels, id, "
        "(SELECT COALESCE(max(other.iteration), 0) + 1 FROM runs AS other WHERE other.parent = runs.id), "
        "CAST(? AS TEXT), COALESCE(part_of, id) FROM runs WHERE id = ? ON CONFLICT DO NOTHING",
        (change.run, params, change.time, change.time, params, change.parent),
    ).rowcount
    if not added:
        return 0
    engine.execute(
        "INSERT INTO labels (key, value, run) SELECT key, value, CAST(? AS TEXT) FROM labels WHERE run = ?",
        (change.run, change.parent),
    )
    engine.execute(
        "INSERT INTO attempts (run, attempt, worker, claimed, started, state) "
        "SELECT id, 1, worker, started, started, 'running' FROM runs WHERE id = ?",
        (change.run,),
    )
    return 1


def mark_best(engine: Engine, change: BestMarked) -> int:
    """Note which child a run's outputs are to come from, if that one has succeeded; the last one marked counts."""
    return int(
        engine.execute(
            "UPDATE runs SET best = ? WHERE id = ? AND attempt = ? AND state = 'running' AND EXISTS "
            "(SELECT 1 FROM runs AS child WHERE child.id = ? AND child.parent = runs.id AND child.state = 'succeeded')",
            (change.run, change.parent, change.attempt, change.run),
        ).rowcount
    )


def take_from_best(engine: Engine, run: str, attempt: int, best: str) -> None:
    """Give a run the outputs of its best child, whose files stay the child's, and that one's number."""
    engine.execute(_OUTPUTS_OF_BEST, (run, attempt, best))
    engine.execute(_SCORES_OF_BEST, (run, best, best))
    engine.execute(_NUMBER_OF_BEST, (run, attempt, BEST, best))
    engine.execute(_SCORE_OF_NUMBER, (run, BEST, best))


def left_open(
    engine: Engine, parent: str, *, state: RunState, reason: Reason | None, time: float
) -> Iterator[Finished]:
    """Yield the ends of the children that are open while their parent's attempt ends, as it ends."""
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
    kind = RunLostError
    name, *bases = (f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__[:-1])
    failure = RemoteFailure(name, text, "", (name, *bases))
    return Outcome(RunState.FAILED, Reason.LOST if reason in (None, Reason.ERROR) else reason, failure)
