"""The iteration table as parquet: plain columns keep their types, others become text."""

from __future__ import annotations

import io

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from mlfn.sweep.results.parquet import to_parquet
from mlfn.sweep.results.table import Table

anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers()), st.just(object())
)


def read(columns: dict[str, list[object]]) -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO(to_parquet(Table(columns, (), ()))))


def test_plain_columns_keep_their_types():
    frame = read({"iteration": [1, 2], "lr": [0.1, None], "opt": ["adam", "sgd"], "flag": [True, False]})

    assert [str(kind) for kind in frame.dtypes[["iteration", "lr", "flag"]]] == ["int64", "float64", "bool"]
    assert frame["opt"].tolist() == ["adam", "sgd"]


def test_mixed_and_large_values_are_text():
    frame = read({"iteration": [1, 2, 3], "mixed": [1, "a", None], "large": [2**70, 1, 2], "lists": [[1], [2], []]})

    assert frame["mixed"].tolist()[:2] == ["1", "a"]
    assert frame["large"].tolist() == [str(2**70), "1", "2"]
    assert frame["lists"].tolist() == ["[1]", "[2]", "[]"]


@given(st.lists(anything, max_size=6))
def test_whatever_was_swept_can_be_written(values):
    frame = read({"iteration": list(range(len(values))), "x": values})

    assert len(frame) == len(values)
