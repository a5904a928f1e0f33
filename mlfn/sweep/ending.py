"""How a sweep ends: the parent's outcome, with the best child's outputs and the iteration table."""

from __future__ import annotations

import logging
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlfn.client import Client
from mlfn.errors import OptionError, StorageError, SweepError
from mlfn.identity import now
from mlfn.spec.record import Outcome, Output, Reason, RemoteFailure, RunRecord, RunState
from mlfn.store.changes import Finished, Progressed, SweepClosed
from mlfn.store.families import ChildRow
from mlfn.sweep.body import SweepBody
from mlfn.sweep.child import Child
from mlfn.sweep.encoding import PointCodec
from mlfn.sweep.parquet import is_installed, to_parquet
from mlfn.sweep.scoreboard import Scoreboard, Stop
from mlfn.sweep.selection import best, check_reported
from mlfn.sweep.standing import Standing, deciding
from mlfn.sweep.table import Table, make_table
from mlfn.verdict import failed

logger = logging.getLogger(__name__)
TABLE = "iteration_results"
PICTURE = "parallel_coordinates"
BEST = "best_iteration"


def load_ahead() -> None:
    """Load what the ending needs, while children run: it takes longer than a short sweep may end late."""
    if threading.main_thread().is_alive():
        threading.Thread(target=_load, name="mlfn-load-ending", daemon=True).start()


def _load() -> None:
    import mlfn.sweep.picture  # noqa: F401

    if is_installed():
        # Writing one loads more than the import does: pyarrow looks for pandas by itself.
        to_parquet(Table({"iteration": [0]}, (), ()))


@dataclass(frozen=True)
class Ending:
    """Why a sweep is over (`stop` is None where all children have run), and the state that follows."""

    stop: Stop | None
    state: RunState
    failure: RemoteFailure | None = None

    def record(self, client: Client, record: RunRecord, body: SweepBody, standing: Standing, board: Scoreboard) -> None:
        """Record the parent's end, unless another driver was quicker."""
        rows = client.store.children(record.id)
        scores = client.store.family_scores(record.id)
        children = standing.children(rows, scores)
        leader, wrong = _best(children, standing)
        wrong = _unreported(body, children) or wrong
        outputs = [*_best_outputs(client, leader), *_kept(client, record, body, rows, scores, children, leader)]
        outcome = self._outcome(client, record, rows, leader, wrong)
        outcome = replace(outcome, outputs=tuple(outputs))
        progress = board.progress(body.size)
        if self.stop is not None:
            progress["stopped"] = self.stop.text
        client.store.apply(
            [
                Progressed(record.id, record.attempt, progress),
                Finished(record.id, record.attempt, outcome, now()),
                SweepClosed(record.id),
            ]
        )

    def _outcome(
        self, client: Client, record: RunRecord, rows: Sequence[ChildRow], leader: Child | None, wrong: str | None
    ) -> Outcome:
        if self.failure is not None:
            return Outcome(RunState.FAILED, Reason.ERROR, self.failure)
        if self.state is RunState.CANCELLED:
            return Outcome(RunState.CANCELLED)
        stopped = f"{self.stop.text}; " if self.stop is not None else ""
        said = self._failed(record, rows) or (f"{record.name}: {stopped}{wrong}" if wrong is not None else None)
        if said is not None:
            return failed(Reason.ERROR, SweepError(said))
        returns = client.store.get_run(leader.run).returns if leader is not None else None
        return Outcome(RunState.SUCCEEDED, returns=returns)

    def _failed(self, record: RunRecord, rows: Sequence[ChildRow]) -> str | None:
        """Say why the sweep has failed by its children's failures, if it has."""
        first = next((row for row in rows if row.state is RunState.FAILED), None)
        said = f" The first, child {first.iteration}, ended with {_said(first)}" if first is not None else ""
        if self.state is RunState.FAILED and self.stop is not None:
            return f"{record.name}: {self.stop.text}; what the others came to is kept.{said}"
        if self.stop is not None and not any(row.state is RunState.SUCCEEDED for row in rows):
            return f"{record.name}: {self.stop.text}, and no child has succeeded.{said}"
        if rows and all(row.state is RunState.FAILED for row in rows):
            return f"{record.name}: {'its one child' if len(rows) == 1 else f'all {len(rows)} children'} failed.{said}"
        return None


