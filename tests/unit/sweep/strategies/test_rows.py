"""Rows that are listed: a list is copied, another sequence read when a row is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mlfn.errors import ParameterError
from mlfn.sweep.strategies.rows import Rows


class Squares(Sequence):
    """So many rows that nobody would list them; notes which are read."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return 10**12

    def __getitem__(self, index):
        self.read.append(index)
        return {"x": index * index} if index != 7 else {"x": 1, "x.y": 2}


def test_lazy_sequence_is_read_on_demand():
    lazy = Squares()
    rows = Rows(lazy)

    assert len(rows) == 10**12 and rows[-1] == {"x": (10**12 - 1) ** 2}
    assert list(rows[2:4]) == [{"x": 4}, {"x": 9}] and list(rows[2:4].iterations) == [3, 4]
    assert rows[3:6].keys == ("x",)
    assert set(lazy.read) == {10**12 - 1, 2, 3, 4, 5}


def test_invalid_row_of_lazy_sequence_is_named_by_number():
    with pytest.raises(ParameterError, match=r"child 8: 'x.y' is a part of 'x', which is swept as well"):
        Rows(Squares())[7]


@pytest.mark.parametrize("row", [None, 3, "depth", [("depth", 1)], {1: 2}, {"": 1}, {"model..depth": 1}])
def test_what_is_no_mapping_by_name_is_refused(row):
    with pytest.raises(ParameterError, match=r"The parameters of child 2 are .*a mapping by name is allowed"):
        Rows([{"depth": 1}, row])


def test_view_has_keys_of_its_own_rows():
    rows = Rows([{"depth": 1}, {"lr": 0.1, "depth": 2}, {"opt": "sgd"}])

    assert rows.keys == ("depth", "lr", "opt")
    assert (rows[1:].keys, rows[::-1].keys, rows[:1].keys) == (
        ("lr", "depth", "opt"),
        ("opt", "lr", "depth"),
        ("depth",),
    )
