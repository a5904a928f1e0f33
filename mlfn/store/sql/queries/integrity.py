"""Checks for rows that cannot be read: those of one run, or of the newest runs of a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlfn.store.rows import Fault, Survey, Unreadable
from mlfn.store.sql import shapes
from mlfn.store.sql.queries.results import output_of
from mlfn.store.sql.queries.runs import RunQueries

_NEWEST = 10_000  # runs
_WHOLE = 1_000  # of them with their rows in other tables
_MOST_ROWS = 50_000  # of each table
_RUNS_PER_STATEMENT = 500
_PAGE = 1_000


class IntegrityQueries(RunQueries):
    """Damage."""

    def faults_of(self, run: str) -> list[Fault]:
        return [row.fault for row in self.rows_of([run]) if isinstance(row, Unreadable)] + list(
            self._faults_in_other_tables([run], most=None)
        )

    def survey(self) -> Survey:
        faults: list[Fault] = []
        newest: list[str] = []
        before: int | None = None
        while len(newest) < _NEWEST:
            page, before = self.page(before=before, limit=_PAGE)
            if not page:
                break
            newest += [run.id for run in page]
            faults += [run.fault for run in page if isinstance(run, Unreadable)]
        active = self._active(without=set(newest))
        faults += [run.fault for run in self.rows_of(active) if isinstance(run, Unreadable)]
        whole = newest[:_WHOLE]
        most = _MOST_ROWS // (_WHOLE // _RUNS_PER_STATEMENT)
        for start in range(0, len(whole), _RUNS_PER_STATEMENT):
            faults += self._faults_in_other_tables(whole[start : start + _RUNS_PER_STATEMENT], most=most)
        return Survey(len(newest) + len(active), len(whole), tuple(faults))

    def _active(self, *, without: set[str]) -> list[str]:
        rows = self.connection.read(f"SELECT id FROM runs WHERE state IN ('pending', 'running') LIMIT {_NEWEST}")
        return [run for (run,) in rows if run not in without]

    def _faults_in_other_tables(self, runs: Sequence[str], *, most: int | None) -> Iterator[Fault]:
        marks = ", ".join("?" * len(runs))
        limit = "" if most is None else f"LIMIT {int(most)}"
        for shape, fault_of in _TABLES.items():
            columns = ", ".join(f"{shape.table}.{column}" for column in shape.columns)
            key = "id" if shape.table == "sweeps" else "seq"
            rows = self.connection.read(
                f"SELECT runs.id, {columns} FROM runs JOIN {shape.table} ON {shape.table}.run = runs.{key} "
                f"WHERE runs.id IN ({marks}) {limit}",
                runs,
            )
            for run, *row in rows:
                fault = fault_of(run, tuple(row))
                if fault is not None:
                    yield fault


def _by_shape(shape: shapes.Shape, word: str, column: int) -> Callable[[str, tuple[Any, ...]], Fault | None]:
    """Return what checks a row by its shape, and names it by a word and a column."""

    def fault_of(run: str, row: tuple[Any, ...]) -> Fault | None:
        misfit = shape.misfit(row)
        return None if misfit is None else Fault(shape.table, run, *misfit, f"{word} {row[column]!r}")

    return fault_of


def _output(run: str, row: tuple[Any, ...]) -> Fault | None:
    output = output_of(row, run)
    return output if isinstance(output, Fault) else None


def _sweep(run: str, row: tuple[Any, ...]) -> Fault | None:
    values = shapes.parse_row(_SWEEP, row, run, {"body": shapes.parse_object})
    return replace(values, item="description") if isinstance(values, Fault) else None


_SWEEP = shapes.Shape("sweeps", body=shapes.TEXT)
_METRIC = shapes.Shape("metrics", name=shapes.TEXT, **shapes.POINT.allowed)
_TABLES: Mapping[shapes.Shape, Callable[[str, tuple[Any, ...]], Fault | None]] = {
    shapes.OUTPUT: _output,
    shapes.SCORE: _by_shape(shapes.SCORE, "score", 0),
    shapes.ATTEMPT: _by_shape(shapes.ATTEMPT, "attempt", 0),
    shapes.EVENT: _by_shape(shapes.EVENT, "event", 1),
    _METRIC: _by_shape(_METRIC, "metric", 0),
    _SWEEP: _sweep,
}
