"""What `mlfn sweep` takes for the values and spaces of a parameter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

import mlfn
from mlfn.dispatch.signature import Signature
from mlfn.errors import ParameterError
from mlfn.ui.cli.swept import read_lists, read_spaces


@dataclass
class Model:
    depth: int = 3
    lr: float = 0.1


def fit(
    depth: int, lr: float, opt: Literal["sgd", "adam", "a,b"], text: str, model: Model, layers: list[int], bare=None
):
    """Stand for what is swept."""


SIGNATURE = Signature(fit, "fit")


def listed(text: str) -> Any:
    [values] = read_lists("--grid", [text], SIGNATURE).values()  # type: ignore[union-attr]
    return values


def spaced(text: str) -> Any:
    [found] = read_spaces("--search", [text], SIGNATURE).values()
    return found


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("depth=4,8,16", [4, 8, 16]),
        ("depth=1..4,8", [1, 2, 3, 4, 8]),
        ("depth=8", [8]),
        ("depth=10..1..-3", range(10, 0, -3)),
        ("lr=1,2", [1.0, 2.0]),
        ("lr=0.1..0.5..0.1", [0.1, 0.2, 0.3, 0.4, 0.5]),
        ("lr=1..2", [1.0, 2.0]),
        ("opt=sgd,adam", ["sgd", "adam"]),
        ('opt="a,b"', ["a,b"]),
        ("text=1..3, x ", ["1..3", "x"]),
        ('text="",a', ["", "a"]),
        ('text="say \\"1,2\\""', ['say "1,2"']),
        ("layers=[8,16],[32]", [[8, 16], [32]]),
        ('bare=1,1.5,true,null,x,"1"', [1, 1.5, True, None, "x", "1"]),
        ("model.depth=1..2", range(1, 3)),
        ("model.lr=1", [1.0]),
    ],
)
def test_values_are_read_by_the_annotation(text, values):
    found = listed(text)

    assert list(found) == list(values)
    assert [type(value) for value in found] == [type(value) for value in values]


def test_a_range_stays_one_however_long():
    assert listed("depth=1..1000000000") == range(1, 10**9 + 1)


def test_a_file_stands_in_place_of_lists():
    assert read_lists("--grid", ["params.csv"], SIGNATURE) == Path("params.csv")


@pytest.mark.parametrize(
    ("text", "space"),
    [
        ("lr=log(1e-4,1)", mlfn.loguniform(1e-4, 1)),
        ("lr=loguniform( 1e-4 , 1 )", mlfn.loguniform(1e-4, 1)),
        ("lr=uniform(0,1)", mlfn.uniform(0, 1)),
        ("lr=0..1", mlfn.uniform(0, 1)),
        ("lr=quniform(0,1,0.25)", mlfn.quniform(0, 1, 0.25)),
        ("lr=normal(0,1)", mlfn.normal(0, 1)),
        ("depth=int(2,32)", mlfn.randint(2, 32)),
        ("depth=2..32", mlfn.randint(2, 32)),
        ("depth=-2..0.5", mlfn.uniform(-2, 0.5)),
        ("depth=logint(1,1024)", mlfn.lograndint(1, 1024)),
        ("opt=sgd|adam", mlfn.choice(["sgd", "adam"])),
        ("opt=sgd,adam", mlfn.choice(["sgd", "adam"])),
        ("opt=choice(sgd,adam)", mlfn.choice(["sgd", "adam"])),
        ("depth=ordinal(1,4..6)", mlfn.ordinal([1, 4, 5, 6])),
        ('text="f(x)"|b', mlfn.choice(["f(x)", "b"])),
        ("lr=uniform(0,1).when(opt=sgd)", mlfn.uniform(0, 1).when(opt="sgd")),
        ("lr=0..1.when(opt=sgd|adam, depth=3)", mlfn.uniform(0, 1).when(opt=["sgd", "adam"]).when(depth=3)),
        ("lr=0..1.when(opt=sgd).when(depth=3)", mlfn.uniform(0, 1).when(opt="sgd").when(depth=3)),
    ],
)
def test_spaces_are_those_of_python(text, space):
    assert spaced(text) == space


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("depth=x", "--grid depth = 'x' does not fit"),
        ("depth=", "it has no value"),
        ("depth=1,,2", "a value is missing"),
        ("depth=[1", "not closed"),
        ('text="a', "not closed"),
        ("depth=10..1", "never gets from 10 to 1"),
        ("lr=0.1..0.5", r"give a step, as in 0.1..0.5..0.1"),
        ("lr=0..1..1e-9", "values, and 1000000 are allowed"),
        ("=4", "KEY"),
        ("opt=sdg", "did you mean 'sgd'"),
    ],
)
def test_values_that_cannot_be_read_are_shown(text, said):
    with pytest.raises(ParameterError, match=said):
        listed(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("50", "-n 50"),
        ("lr", "KEY=SPACE"),
        ("lr=logg(1,2)", "did you mean 'log'"),
        ("lr=log(1)", "2 numbers are allowed, low, high"),
        ("lr=log(a,1)", "'a' cannot be read: a number is allowed"),
        ("lr=log(0,1)", "--search lr: .*must be above 0"),
        ("lr=__import__('os')", "did you mean|Allowed"),
        ("lr=uniform(0,1)x", "log\\(1e-4,1\\)"),
        ("lr=uniform(0,1).when(opt)", "when\\(opt=sgd\\)"),
        ("lr=uniform(0,1).when(opt=sgd", "not closed"),
    ],
)
def test_spaces_that_cannot_be_read_are_shown(text, said):
    with pytest.raises(ParameterError, match=said):
        spaced(text)


def test_a_key_is_given_once():
    with pytest.raises(ParameterError, match="it is there twice"):
        read_lists("--grid", ["depth=1", "depth=2"], SIGNATURE)
    with pytest.raises(ParameterError, match="not both"):
        read_lists("--grid", ["a.csv", "depth=2"], SIGNATURE)
