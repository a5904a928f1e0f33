"""`SweepRun.compare`: children, or sweeps, beside each other: what differs in parameters and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlfn.errors import MissingExtraError, ParameterError
from mlfn.handle import Run
from mlfn.sweep.selection import best

if TYPE_CHECKING:
    import pandas as pd

    from mlfn.sweep.sweep_run import SweepRun

Cells = dict[tuple[str, str], Any]


def compare(sweep: SweepRun[Any], others: Sequence[Any], *, everything: bool) -> pd.DataFrame:
    """Return a DataFrame with a column for each that is compared, and a row for each fact that differs."""
    columns = _columns(sweep, others)
    rows = dict.fromkeys(row for cells in columns.values() for row in cells)
    ordered = sorted(rows, key=lambda row: _PARTS.index(row[0]))  # sorted() keeps the order within a part
    kept = [row for row in ordered if everything or _differs([cells.get(row) for cells in columns.values()])]
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtraError(
            "compare() returns a pandas DataFrame, and pandas is not installed: pip install pandas."
        ) from error
    index = pd.MultiIndex.from_tuples(kept, names=["part", "name"]) if kept else pd.MultiIndex.from_arrays([[], []])
    values = {name: pd.Series([cells.get(row) for row in kept], dtype=object) for name, cells in columns.items()}
    frame: pd.DataFrame = pd.DataFrame(values)
    frame.index = index
    frame.columns.name = _heading(columns)
    return frame


_PARTS = ("sweep", "run", "param", "result")


def _columns(sweep: SweepRun[Any], others: Sequence[Any]) -> dict[Any, Cells]:
    """Return the facts of each, by what its column is called."""
    sweeps = [other for other in others if _is_sweep(other)]
    if sweeps and len(sweeps) < len(others):
        raise ParameterError("compare() sets children beside each other, or sweeps: not one of them with the other.")
    if sweeps:
        return {f"{one.name} {one.id[:8]}": _of_sweep(one) for one in dict.fromkeys([sweep, *sweeps])}
    if len(others) < 2:
        raise ParameterError(
            f"compare({', '.join(map(repr, others))}): two children at least, as in compare(1, 5), or another sweep, is allowed."
        )
    children = sweep.children
    return dict([_child_named(sweep, other, children) for other in others])


def _child_named(sweep: SweepRun[Any], other: Any, children: Any) -> tuple[Any, Cells]:
    if isinstance(other, int) and not isinstance(other, bool):
        return other, _of_child(children[other])
    if not isinstance(other, Run):
        raise ParameterError(f"compare({other!r}): numbers of children, runs or other sweeps are allowed.")
    own = other.parent == sweep.id and other.iteration
    return other.iteration if own else f"{other.name} {other.id[:8]}", _of_child(other)


def _heading(columns: Mapping[Any, Cells]) -> str | None:
    return "child" if all(isinstance(name, int) for name in columns) else None


def _of_child(run: Run[Any]) -> Cells:
    record = run.record
    cells: Cells = {("run", "state"): str(record.state)}
    if record.started is not None and record.ended is not None:
        cells["run", "seconds"] = round(record.ended - record.started, 6)
    if record.failure is not None:
        name = record.failure.type.rpartition(".")[2]
        cells["run", "error"] = f"{name}: {record.failure.message.partition(chr(10))[0]}"[:200]
    cells |= {("param", name): value for name, value in run.params.items()}
    scores = run._client.store.scores_among([run.id]).get(run.id, {})
    return cells | {("result", name): value for name, value in scores.items()}


def _of_sweep(sweep: SweepRun[Any]) -> Cells:
    body, record = sweep._body, sweep.record
    counts = sweep._client.store.child_counts(sweep.id)
    cells: Cells = {
        ("sweep", "state"): str(record.state),
        ("sweep", "strategy"): body.strategy["name"],
        ("sweep", "swept"): ", ".join(body.keys),
        ("sweep", "select"): ", ".join(body.select),
        ("sweep", "children"): sum(counts.values()),
        **{("sweep", str(state)): count for state, count in counts.items()},
    }
    if record.started is not None and record.ended is not None:
        cells["sweep", "seconds"] = round(record.ended - record.started, 6)
    leader = best(sweep._standing_children(), sweep._selectors) if body.select else None
    if leader is None:
        return cells
    cells["sweep", "best_iteration"] = leader.iteration
    return cells | {row: value for row, value in _of_child(sweep._child(leader.run)).items() if row[0] != "run"}


def _is_sweep(other: Any) -> bool:
    return isinstance(other, Run) and other._record.sweep


def _differs(values: Sequence[Any]) -> bool:
    first = values[0]
    try:
        return any(type(value) is not type(first) or bool(value != first) for value in values[1:])
    except Exception:  # noqa: BLE001 - values of any type, an array among them
        return True
