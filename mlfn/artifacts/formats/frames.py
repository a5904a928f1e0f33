"""pandas frames and series, as parquet where that gives them back exactly; otherwise they are left to pickle.

Every frame is read back and compared: dtypes, index, names, frequency, attrs and flags. Of a large frame whose dtypes all
keep every value a sample suffices: it shows that the structure survives. Without pyarrow every frame is left to pickle.
"""

from __future__ import annotations

import io
import json
import sys
from typing import Any

from mlfn.artifacts.formats import tagged_json
from mlfn.artifacts.formats.base import Packed, Stored, UnfitError, load

_LARGE = 16 * 1024 * 1024
_SAMPLE_ROWS = 1_000
_EXACT_KINDS = frozenset("biuf")
# Seconds become milliseconds in parquet; the other units stay.
_EXACT_UNITS = frozenset({"ms", "us", "ns"})
# Only these objects come back as they were; a list comes back as an array.
_EXACT_OBJECTS = frozenset({str, bytes, type(None)})


class DataFramePacker:
    """A DataFrame; subclasses such as GeoDataFrame are left to pickle."""

    name = "dataframe"
    types: tuple[type, ...] = ()

    def accepts(self, value: Any, /) -> bool:
        """Return whether it is a DataFrame, and no subclass of one."""
        # While another thread is importing pandas it may have no such type yet; no value of it exists then.
        return type(value) is getattr(sys.modules.get("pandas"), "DataFrame", None)

    def pack(self, value: Any, /) -> Packed:
        """Write parquet; unfit where reading it back shows a difference."""
        content = _to_parquet(value)
        return Packed("dataframe", "pandas.DataFrame", content=content, suffix=".parquet", size=len(content))

    def unpack(self, stored: Stored, /) -> Any:
        """Read parquet."""
        return _read(stored.file)


class SeriesPacker:
    """A Series, as a frame with one column whose label is the series' name in JSON."""

    name = "series"
    types: tuple[type, ...] = ()

    def accepts(self, value: Any, /) -> bool:
        """Return whether it is a Series, and no subclass of one."""
        return type(value) is getattr(sys.modules.get("pandas"), "Series", None)

    def pack(self, value: Any, /) -> Packed:
        """Write parquet; unfit where reading it back shows a difference."""
        # The column's name must be text; JSON tells None, 3 and "3" apart.
        if type(value.name) not in (str, int, type(None)):
            raise UnfitError("its name is neither text nor an integer")
        content = _to_parquet(value.to_frame(json.dumps(value.name)))
        return Packed("series", "pandas.Series", content=content, suffix=".parquet", size=len(content))

    def unpack(self, stored: Stored, /) -> Any:
        """Read parquet and take its column."""
        frame = _read(stored.file)
        series = frame[frame.columns[0]]
        return series.rename(json.loads(series.name))


def _to_parquet(frame: Any) -> bytes:
    _refuse_inexact(frame)
    try:
        return _proven(frame)
    except (UnfitError, MemoryError):
        raise
    except Exception as error:  # pyarrow and pandas refuse a frame with a dozen unrelated exceptions
        raise UnfitError(f"parquet does not take it: {error}") from error


def _refuse_inexact(frame: Any) -> None:
    """Refuse early what does not come back; pandas and pyarrow would warn of some of it."""
    if tagged_json.encode(frame.attrs) != frame.attrs:
        raise UnfitError("its attrs are not plain JSON")
    if any(type(label) is not str for label in frame.columns):
        raise UnfitError("its columns have names other than text")
    for column in _object_columns(frame):
        if any(type(value) not in _EXACT_OBJECTS for value in column):
            raise UnfitError("it has objects other than text, bytes and None")


def _proven(frame: Any) -> bytes:
    sampled = _is_large(frame) and all(_keeps_every_value(dtype) for dtype in _dtypes(frame))
    sample = frame.head(_SAMPLE_ROWS) if sampled else frame
    content = _write(sample)
    _require_equal(sample, _read(io.BytesIO(content)))
    return _write(frame) if sampled else content


def _write(frame: Any) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, engine="pyarrow")
    return buffer.getvalue()


def _read(source: Any) -> Any:
    load("pyarrow")
    return load("pandas").read_parquet(source, engine="pyarrow")


def _require_equal(frame: Any, again: Any) -> None:
    testing: Any = load("pandas.testing")  # its stubs lack "exact"
    testing.assert_frame_equal(
        frame,
        again,
        check_exact=True,
        check_freq=True,
        check_flags=True,
        check_column_type="exact",
        check_index_type="exact",
    )
    if tagged_json.encode(again.attrs) != frame.attrs or not _same_zones(frame, again):
        raise UnfitError("attrs or time zones differ")
    pairs = zip(_object_columns(frame), _object_columns(again), strict=True)
    # pandas compares None and nan as equal.
    if any(type(one) is not type(other) for pair in pairs for one, other in zip(*pair, strict=True)):
        raise UnfitError("None and nan differ")


def _same_zones(frame: Any, again: Any) -> bool:
    # pandas calls zones of different libraries equal where their names are.
    zones = [[type(getattr(dtype, "tz", None)) for dtype in _dtypes(one)] for one in (frame, again)]
    return zones[0] == zones[1]


def _object_columns(frame: Any) -> list[Any]:
    indexes = [index for axis in frame.axes for index in _levels(axis)]
    columns = [frame.iloc[:, position] for position in range(frame.shape[1])]
    return [values for values in indexes + columns if values.dtype == object]


def _levels(index: Any) -> list[Any]:
    if index.nlevels == 1:
        return [index]
    return [index.get_level_values(level) for level in range(index.nlevels)]


def _dtypes(frame: Any) -> list[Any]:
    return [level.dtype for level in _levels(frame.index)] + list(frame.dtypes)


def _is_large(frame: Any) -> bool:
    return bool(frame.memory_usage().sum() > _LARGE) and frame.index.nlevels == 1


def _unit(dtype: Any) -> str | None:
    import numpy as np

    return np.datetime_data(dtype)[0] if dtype.kind in "mM" else None


def _keeps_every_value(dtype: Any) -> bool:
    import numpy as np
    import pandas as pd

    if isinstance(dtype, np.dtype):
        return dtype.kind in _EXACT_KINDS or _unit(dtype) in _EXACT_UNITS
    if isinstance(dtype, pd.DatetimeTZDtype):
        return dtype.unit in _EXACT_UNITS
    return isinstance(dtype, pd.StringDtype)
