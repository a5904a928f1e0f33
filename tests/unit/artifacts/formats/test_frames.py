from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pandas as pd
import pytest
from hypothesis import strategies as st
from hypothesis.extra import pandas as frames

from mlfn.artifacts.formats import frames as frames_module
from mlfn.artifacts.formats.base import Packed
from mlfn.artifacts.formats.registry import pack, unpack


def packed(value: Any) -> Packed:
    return pack(value, name="out", pickler=pickle.dumps)


def again(value: Any, folder: Path) -> Any:
    made = packed(value)
    assert isinstance(made.content, bytes)
    path = folder / f"value{made.suffix}"
    path.write_bytes(made.content)
    return unpack(made.packer, inline=None, path=path, unpickler=pickle.loads)


def assert_same(one: Any, other: Any) -> None:
    pd.testing.assert_frame_equal(
        one,
        other,
        check_exact=True,
        check_freq=True,
        check_flags=True,
        check_column_type="exact",
        check_index_type="exact",
    )
    assert one.attrs == other.attrs
    for position, dtype in enumerate(one.dtypes):
        if dtype.kind == "O" and not hasattr(dtype, "na_value"):
            left, right = one.iloc[:, position], other.iloc[:, position]
            assert [type(value) for value in left] == [type(value) for value in right]


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=5)
columns = st.lists(
    st.one_of(
        st.sampled_from(["int8", "uint64", "float16", "float32", "float64", "bool", "M8[ns]", "m8[ns]", "c16"]).map(
            lambda dtype: frames.column(dtype=np.dtype(dtype))
        ),
        st.sampled_from(
            [
                frames.column(dtype=object, elements=texts | st.none()),
                frames.column(dtype=object, elements=st.integers() | texts | st.floats()),
                frames.column(dtype=object, elements=st.binary(max_size=4) | st.just(float("nan"))),
                frames.column(dtype=object, elements=st.lists(st.integers(), max_size=2)),
            ]
        ),
    ),
    max_size=4,
)
indexes = st.sampled_from(
    [
        frames.range_indexes(max_size=5),
        frames.indexes(dtype=np.dtype("int64"), max_size=5, unique=False),
        frames.indexes(elements=texts, dtype=object, max_size=5, unique=False),
        frames.indexes(dtype=np.dtype("M8[ns]"), max_size=5),
        frames.indexes(dtype=np.dtype("float64"), max_size=5, unique=False),
    ]
)


@hypothesis.given(st.data())
@hypothesis.settings(
    max_examples=150, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
def test_any_frame_comes_back_exactly(tmp_path: Path, data: st.DataObject) -> None:
    chosen = data.draw(columns)
    names = data.draw(st.sampled_from(["text", "range", "same", "mixed"]))
    frame = data.draw(frames.data_frames(columns=chosen, index=data.draw(indexes)))
    if names == "text":
        frame.columns = [f"column {position}" for position in range(len(chosen))]
    elif names == "same":
        frame.columns = ["same"] * len(chosen)
    elif names == "mixed":
        frame.columns = pd.Index([position if position % 2 else str(position) for position in range(len(chosen))])

    assert_same(frame, again(frame, tmp_path))


def attributed(frame: Any, attrs: dict[Any, Any]) -> Any:
    frame.attrs = attrs
    return frame


CASES: dict[str, tuple[Any, str]] = {
    "plain": (pd.DataFrame({"a": [1], "b": ["x"], "c": [True]}), "dataframe"),
    "empty": (pd.DataFrame(), "pickle"),
    "no rows": (pd.DataFrame({"a": pd.Series(dtype="int32")}), "dataframe"),
    "no columns": (pd.DataFrame(index=[1, 2]), "pickle"),
    "same names": (pd.DataFrame([[1, 2]], columns=["a", "a"]), "pickle"),
    "integer names": (pd.DataFrame([[1, 2]]), "pickle"),
    "named columns": (pd.DataFrame({"a": [1]}).rename_axis(columns="name"), "dataframe"),
    "column levels": (pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])), "any"),
    "index levels": (pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([("a", 1)])), "dataframe"),
    "range index": (pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(4, 8, 2, name="i")), "dataframe"),
    "same rows": (pd.DataFrame({"a": [1, 2]}, index=["x", "x"]), "dataframe"),
    "frequency": (pd.DataFrame({"a": [1, 2]}, index=pd.date_range("2024", periods=2, freq="D")), "pickle"),
    "time zone": (pd.DataFrame({"a": pd.to_datetime(["2024-10-27T00:30Z"]).tz_convert("Asia/Tokyo")}), "any"),
    "ordered": (pd.DataFrame({"a": pd.Categorical(["x"], ["y", "x"], ordered=True)}), "dataframe"),
    "nullable": (pd.DataFrame({"a": pd.array([1, None], "Int8"), "b": pd.array([True, None])}), "dataframe"),
    "mixed objects": (pd.DataFrame({"a": pd.Series([1, "x", None], dtype=object)}), "pickle"),
    "true and one": (pd.DataFrame({"a": pd.Series([True, None, False], dtype=object)}), "pickle"),
    "nan in objects": (pd.DataFrame({"a": pd.Series(["x", float("nan")], dtype=object)}), "pickle"),
    "lists": (pd.DataFrame({"a": [[1], [2, 3]]}), "pickle"),
    "numbers big": (pd.DataFrame({"a": [2**80]}), "pickle"),
    "seconds": (pd.DataFrame({"a": np.array([1], dtype="M8[s]")}), "pickle"),
    "attrs": (attributed(pd.DataFrame({"a": [1]}), {"unit": "m", "n": [1.0]}), "dataframe"),
    "attrs not json": (attributed(pd.DataFrame({"a": [1]}), {"shape": (1, 2)}), "pickle"),
    "surrogates": (pd.DataFrame({"a": pd.Series(["\ud800"], dtype=object)}), "pickle"),
    "flags": (pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False), "pickle"),
}


