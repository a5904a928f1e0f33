"""`apply`: one transaction for a batch of changes, those of one type together where their order allows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import mlfn.store.changes as change_types
from mlfn.errors import StorageError
from mlfn.host import failpoints
from mlfn.store.changes import (
    Acknowledged,
    Change,
    Claimed,
    Finished,
    MetricsLogged,
    OutputLogged,
    PageNoted,
    Progressed,
    Started,
    StatusNoted,
    Submitted,
)
from mlfn.store.commands import OwnershipLostError
from mlfn.store.sql.commands import clients, interruptions, nesting, results, runs, sweeps
from mlfn.store.sql.connection import TEXT, Batch, Connected
from mlfn.store.sql.engine import Engine

Applier = Callable[[Engine, Sequence[Any]], list[int]]
Indexed = tuple[int, Change]


def _one_by_one(apply: Callable[[Engine, Any], int]) -> Applier:
    def apply_each(engine: Engine, changes: Sequence[Any]) -> list[int]:
        return [apply(engine, change) for change in changes]

    return apply_each


APPLIERS: dict[type, Applier] = {
    change_types.Submitted: runs.submit,
    change_types.SweepSubmitted: _one_by_one(sweeps.submit_sweep),
    change_types.SweepClosed: _one_by_one(sweeps.close_sweep),
    change_types.Reused: _one_by_one(sweeps.reuse),
    change_types.ExecutionCreated: _one_by_one(clients.create_execution),
    change_types.Claimed: runs.claim,
    change_types.StatusNoted: runs.note_status,
    change_types.Started: runs.start,
    change_types.PageNoted: results.note_pages,
    change_types.Acknowledged: runs.acknowledge,
    change_types.MetricsLogged: results.log_metrics,
    change_types.OutputLogged: results.log_outputs,
    change_types.Progressed: results.log_progress,
    change_types.Finished: runs.finish,
    change_types.Requeued: _one_by_one(interruptions.requeue),
    change_types.Recalled: _one_by_one(interruptions.recall),
    change_types.FinishedUnstarted: _one_by_one(interruptions.finish_unstarted),
    change_types.ChildStarted: _one_by_one(nesting.start_child),
    change_types.BestMarked: _one_by_one(nesting.mark_best),
    change_types.CancelRequested: _one_by_one(interruptions.request_cancel),
    change_types.Adopted: _one_by_one(interruptions.adopt),
}
# The steps of an attempt, each with its place in their order.
_STEPS: Mapping[type, int] = {
    kind: step
    for step, kind in enumerate(
        (Claimed, StatusNoted, Started, PageNoted, Acknowledged, Progressed, MetricsLogged, OutputLogged, Finished)
    )
}
_MOVE_CURSOR = Batch(
    {"execution": TEXT, "client": TEXT, "cursor": TEXT},
    "UPDATE executions SET cursor = coalesce({cursor}, executions.cursor) FROM {rows} WHERE id = {execution} AND executions.client = {client} RETURNING id",
)


class ChangeCommands(Connected):
    """Changes of runs, and of what belongs to them."""

    def apply(
        self, changes: Sequence[Change], *, cursors: Mapping[str, str | None] | None = None, client: str | None = None
    ) -> list[int]:
        if len(changes) == 1 and not failpoints.ARE_ARMED:
            change = changes[0]
            if isinstance(change, Submitted) and runs.is_one_row(change):
                return [self.connection.insert_alone(*runs.insert_of(change))]
        with self.connection.writing() as engine:
            if cursors:
                _move_cursors(engine, cursors, client)
            answers = _applied(engine, changes)
            if failpoints.ARE_ARMED:
                failpoints.pass_each(f"store.{type(change).__name__}.before" for change in changes)
        if failpoints.ARE_ARMED:
            failpoints.pass_each(f"store.{type(change).__name__}.committed" for change in changes)
        return answers

    def refusals(self, changes: Sequence[Change]) -> dict[int, Exception]:
        found: dict[int, Exception] = {}
        with self.connection.dry_run() as engine:
            for index, change in enumerate(changes):
                engine.execute("SAVEPOINT one")
                try:
                    APPLIERS[type(change)](engine, [change])
                except StorageError:
                    raise
                except Exception as error:  # noqa: BLE001 - a value that does not fit raises whatever its driver raises
                    found[index] = error
                    engine.execute("ROLLBACK TO SAVEPOINT one")
        return found


def _applied(engine: Engine, changes: Sequence[Change]) -> list[int]:
    answers = [0] * len(changes)
    for stretch in _stretches(changes):
        kept, ends = _with_parts_in_ends(stretch)
        for kind, group in _by_type(kept):
            applied = APPLIERS[kind](engine, [change for _, change in group])
            for (index, _), answer in zip(group, applied, strict=True):
                answers[index] = answer
        for part, end in ends.items():
            answers[part] = answers[end]
    return answers


def _stretches(changes: Sequence[Change]) -> Iterator[list[Indexed]]:
    """Yield changes, with their indexes, in stretches that may be applied type by type.

    A stretch is of one type; or of the steps of attempts, of which each run's come in their order. Runs do not depend on
    each other, but for children that a handler opened, whose reports come before their parent's end.
    """
    stretch: list[Indexed] = []
    reached: dict[str, int] = {}  # the last step of each run
    for index, change in enumerate(changes):
        run = getattr(change, "run", "")
        if stretch and not _continues(stretch[-1][1], change, reached.get(run, 0)):
            yield stretch
            stretch, reached = [], {}
        stretch.append((index, change))
        reached[run] = _STEPS.get(type(change), 0)
    if stretch:
        yield stretch


def _continues(last: Change, change: Change, reached: int) -> bool:
    step = _STEPS.get(type(change))
    if step is None:
        return type(change) is type(last)
    return type(last) in _STEPS and step >= reached


def _with_parts_in_ends(stretch: list[Indexed]) -> tuple[list[Indexed], dict[int, int]]:
    """Write the start of an attempt that ends together with its end, and return which end each is a part of.

    How much of its journal is recorded does not matter any more.
    """
    finished: dict[tuple[str, int], int] = {}
    for index, change in stretch:
        if isinstance(change, Finished):
            finished.setdefault((change.run, change.attempt), index)
    if not finished:
        return stretch, {}
    kept: list[Indexed] = []
    ends: dict[int, int] = {}
    begun: dict[int, float] = {}
    for index, change in stretch:
        if isinstance(change, (Started, Acknowledged)) and (change.run, change.attempt) in finished:
            end = ends[index] = finished[change.run, change.attempt]
            if isinstance(change, Started):
                begun.setdefault(end, change.time)
        elif isinstance(change, Finished) and index in begun:
            kept.append((index, Finished(change.run, change.attempt, change.outcome, change.time, begun[index])))
        else:
            kept.append((index, change))
    return kept, ends


def _by_type(stretch: list[Indexed]) -> list[tuple[type, list[Indexed]]]:
    groups: dict[type, list[Indexed]] = {}
    for index, change in stretch:
        groups.setdefault(type(change), []).append((index, change))
    return sorted(groups.items(), key=_step_of)


def _step_of(group: tuple[type, list[Indexed]]) -> int:
    return _STEPS.get(group[0], 0)


def _move_cursors(engine: Engine, cursors: Mapping[str, str | None], client: str | None) -> None:
    """Store up to where the reports of executions are received, and refuse those of another client."""
    moved = _MOVE_CURSOR.for_each(engine, [(execution, client, cursor) for execution, cursor in cursors.items()])
    if lost := [execution for execution, row in zip(cursors, moved, strict=True) if row is None]:
        raise OwnershipLostError(
            f"Execution {lost[0]} belongs to another client now: the heartbeat of this one had lapsed."
        )
