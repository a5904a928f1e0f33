"""How a sweep ends: the parent's outcome, the best child's outputs, and the artifacts of the sweep."""

from __future__ import annotations

import logging
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlfn.dispatch.failures import failed
from mlfn.dispatch.session import Session
from mlfn.errors import OptionError, StorageError, StoreCorruptError, SweepError, harmless
from mlfn.host.frozen import frozen
from mlfn.host.identity import now
from mlfn.spec.record import BEST, Outcome, Output, Reason, RemoteFailure, RunRecord, RunState, number_of
from mlfn.store.changes import Finished, Progressed, SweepClosed
from mlfn.store.rows import warn_skipped
from mlfn.store.sweeps import ChildRow
from mlfn.sweep.controller.scoreboard import Scoreboard, Stop
from mlfn.sweep.params.encoding import PointCodec
from mlfn.sweep.results.child import Child
from mlfn.sweep.results.parquet import is_installed, to_parquet
from mlfn.sweep.results.selection import best, check_reported
from mlfn.sweep.results.standing import Standing, deciding
from mlfn.sweep.results.table import Table, error_text, make_table
from mlfn.sweep.spec import SweepBody

logger = logging.getLogger(__name__)
TABLE = "iteration_results"
PICTURE = "parallel_coordinates"
_MOST_ERRORS = 5  # distinct ones that are named at a sweep's end


def preload() -> None:
    """Import in a thread, while children run, the modules that a completion needs: a short sweep would end late."""
    if threading.main_thread().is_alive():
        threading.Thread(target=_preload, name="mlfn-load-ending", daemon=True).start()


def _preload() -> None:
    import mlfn.sweep.results.parallel_coordinates  # noqa: F401

    if is_installed():
        # Writing one loads more than the import does: pyarrow looks for pandas by itself.
        to_parquet(Table({"iteration": [0]}, (), ()))


@frozen
class Completion:
    """Why a sweep is over (`stop` is None where all children have run), and the state that follows."""

    stop: Stop | None
    state: RunState
    failure: RemoteFailure | None = None

    @classmethod
    def cancelled(cls) -> Completion:
        """Return the completion of a sweep that its user cancelled."""
        return cls(Stop("it was cancelled"), RunState.CANCELLED)

    def record(
        self, session: Session, record: RunRecord, body: SweepBody, standing: Standing, scoreboard: Scoreboard
    ) -> None:
        """Record the parent's end, unless another driver was quicker."""
        rows = session.store.children(record.id)
        scores = session.store.child_scores(record.id)
        children = standing.children(rows, scores)
        leader, problem, returns, outputs = _readable_best(session, children, standing)
        outcome = self._outcome(record, rows, _unreported_metric(body, children) or problem, returns)
        if rows:
            codec = PointCodec(session.codec(), record.id)
            outputs += _artifacts(
                session, record, body, leader, lambda: make_table(rows, scores, codec.decode, body.keys, children)
            )
        progress = scoreboard.progress(body.size)
        if self.stop is not None:
            progress["stopped"] = self.stop.text
        session.store.apply(
            [
                Progressed(record.id, record.attempt, progress),
                Finished(record.id, record.attempt, replace(outcome, outputs=tuple(outputs)), now()),
                SweepClosed(record.id),
            ]
        )
        _say_failures(record, rows)

    def _outcome(
        self, record: RunRecord, rows: Sequence[ChildRow], problem: str | None, returns: Mapping[str, Any] | None
    ) -> Outcome:
        if self.failure is not None:
            return Outcome(RunState.FAILED, Reason.ERROR, self.failure)
        if self.state is RunState.CANCELLED:
            return Outcome(RunState.CANCELLED)
        text = self._failed_children(rows)
        if text is None and problem is not None:
            text = f"{self.stop.text}; {problem}" if self.stop is not None else problem
        if text is not None:
            return failed(Reason.ERROR, SweepError(f"{record.name}: {text}"))
        return Outcome(RunState.SUCCEEDED, returns=returns)

    def _failed_children(self, rows: Sequence[ChildRow]) -> str | None:
        """Return why the sweep has failed by its children's failures, if it has."""
        first = next((row for row in rows if row.state is RunState.FAILED), None)
        example = ""
        if first is not None:
            shown = f"`mlfn show {first.run[:8]}` shows it"
            example = f" The first, child {first.iteration}, ended with {error_text(first.failure or {})}; {shown}."
        if self.state is RunState.FAILED and self.stop is not None:
            return f"{self.stop.text}; what the others came to is kept.{example}"
        if self.stop is not None and not any(row.state is RunState.SUCCEEDED for row in rows):
            return f"{self.stop.text}, and no child has succeeded.{example}"
        if rows and all(row.state is RunState.FAILED for row in rows):
            return f"{'its one child' if len(rows) == 1 else f'all {len(rows)} children'} failed.{example}"
        return None