@pytest.mark.parametrize(("frame", "packer"), CASES.values(), ids=CASES)
def test_a_frame_is_parquet_only_where_that_is_exact(frame: Any, packer: str, tmp_path: Path) -> None:
    assert packer in ("any", packed(frame).packer)
    assert_same(frame, again(frame, tmp_path))


def test_a_frame_of_foreign_byte_order_keeps_its_values_but_pandas_own_pickle_turns_the_order(
    tmp_path: Path,
) -> None:
    frame = pd.DataFrame({"a": np.array([1, -2], dtype=">i4")})

    found = again(frame, tmp_path)

    assert packed(frame).packer == "pickle"
    assert found["a"].tolist() == [1, -2]
    assert found["a"].dtype == np.dtype("int32")


def test_a_subclass_of_a_frame_is_pickled() -> None:
    class Table(pd.DataFrame):
        pass

    assert pack(Table({"a": [1]}), name="out", pickler=lambda _: b"").packer == "pickle"


def test_a_series_comes_back_with_its_name_index_and_attrs(tmp_path: Path) -> None:
    series = pd.Series([1.5, None], index=pd.Index(["a", "b"], name="letters"), name="value")
    series.attrs = {"unit": "m"}

    found = again(series, tmp_path)

    pd.testing.assert_series_equal(series, found, check_exact=True, check_index_type="exact")
    assert found.attrs == {"unit": "m"}
    assert packed(series).packer == "series"


def test_without_pyarrow_a_frame_is_pickled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    assert pack(pd.DataFrame({"a": [1]}), name="out", pickler=lambda _: b"").packer == "pickle"


def test_of_a_large_frame_only_a_sample_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame({"a": np.arange(5_000), "b": np.arange(5_000) / 3, "c": pd.array(["x"] * 5_000, "string")})
    compared = []
    compare = frames_module._require_equal
    monkeypatch.setattr(frames_module, "_LARGE", 1_000)
    monkeypatch.setattr(
        frames_module, "_require_equal", lambda one, two: (compared.append(len(one)), compare(one, two))
    )

    assert_same(frame, again(frame, tmp_path))
    assert compared == [1_000]


def test_a_large_frame_with_a_late_odd_object_is_still_pickled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames_module, "_LARGE", 1_000)
    frame = pd.DataFrame({"a": pd.Series(["x"] * 4_000 + [float("nan")], dtype=object)})

    assert packed(frame).packer == "pickle"
