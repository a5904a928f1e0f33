"""A value at a dotted path, in a copy of a nested parameter."""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field
from types import MappingProxyType, SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mlfn.errors import ParameterError
from mlfn.sweep.params.paths import place


class Optimiser(BaseModel):
    name: str = "adam"
    lr: float = Field(0.1, gt=0, alias="learningRate")


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)

    lr: float = Field(0.1, gt=0)


class Ordered(BaseModel):
    low: int = 1
    high: int = 5

    @model_validator(mode="after")
    def in_order(self):
        if self.low > self.high:
            raise ValueError("low must not be above high")
        return self


@dataclass(frozen=True)
class Model:
    depth: int = 4
    optimiser: Optimiser = field(default_factory=Optimiser)
    layers: tuple[dict[str, int], ...] = ({"units": 8}, {"units": 16})
    made: int = field(init=False, default=3)


@dataclass
class Width:
    width: int

    def __post_init__(self):
        if self.width < 1:
            raise ValueError("width must be 1 or more")


class Pair(NamedTuple):
    one: int
    other: Model


def test_path_goes_through_all_members_sharing_the_rest():
    base = {"pair": Pair(1, Model()), "rest": [1]}
    before = copy.deepcopy(base)

    placed = place(base, "pair.other.optimiser.lr", 0.5)

    assert placed["pair"].other.optimiser.lr == 0.5 and type(placed["pair"]) is Pair
    assert base == before and placed["rest"] is base["rest"]
    assert place(base, "pair.other.layers.1.units", 99)["pair"].other.layers == ({"units": 8}, {"units": 99})
    assert place(base, "pair.other.layers.-1.units", 99)["pair"].other.layers == ({"units": 8}, {"units": 99})
    assert base == before


@given(st.recursive(st.integers(), lambda inner: st.dictionaries(st.text("abc", min_size=1), inner, min_size=1)))
def test_only_the_field_at_the_path_differs(tree):
    path, node = [], tree
    while isinstance(node, dict):
        path.append(next(iter(node)))
        node = node[path[-1]]
    if path:
        before = copy.deepcopy(tree)

        placed = place(tree, ".".join(path), "new")

        assert place(placed, ".".join(path), node) == tree == before != placed


@pytest.mark.parametrize("value", [True, None, [1], np.float32(2), Model])
def test_a_mapping_takes_the_very_value(value):
    assert place({"a": {"b": 1}}, "a.b", value)["a"]["b"] is value


@pytest.mark.parametrize(
    "base", [OrderedDict(a=1, b=2), defaultdict(list, {"a": 1}), {"a": 1}], ids=lambda base: type(base).__name__
)
def test_a_mapping_keeps_its_type_and_order(base):
    placed = place(base, "a", 9)

    assert type(placed) is type(base) and list(placed) == list(base) and placed["a"] == 9 and base["a"] == 1


def test_immutable_mapping_becomes_a_dict():
    assert place(MappingProxyType({"a": 1}), "a", 2) == {"a": 2}


def test_mapping_key_with_dots_is_found():
    assert place({"m": {"a.b": 1}}, "m.a.b", 2) == {"m": {"a.b": 2}}


def test_dataclass_field_keeps_ints_and_takes_numpy_numbers():
    assert place(Model(), "depth", np.int64(7)).depth == 7


def test_a_frozen_model_is_copied_too():
    base = Frozen()

    assert place(base, "lr", 0.5) == Frozen(lr=0.5) and base.lr == 0.1


@pytest.mark.parametrize(
    ("base", "key", "value", "said"),
    [
        ({"model": {"depth": 4}}, "model.dept", 1, "model.dept=1: 'model' (dict) has no 'dept'. did you mean 'depth'"),
        (Model(), "dept", 1, "the parameter (Model) has no 'dept'. did you mean 'depth'? Allowed: depth, layers"),
        (Model(), "made", 1, "has no 'made'"),
        (Model(), "optimiser.lrr", 1, "'optimiser' (Optimiser) has no 'lrr'. did you mean 'lr'"),
        (Model(), "layers.2.units", 1, "'layers' has 2 items, and no item 2"),
        (Model(), "layers.last.units", 1, "'layers' (tuple) has no 'last'"),
        (Model(), "depth.x", 1, "'depth' is 4 (int), which has no fields to sweep"),
        (SimpleNamespace(a=1), "a", 1, "(SimpleNamespace), which has no fields to sweep"),
        (Model, "depth", 1, "has no fields to sweep"),
        (None, "depth", 1, "the parameter is None"),
        (Model(), "depth", "deep", "depth='deep' does not fit Model.depth: Input should be a valid integer"),
        (Width(3), "width", 0, "width=0 does not fit Width.width: width must be 1 or more"),
        (Optimiser(), "lr", 0, "lr=0 does not fit Optimiser.lr: Input should be greater than 0"),
        (Frozen(), "lr", -1.0, "lr=-1.0 does not fit Frozen.lr: Input should be greater than 0"),
        (Ordered(), "low", 9, "low=9 does not fit Ordered.low: Value error, low must not be above high"),
        ({"p": Pair(1, Model())}, "p.one", "x", "p.one='x' does not fit Pair.one"),
    ],
)
def test_what_does_not_fit_is_refused(base, key, value, said):
    before = copy.deepcopy(base)

    with pytest.raises(ParameterError) as caught:
        place(base, key, value)

    assert said in str(caught.value) and base == before