def _say_failures(record: RunRecord, rows: Sequence[ChildRow]) -> None:
    """Log one line for each distinct error of the children, the most frequent first."""
    by_error: dict[str, list[ChildRow]] = {}
    for row in rows:
        if row.state is RunState.FAILED:
            by_error.setdefault(error_text(row.failure or {}), []).append(row)
    frequent = sorted(by_error.items(), key=lambda item: -len(item[1]))
    for error, failed_rows in frequent[:_MOST_ERRORS]:
        logger.warning(
            "sweep %s (%s): %d of %d children failed with %s; `mlfn show %s` shows %s",
            record.name,
            record.id[:8],
            len(failed_rows),
            len(rows),
            harmless(error),
            failed_rows[0].run[:8],
            f"child {failed_rows[0].iteration}"
            if len(failed_rows) == 1
            else f"the first, child {failed_rows[0].iteration}",
        )
    if len(frequent) > _MOST_ERRORS:
        left = len(frequent) - _MOST_ERRORS
        logger.warning("sweep %s (%s): %d other errors; table() lists them", record.name, record.id[:8], left)


def _readable_best(
    session: Session, children: Sequence[Child], standing: Standing
) -> tuple[Child | None, str | None, Mapping[str, Any] | None, list[Output]]:
    """Return the best child that can be read, the problem where there is none, and its returns and outputs.

    The files of those outputs stay the child's.
    """
    left = list(children)
    while True:
        leader, problem = _best(session, left, standing)
        if leader is None:
            return None, problem, None, []
        try:
            record = session.store.get_run(leader.run)
            outputs = session.store.outputs(record.id, record.attempt)
        except StoreCorruptError as error:
            warn_skipped(error)
            left.remove(leader)
            continue
        return (
            leader,
            problem,
            record.returns,
            [*outputs, Output(BEST, "result", "json", "int", inline=leader.iteration)],
        )


def _best(session: Session, children: Sequence[Child], standing: Standing) -> tuple[Child | None, str | None]:
    """Return the best child, and the problem where there can be none."""
    if not standing.selectors:
        return None, None
    try:
        leader = best(children, standing.selectors)
    except OptionError as error:
        return None, str(error)
    return leader, None if leader is not None or not children else _no_best(session, children, standing)


def _no_best(session: Session, children: Sequence[Child], standing: Standing) -> str:
    """Return why no child can be the best."""
    infeasible = [child for child in children if child.numbers is not None]
    if not infeasible:
        name = standing.selectors[0].name
        succeeded = next((child for child in children if child.state is RunState.SUCCEEDED), None)
        example = f": that of child {succeeded.iteration} is {_said(session, succeeded, name)}" if succeeded else ""
        return f"no child succeeded with a finite {name}{example}; table() shows them."
    closest = min(infeasible, key=lambda child: sum(max(0.0, value) for value in child.constraints.values()))
    missed = ", ".join(_missed(name, value) for name, value in closest.constraints.items() if value > 0)
    return (
        f"no child meets its constraints: the closest, child {closest.iteration}, misses {missed}; table() shows them."
    )


def _said(session: Session, child: Child, name: str) -> str:
    """Return in words what a child has under a name that is no number to select by."""
    record = session.store.get_run(child.run)
    found = next((item for item in session.store.outputs(record.id, record.attempt) if item.key == name), None)
    if found is None:
        return f"{child.metrics[name]:g}" if name in child.metrics else "missing"
    number, kind = number_of(found.inline), found.type.removeprefix("builtins.")
    if kind == "int":
        return "a whole number that no float holds"
    if number is not None:
        return f"{number:g}"
    return f"{'None' if kind == 'NoneType' else f'a {kind}'}, where a number is wanted, as float() makes it"


def _missed(name: str, value: float) -> str:
    return f"{name!r} by {value:.4g}" if value < sys.float_info.max else f"{name!r}, for which it has no number"


def _unreported_metric(body: SweepBody, children: Sequence[Child]) -> str | None:
    """Name a metric that an option uses and no child reported."""
    try:
        check_reported(deciding(body), children)
    except OptionError as error:
        return str(error)
    return None


def _artifacts(
    session: Session, record: RunRecord, body: SweepBody, leader: Child | None, make: Callable[[], Table]
) -> list[Output]:
    """Return the table and the picture as artifacts; one that cannot be made is left out, with a warning."""
    found: list[Output] = []
    table: Table | None = None
    with tempfile.TemporaryDirectory(prefix="mlfn-") as folder:
        for key, suffix, write in _WRITERS:
            try:
                table = make() if table is None else table
                content = write(table, record, body, leader)
                if content is not None:
                    path = Path(folder, f"{key}{suffix}")
                    path.write_bytes(content)
                    found.append(session.codec().output(record.id, key, path, role="artifact", file=True))
            except StorageError:
                raise  # the completion is tried again when there is room
            except Exception as error:  # noqa: BLE001 - swept values can be anything, and raise anything
                logger.warning("sweep %s ends without %s: %s: %s", record.id[:8], key, type(error).__name__, error)
    return found


def _csv(table: Table, *_: Any) -> bytes:
    return table.to_csv().encode("utf-8", "backslashreplace")


def _picture(table: Table, record: RunRecord, body: SweepBody, leader: Child | None) -> bytes | None:
    # Imported after the children have been started.
    from mlfn.sweep.results.parallel_coordinates import parallel_coordinates

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
