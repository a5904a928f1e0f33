"""Looking for rows that cannot be read: all of one run, or the newest ones of a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mlfn.store.rows as shapes
from mlfn.spec.record import RunState
from mlfn.store.reading import Reading, Unreadable, output_of
from mlfn.store.rows import Fault, Shape

_NEWEST = 10_000  # runs
_WHOLE = 1_000  # of them with all that hangs on them
_MOST_ROWS = 50_000  # of each table
_AT_ONCE = 500
_PAGE = 1_000


@dataclass(frozen=True)
class Survey:
    """What a look at a store found."""

    runs: int
    """How many runs were looked at: the newest, and those that are not over."""
    whole: int
    """How many of them with their outputs, metrics, attempts and events."""
    faults: tuple[Fault, ...]


def survey(store: Reading) -> Survey:
    """Look at the newest runs and at those that are not over: so many at most that it takes a second or two."""
    faults: list[Fault] = []
    newest: list[str] = []
    before: int | None = None
    while len(newest) < _NEWEST:
        page, before = store.page(before=before, limit=_PAGE)
        if not page:
            break
        newest += [run.id for run in page]
        faults += [run.fault for run in page if isinstance(run, Unreadable)]
    known = set(newest)
    active = [run for run in _active(store) if run.id not in known]
    faults += [run.fault for run in active if isinstance(run, Unreadable)]
    whole = newest[:_WHOLE]
    for start in range(0, len(whole), _AT_ONCE):
        faults += _belongings(store, whole[start : start + _AT_ONCE], most=_MOST_ROWS // (_WHOLE // _AT_ONCE))
    return Survey(len(newest) + len(active), len(whole), tuple(faults))


def faults_of(store: Reading, run: str) -> list[Fault]:
    """Return what cannot be read of one run: its row, and what hangs on it."""
    return [run.fault for run in store.rows_of([run]) if isinstance(run, Unreadable)] + list(
        _belongings(store, [run], most=None)
    )


def _active(store: Reading) -> list[Any]:
    marks = (RunState.PENDING.value, RunState.RUNNING.value)
    rows = store.session.read(
        f"SELECT id FROM runs WHERE state IN (?, ?) AND state IN ('pending', 'running') LIMIT {_NEWEST}", marks
    )
    return store.rows_of([row[0] for row in rows])


def _belongings(store: Reading, runs: Sequence[str], *, most: int | None) -> Iterator[Fault]:
    marks = ", ".join("?" * len(runs))
    limit = "" if most is None else f"LIMIT {int(most)}"
    for table, columns, fault_of in _TABLES:
        rows = store.session.read(f"SELECT run, {columns} FROM {table} WHERE run IN ({marks}) {limit}", list(runs))
        for run, *row in rows:
            fault = fault_of(run, tuple(row))
            if fault is not None:
                yield fault


def _by_shape(shape: Shape, item: Callable[[tuple[Any, ...]], str], skip: int) -> Callable[..., Fault | None]:
    def fault_of(run: str, row: tuple[Any, ...]) -> Fault | None:
        misfit = shape.misfit(row[skip:])
        return None if misfit is None else Fault(shape.table, run, *misfit, item(row))

    return fault_of


def _output(run: str, row: tuple[Any, ...]) -> Fault | None:
    output = output_of(row, run)
    return output if isinstance(output, Fault) else None


def _sweep(run: str, row: tuple[Any, ...]) -> Fault | None:
    try:
        shapes.mapping(row[0])
    except (ValueError, TypeError) as error:
        return Fault("sweeps", run, "body", str(error), "description")
    return None


_TABLES: Sequence[tuple[str, str, Callable[[str, tuple[Any, ...]], Fault | None]]] = (
    ("outputs", ", ".join(shapes.OUTPUT.columns), _output),
    ("scores", ", ".join(shapes.SCORE.columns), _by_shape(shapes.SCORE, lambda row: f"score {row[0]!r}", 0)),
    ("attempts", ", ".join(shapes.ATTEMPT.columns), _by_shape(shapes.ATTEMPT, lambda row: f"attempt {row[1]!r}", 0)),
    ("events", ", ".join(shapes.EVENT.columns), _by_shape(shapes.EVENT, lambda row: f"event {row[2]!r}", 0)),
    (
        "metrics",
        f"name, {', '.join(shapes.POINT.columns)}",
        _by_shape(shapes.POINT, lambda row: f"metric {row[0]!r}", 1),
    ),
    ("sweeps", "body", _sweep),
)
