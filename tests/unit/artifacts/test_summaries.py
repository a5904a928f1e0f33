"""Values in a few words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlfn.artifacts.summaries import LONGEST, brief, encoded_default
from mlfn.spec.plan import left_out
from mlfn.spec.record import RunRecord, RunState


@dataclass
class Config:
    lr: float = 0.1


class Broken:
    def __repr__(self):
        raise RuntimeError


class Poem:
    def __repr__(self):
        return "one\n   two"


@pytest.mark.parametrize(
    ("value", "words"),
    [(Config(), "Config(lr=0.1)"), (Poem(), "one two"), (Broken(), None), (object(), None), ([object()], None)],
)
def test_a_brief_is_one_line_of_what_the_author_says(value, words):
    assert brief(value) == words


def test_a_brief_is_short():
    text = brief("x" * 5000)

    assert text is not None and len(text) == LONGEST


@pytest.mark.parametrize("value", [30, 0.1, float("inf"), None, "text", (1, 2), {3}, Path("there")])
def test_a_plain_default_is_kept_as_it_is(value):
    encoded = encoded_default(value)

    assert encoded["packer"] == "json"


@pytest.mark.parametrize("value", [Config(), "x" * 5000, list(range(5000))])
def test_another_default_is_kept_in_brief(value):
    encoded = encoded_default(value)

    assert encoded["packer"] != "json" and encoded["shown"].startswith(repr(value)[:10])


def record(params, **more):
    return RunRecord("a", "f", "p", "", "", "local", RunState.SUCCEEDED, 1, params, 0.0, **more)


def test_defaults_stand_in_the_order_of_the_signature_for_what_was_not_given():
    defaults = {"x": {"packer": "json", "inline": 1}, "z": {}, "y": {}}
    plan = SimpleNamespace(accepts=["z", "y", "x"], defaults=defaults)

    assert list(left_out(plan, record({"y": {}}))) == ["z", "x"]
    assert (
        left_out(SimpleNamespace(accepts=["x"], defaults={}), record({})) == {}
    )  # of a store written before there were any
    assert left_out(plan, record({"y": {}}, part_of="r")) == {}  # a child that a handler opened is no call of it
