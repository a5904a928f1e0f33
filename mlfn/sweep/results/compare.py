"""`SweepRun.compare`: children, or sweeps, beside each other: the parameters and results that differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlfn.errors import ParameterError
from mlfn.handles.run import Run
from mlfn.sweep.differences import without_paths
from mlfn.sweep.results.sweep_results import SweepResults
from mlfn.sweep.results.table import are_different, error_text, require_pandas, seconds_of

if TYPE_CHECKING:
    import pandas as pd

Cells = dict[tuple[str, str], Any]
Kept = Mapping[tuple[str, str], Any]
_PARTS = ("sweep", "run", "param", "result")


def compare_children(results: SweepResults, runs: Sequence[Any], *, everything: bool) -> pd.DataFrame:
    """Return a DataFrame with a column a run, called by its number where it is a child of the sweep."""
    if len(runs) < 2:
        raise ParameterError("compare() takes two children at least, as in compare(1, 5), or another sweep.")
    for run in runs:
        if not isinstance(run, Run):
            raise ParameterError(f"compare({run!r}): numbers of children, runs or other sweeps are allowed.")
    columns = {_column_of(results, run): _of_run(results, run) for run in runs}
    heading = "child" if all(isinstance(name, int) for name in columns) else None
    return _frame(columns, heading, everything=everything, kept=[_contents(run) for run in runs])


def compare_sweeps(sweeps: Sequence[tuple[SweepResults, Run[Any] | None]], *, everything: bool) -> pd.DataFrame:
    """Return a DataFrame with a column a sweep: its facts, and the values of its best child."""
    columns = {f"{one.record.name} {one.record.id[:8]}": _of_sweep(one, leader) for one, leader in sweeps}
    kept = [_contents(leader) if leader is not None else {} for _, leader in sweeps]
    return _frame(columns, None, everything=everything, kept=kept)


def _contents(run: Run[Any]) -> Kept:
    """Return for each given parameter what tells its content: of a model, say, whose == knows only itself."""
    params = run.record.params.items()
    return {("param", name): without_paths(stored) for name, stored in params}


def _frame(columns: dict[Any, Cells], heading: str | None, *, everything: bool, kept: Sequence[Kept]) -> pd.DataFrame:
    def is_same(row: tuple[str, str]) -> bool:
        stored = [contents.get(row) for contents in kept]
        if stored[0] is not None and all(item == stored[0] for item in stored):
            return True
        return not are_different([cells.get(row) for cells in columns.values()])

    rows = dict.fromkeys(row for cells in columns.values() for row in cells)
    ordered = sorted(rows, key=lambda row: _PARTS.index(row[0]))  # sorted() keeps the order within a part
    shown = [row for row in ordered if everything or not is_same(row)]
    pd = require_pandas("compare() returns")
    names = ["part", "name"]
    index = pd.MultiIndex.from_tuples(shown, names=names) if shown else pd.MultiIndex.from_arrays([[], []], names=names)
    values = {name: pd.Series([cells.get(row) for row in shown], dtype=object) for name, cells in columns.items()}
    frame = pd.DataFrame(values)
    frame.index = index
    frame.columns.name = heading
    return frame  # type: ignore[no-any-return]


def _column_of(results: SweepResults, run: Run[Any]) -> Any:
    return run.iteration if run.parent == results.record.id and run.iteration else f"{run.name} {run.id[:8]}"


def _of_run(results: SweepResults, run: Run[Any]) -> Cells:
    record = run.record
    cells: Cells = {("run", "state"): str(record.state)}
    if (seconds := seconds_of(record)) is not None:
        cells["run", "seconds"] = seconds
    if record.failure is not None:
        cells["run", "error"] = error_text(vars(record.failure))
    cells |= {("param", name): value for name, value in run.params.items()}
    scores = results.session.store.scores_among([run.id]).get(run.id, {})
    return cells | {("result", name): value for name, value in scores.items()}


def _of_sweep(results: SweepResults, leader: Run[Any] | None) -> Cells:
    body, record = results.body, results.record
    counts = results.session.store.child_counts(record.id)
    cells: Cells = {
        ("sweep", "state"): str(record.state),
        ("sweep", "strategy"): body.strategy["name"],
        ("sweep", "swept"): ", ".join(body.keys),
        ("sweep", "select"): ", ".join(body.select),
        ("sweep", "children"): sum(counts.values()),
        **{("sweep", str(state)): count for state, count in counts.items()},
    }
    if (seconds := seconds_of(record)) is not None:
        cells["sweep", "seconds"] = seconds
    if leader is None:
        return cells
    cells["sweep", "best_iteration"] = leader.iteration
    return cells | {row: value for row, value in _of_run(results, leader).items() if row[0] != "run"}