def _best(children: Sequence[Child], standing: Standing) -> tuple[Child | None, str | None]:
    """Return the best child, and what is wrong where there can be none."""
    if not standing.selectors:
        return None, None
    try:
        leader = best(children, standing.selectors)
    except OptionError as error:
        return None, str(error)
    return leader, None if leader is not None or not children else _none_counts(children, standing)


def _none_counts(children: Sequence[Child], standing: Standing) -> str:
    """Say why no child can be the best."""
    barred = [child for child in children if child.numbers is not None]  # by its constraints alone
    if not barred:
        return f"no child succeeded with a finite {standing.selectors[0].name}; table() shows them."
    closest = min(barred, key=lambda child: sum(max(0.0, value) for value in child.constraints.values()))
    missed = ", ".join(_missed(name, value) for name, value in closest.constraints.items() if value > 0)
    return (
        f"no child meets its constraints: the closest, child {closest.iteration}, misses {missed}; table() shows them."
    )


def _missed(name: str, value: float) -> str:
    return f"{name!r} by {value:.4g}" if value < sys.float_info.max else f"{name!r}, for which it has no number"


def _unreported(body: SweepBody, children: Sequence[Child]) -> str | None:
    """Say which metric that an option names no child has reported."""
    try:
        check_reported(deciding(body), children)
    except OptionError as error:
        return str(error)
    return None


def _said(row: ChildRow) -> str:
    failure = row.failure or {}
    return f"{str(failure.get('type', '')).rpartition('.')[2]}: {str(failure.get('message', '')).partition(chr(10))[0]}"


def _best_outputs(client: Client, leader: Child | None) -> list[Output]:
    """Return the outputs that the parent takes over; their files stay the child's."""
    if leader is None:
        return []
    attempt = client.store.get_run(leader.run).attempt
    number = Output(BEST, "result", "json", "int", inline=leader.iteration)
    return [*client.store.outputs(leader.run, attempt), number]


def _kept(
    client: Client,
    record: RunRecord,
    body: SweepBody,
    rows: Sequence[ChildRow],
    scores: Mapping[str, Mapping[str, float]],
    children: Sequence[Child],
    leader: Child | None,
) -> list[Output]:
    """Return the table and the picture as artifacts; one that cannot be made costs nothing but itself."""
    found: list[Output] = []
    if not rows:
        return found
    with tempfile.TemporaryDirectory(prefix="mlfn-") as folder:
        for key, suffix, write in _WRITERS:
            try:
                table = make_table(rows, scores, PointCodec(client.codec(), record.id).decode, body.keys, children)
                content = write(table, record, body, leader)
                if content is not None:
                    path = Path(folder, f"{key}{suffix}")
                    path.write_bytes(content)
                    found.append(client.codec().output(record.id, key, path, role="artifact", file=True))
            except StorageError:
                raise  # it is tried again when there is room
            except Exception as error:  # noqa: BLE001 - what was swept can be anything, and so can what it raises
                logger.warning("sweep %s ends without %s: %s: %s", record.id[:8], key, type(error).__name__, error)
    return found


def _csv(table: Table, *_: Any) -> bytes:
    return table.to_csv().encode("utf-8", "backslashreplace")


def _picture(table: Table, record: RunRecord, body: SweepBody, leader: Child | None) -> bytes | None:
    from mlfn.sweep.picture import parallel_coordinates  # not before the children have been started

    best = leader.iteration if leader is not None else None
    page = parallel_coordinates(table, body.select, best, title=record.name)
    return page.encode("utf-8", "backslashreplace") if page is not None else None


def _parquet(table: Table, *_: Any) -> bytes | None:
    return to_parquet(table) if is_installed() else None


_WRITERS: tuple[tuple[str, str, Callable[..., bytes | None]], ...] = (
    (TABLE, ".csv", _csv),
    (PICTURE, ".html", _picture),
    (f"{TABLE}_parquet", ".parquet", _parquet),
)
