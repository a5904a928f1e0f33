"""The iteration table: one row a child, its parameters and results."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from mlfn.errors import MissingExtraError
from mlfn.host.frozen import frozen
from mlfn.spec.record import RunRecord, RunState
from mlfn.store.sweeps import ChildRow
from mlfn.sweep.results.child import Child

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
_FIRST = ("iteration", "state")
_LAST = ("feasible", "seconds", "error", "run")


@frozen
class Table:
    """Columns by name, all of the same length; `params` and `results` say which columns are which."""

    columns: Mapping[str, list[Any]]
    params: tuple[str, ...]
    results: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.columns["iteration"])

    def to_pandas(self, *, otherwise: str = "") -> pd.DataFrame:
        """Return a DataFrame; `otherwise` ends the error where pandas is not installed."""
        pd = require_pandas("A table is", otherwise)
        columns = {name: pd.Series(values, dtype=dtype_of(values)) for name, values in self.columns.items()}
        return pd.DataFrame(columns)  # type: ignore[no-any-return]

    def with_short_ids(self) -> Table:
        """Return the same rows, of each id the first digits, as many as tell them apart."""
        return replace(self, columns={**self.columns, "run": _told_apart(self.columns["run"])})

    def to_csv(self) -> str:
        """Return the rows as CSV, a missing value as nothing."""
        text = _Lines()
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(self.columns)
        writer.writerows(
            ["" if cell is None else cell for cell in row] for row in zip(*self.columns.values(), strict=True)
        )
        return text.getvalue()


class _Lines(io.StringIO):
    """Ends lines with a newline alone: asked for that, `csv` leaves a carriage return within a cell unquoted."""

    def write(self, line: str, /) -> int:
        return super().write(line.removesuffix("\r\n") + "\n")


def require_pandas(what: str, otherwise: str = "") -> Any:
    """Return the module pandas; refuse in one sentence if it is not installed."""
    try:
        import pandas as pd
    except ImportError as error:
        hint = f"{what} a pandas DataFrame, and pandas is not installed: pip install pandas. {otherwise}"
        raise MissingExtraError(hint.rstrip()) from error
    return pd


def make_table(
    rows: Sequence[ChildRow],
    scores: Mapping[str, Mapping[str, float]],
    decode: Callable[[Mapping[str, Any]], Any],
    keys: Sequence[str] = (),
    children: Sequence[Child] = (),
) -> Table:
    """Return the table of these children; a result with a parameter's name is called ``result.NAME``.

    Where some of `children` have constraints, a column `feasible` tells whether those that succeeded meet them.
    """
    params = list(keys) or list(dict.fromkeys(key for row in rows for key in row.point))
    names = list(dict.fromkeys(name for row in rows for name in sorted(scores.get(row.run, {}))))
    taken = {*params, *_FIRST, *_LAST}
    columns: dict[str, list[Any]] = {"iteration": [row.iteration for row in rows]}
    for key in params:
        columns[key] = [_decoded(decode, row.point[key]) if key in row.point else None for row in rows]
    results: list[str] = []
    for name in names:
        results.append(f"result.{name}" if name in taken else name)
        columns[results[-1]] = [scores.get(row.run, {}).get(name) for row in rows]
    columns["state"] = [row.state.value for row in rows]
    if any(child.constraints for child in children):
        feasible = {child.run: child.is_feasible for child in children if child.state is RunState.SUCCEEDED}
        columns["feasible"] = [feasible.get(row.run) for row in rows]
    columns["seconds"] = [seconds_of(row) for row in rows]
    if any(row.failure for row in rows):
        columns["error"] = [error_text(row.failure) if row.failure else None for row in rows]
    columns["run"] = [row.run for row in rows]
    return Table(columns, tuple(params), tuple(results))


def _told_apart(runs: Sequence[str]) -> list[str]:
    """Return the first digits of ids, as many as tell them apart."""
    digits = 8
    while digits < 32 and len({run[:digits] for run in runs}) < len(runs):
        digits += 1
    return [run[:digits] for run in runs]


def _decoded(decode: Callable[[Mapping[str, Any]], Any], value: Mapping[str, Any]) -> Any:
    """Return a value, or the name of its type where that cannot be loaded."""
    try:
        return decode(value)
    except Exception:  # noqa: BLE001 - unpickling can raise anything
        return f"<{value.get('type', 'value')}>"


def seconds_of(run: ChildRow | RunRecord) -> float | None:
    """Return how long a run took; None unless it has ended."""
    return None if run.started is None or run.ended is None else round(run.ended - run.started, 6)


def error_text(failure: Mapping[str, Any]) -> str:
    """Return a failure in one line."""
    name = str(failure.get("type", "")).rpartition(".")[2]
    first = str(failure.get("message", "")).partition("\n")[0]
    return f"{name}: {first}".removesuffix(": ")[:200]


def dtype_of(values: Sequence[Any]) -> str | None:
    """Return the dtype of a column that keeps whole numbers whole where some are missing; None leaves it to pandas."""
    kinds = {type(value) for value in values}
    if kinds == {int, type(None)}:
        fit = all(value is None or -(2**63) <= value < 2**63 for value in values)
        return "Int64" if fit else "object"
    return None if kinds <= {int, float, str, bool, type(None)} and len(kinds - {type(None)}) == 1 else "object"


def are_different(values: Sequence[Any]) -> bool:
    """Return whether one of them differs from the first, in its value or its type."""
    try:
        return not all(_are_equal(value, values[0]) for value in values)
    except Exception:  # noqa: BLE001 - values of any type
        return True


def _are_equal(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if hasattr(one, "equals"):  # a DataFrame, a Series and their kin, of which == makes another one
        return bool(one.equals(other))
    if isinstance(one, float):
        return bool(one == other) or (math.isnan(one) and math.isnan(other))
    same = one == other
    return bool(one.shape == other.shape and same.all()) if getattr(same, "shape", ()) else bool(same)


def evenly(ranked: Sequence[T], most: int) -> list[T]:
    """Return `most` items at the most, evenly from the first to the last, both of them included."""
    if len(ranked) <= most:
        return list(ranked)
    return [ranked[round(place * (len(ranked) - 1) / (most - 1))] for place in range(most)]
