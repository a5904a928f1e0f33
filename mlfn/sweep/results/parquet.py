"""The iteration table as parquet, where pyarrow is installed."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from typing import Any

from mlfn.sweep.results.table import Table

_PLAIN = (bool, int, float, str, type(None))


def is_installed() -> bool:
    """Return whether parquet can be written here."""
    return importlib.util.find_spec("pyarrow") is not None


def to_parquet(table: Table) -> bytes:
    """Return the rows as parquet; a column of values that are not all of one plain type is text."""
    import pyarrow
    import pyarrow.parquet

    columns = {name: _column(pyarrow, values) for name, values in table.columns.items()}
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()


def _column(pyarrow: Any, values: Sequence[Any]) -> Any:
    kinds = {type(value) for value in values} - {type(None)}
    if len(kinds) <= 1 and kinds <= set(_PLAIN):
        try:
            return pyarrow.array(values)
        except (pyarrow.ArrowInvalid, OverflowError):
            pass  # whole numbers beyond 64 bits, text that is no Unicode
    return pyarrow.array([None if value is None else _text(value) for value in values])


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text.encode("utf-8", "backslashreplace").decode()
