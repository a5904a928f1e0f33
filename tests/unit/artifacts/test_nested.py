"""What stands in a parameter for a value that comes later, within containers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from mlfn.artifacts import nested
from mlfn.spec.data_item import DataItem


@dataclass(frozen=True)
class Pair:
    left: Any
    right: Any = 0


@dataclass(frozen=True)
class Whole:
    """A leaf that keeps its value as it is."""

    value: Any


ONE = nested.StoredReference({"output": {"run": "1" * 32, "key": "x"}})
FILE = DataItem("iris.csv")


def leaf(_: str, value: Any) -> dict[str, Any]:
    return value.__mlfn_encoded__() if nested.is_reference(value) else {"packer": "json", "inline": value}


def arrived(stored: Any) -> Any:
    return "there" if "output" in stored else stored["inline"]


@pytest.mark.parametrize(
    ("value", "back"),
    [
        ([ONE, 1], ["there", 1]),
        ((ONE,), ("there",)),
        ({"a": ONE, 2: (3, [ONE])}, {"a": "there", 2: (3, ["there"])}),
        (Pair(ONE, 5), Pair("there", 5)),
        ([Pair([ONE])], [Pair(["there"])]),
        ([1, 2], [1, 2]),
    ],
)
def test_a_value_comes_back_with_what_came(value: Any, back: Any) -> None:
    assert nested.decode(nested.encode(value, "v", leaf), arrived) == back


def test_a_value_without_stand_ins_stays_whole() -> None:
    assert nested.encode([[1], {"a": 2}], "v", leaf) == {"packer": "json", "inline": [[1], {"a": 2}]}


def test_each_stand_in_is_found_with_its_place() -> None:
    value = [1, {"a": Pair(FILE, (ONE,))}]

    assert nested.stand_ins(value, "v") == [("v[1]['a'].left", FILE), ("v[1]['a'].right[0]", ONE)]


def test_a_list_that_holds_itself_is_looked_at_once() -> None:
    endless: list[Any] = []
    endless += [endless, endless]

    assert nested.stand_ins(endless, "v") == []


def test_the_leaves_are_all_that_is_stored() -> None:
    stored = nested.encode({"a": Pair(ONE)}, "v", leaf)

    assert [nested.run_needed(item) for item in nested.leaves(stored)].count("1" * 32) == 1
