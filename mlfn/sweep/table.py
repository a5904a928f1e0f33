"""The iteration table: one row a child, its parameters and what it came to."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlfn.errors import MissingExtraError
from mlfn.spec.record import RunState
from mlfn.store.families import ChildRow
from mlfn.sweep.child import Child

if TYPE_CHECKING:
    import pandas as pd

_FIRST = ("iteration", "state")
_LAST = ("feasible", "seconds", "error", "run")


@dataclass(frozen=True)
class Table:
    """Columns by name, all of the same length; `params` and `results` say which columns are which."""

    columns: Mapping[str, list[Any]]
    params: tuple[str, ...]
    results: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.columns["iteration"])

    def to_pandas(self) -> pd.DataFrame:
        """Return a DataFrame."""
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtraError(
                "A table is a pandas DataFrame, and pandas is not installed: pip install pandas. The same rows are in the "
                "artifact 'iteration_results' as CSV."
            ) from error
        frame: pd.DataFrame = pd.DataFrame(
            {name: pd.Series(values, dtype=dtype_of(values)) for name, values in self.columns.items()}
        )
        return frame

    def to_csv(self) -> str:
        """Return the rows as CSV, a missing value as nothing."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(
            ["" if cell is None else cell for cell in row] for row in zip(*self.columns.values(), strict=True)
        )
        return text.getvalue()


def make_table(
    rows: Sequence[ChildRow],
    scores: Mapping[str, Mapping[str, float]],
    decode: Callable[[Mapping[str, Any]], Any],
    keys: Sequence[str] = (),
    children: Sequence[Child] = (),
) -> Table:
    """Return the table of these children; a result with a parameter's name is called ``result.NAME``.

    Where some of `children` have constraints, a column says of those that succeeded whether they meet them.
    """
    params = list(keys) or list(dict.fromkeys(key for row in rows for key in row.point))
    names = list(dict.fromkeys(name for row in rows for name in sorted(scores.get(row.run, {}))))
    taken = {*params, *_FIRST, *_LAST}
    columns: dict[str, list[Any]] = {
        "iteration": [row.iteration for row in rows],
        "state": [row.state.value for row in rows],
    }
    for key in params:
        columns[key] = [_decoded(decode, row.point[key]) if key in row.point else None for row in rows]
    results: list[str] = []
    for name in names:
        results.append(f"result.{name}" if name in taken else name)
        columns[results[-1]] = [scores.get(row.run, {}).get(name) for row in rows]
    if any(child.constraints for child in children):
        feasible = {child.run: child.is_feasible for child in children if child.state is RunState.SUCCEEDED}
        columns["feasible"] = [feasible.get(row.run) for row in rows]
    columns["seconds"] = [_seconds(row) for row in rows]
    if any(row.failure for row in rows):
        columns["error"] = [_error(row) for row in rows]
    columns["run"] = [row.run for row in rows]
    return Table(columns, tuple(params), tuple(results))


def _decoded(decode: Callable[[Mapping[str, Any]], Any], value: Mapping[str, Any]) -> Any:
    """Return a value; where its class is not here, what it was."""
    try:
        return decode(value)
    except Exception:  # noqa: BLE001 - unpickling can raise anything
        return f"<{value.get('type', 'value')}>"


def _seconds(row: ChildRow) -> float | None:
    return None if row.started is None or row.ended is None else round(row.ended - row.started, 6)


def _error(row: ChildRow) -> str | None:
    if not row.failure:
        return None
    name = str(row.failure.get("type", "")).rpartition(".")[2]
    first = str(row.failure.get("message", "")).partition("\n")[0]
    return f"{name}: {first}"[:200]


def dtype_of(values: Sequence[Any]) -> str | None:
    """Return what to make a column of pandas of: keep whole numbers whole where some are missing, and leave the rest to pandas."""
    kinds = {type(value) for value in values}
    if kinds == {int, type(None)}:
        return "Int64"
    return None if kinds <= {int, float, str, bool, type(None)} and len(kinds - {type(None)}) == 1 else "object"
