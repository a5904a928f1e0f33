# ruff: noqa: UP007, UP045 - what users write is what is read here

from __future__ import annotations

import datetime
import enum
import typing
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, Optional, TypedDict

import pandas as pd
import pytest
from pydantic import BaseModel

from mlfn.errors import ParameterError
from mlfn.ui.cli.conversion import MISSING, assemble, choices, convert, fields_of, is_flag, is_many, metavar


class Opt(enum.Enum):
    ADAM = "adam"
    SGD = "sgd"


class Level(enum.Enum):
    LOW = 1
    HIGH = 2


@dataclass
class Inner:
    gain: float = 1.0


@dataclass
class Config:
    lr: float = 0.1
    layers: list[int] = field(default_factory=list)
    inner: Inner = field(default_factory=Inner)


@dataclass
class Painted:
    colour: Level = Level.LOW
    opts: list[Opt] = field(default_factory=list)
    wait: datetime.timedelta = datetime.timedelta(0)


@dataclass
class Seeded:
    seed: InitVar[int]
    drawn: int = field(init=False)

    def __post_init__(self, seed: int) -> None:
        self.drawn = seed + 1


class Model(BaseModel):
    lr: float
    name: str = "m"


class Typed(TypedDict):
    lr: float


class Opaque: ...


Rate = NewType("Rate", float)


@pytest.mark.parametrize(
    ("annotation", "texts", "value"),
    [
        (int, ["4"], 4),
        (int, ["-4"], -4),
        (float, ["1e-3"], 0.001),
        (float, ["4"], 4.0),
        (bool, ["yes"], True),
        (bool, ["0"], False),
        (str, ["4"], "4"),
        (str, ["null"], "null"),
        (Rate, ["0.5"], 0.5),
        (Annotated[int, "rounds"], ["3"], 3),
        (Optional[int], ["3"], 3),
        (Optional[int], ["none"], None),
        (Optional[str], ["none"], None),
        (int | str, ["4"], 4),
        (int | str, ["four"], "four"),
        (int | float, ["4"], 4),
        (int | float, ["4.5"], 4.5),
        (list[int], ["1,2,3"], [1, 2, 3]),
        (list[int], ["1", "2"], [1, 2]),
        (list[int], ["[1, 2]"], [1, 2]),
        (list[int], [""], []),
        (list[str], ["a,b"], ["a", "b"]),
        (list[str], ['["a,b"]'], ["a,b"]),
        (list, ["1,x"], [1, "x"]),
        (Sequence[float], ["1,2"], [1.0, 2.0]),
        (tuple[int, str], ["1,2"], (1, "2")),
        (tuple[int, ...], ["1,2,3"], (1, 2, 3)),
        (set[int], ["1,1,2"], {1, 2}),
        (dict[str, int], ['{"a": 1}'], {"a": 1}),
        (datetime.date, ["2026-01-02"], datetime.date(2026, 1, 2)),
        (Literal["a", "b"], ["b"], "b"),
        (Literal[1, 2], ["2"], 2),
        (Opt, ["sgd"], Opt.SGD),
        (Opt, ["SGD"], Opt.SGD),
        (Level, ["HIGH"], Level.HIGH),
        (Painted, ['{"colour": "HIGH"}'], Painted(Level.HIGH)),
        (Painted, ['{"opts": ["SGD", "adam"]}'], Painted(opts=[Opt.SGD, Opt.ADAM])),
        (dict[str, Opt], ['{"a": "SGD"}'], {"a": Opt.SGD}),
        (Painted, ['{"wait": "1h"}'], Painted(wait=datetime.timedelta(hours=1))),
        (datetime.timedelta, ["1h"], datetime.timedelta(hours=1)),
        (datetime.timedelta, ["1d 2h30m"], datetime.timedelta(days=1, hours=2, minutes=30)),
        (datetime.timedelta, ["10min"], datetime.timedelta(minutes=10)),
        (datetime.timedelta, ["1.5"], datetime.timedelta(seconds=1.5)),
        (datetime.timedelta, ["01:30:00"], datetime.timedelta(minutes=90)),
        (Optional[datetime.timedelta], ["45s"], datetime.timedelta(seconds=45)),
        (Seeded, ['{"seed": 2}'], Seeded(2)),
        (Config, ['{"lr": 0.5}'], Config(0.5)),
        (Model, ['{"lr": 1}'], Model(lr=1)),
        (Path, ["here"], "here"),  # named here, made a Path and checked when it is submitted
        (pd.DataFrame, ["iris.csv"], "iris.csv"),
        (Any, ["4"], 4),
        (MISSING, ["4"], 4),
        (MISSING, ["four"], "four"),
    ],
)
def test_a_text_becomes_a_value_of_the_annotated_type(annotation, texts, value):
    made = convert(annotation, texts, what="--x")

    assert made == value
    assert type(made) is type(value)


def test_an_undeclared_parameter_with_a_text_as_default_takes_texts():
    assert convert(MISSING, ["4"], what="--x", default="a") == "4"


@pytest.mark.parametrize(
    ("annotation", "texts", "words"),
    [
        (int, ["four"], "--x = 'four' does not fit: Input should be a valid integer"),
        (int, ["4.5"], "--x = '4.5' does not fit"),
        (list[int], ["1,x"], "--x = 'x' does not fit"),
        (tuple[int, int], ["1"], "Field required"),
        (Literal["adam", "sgd"], ["adma"], "did you mean 'adam'"),
        (Opt, ["adma"], "did you mean 'adam'"),
        (dict[str, int], ['{"a": "x"}'], "a: Input should be a valid integer"),
        (dict[str, int], ["{broken"], "Invalid JSON"),
        (Model, ["{}"], "lr: Field required"),
        (datetime.timedelta, ["soon"], "written as 1h30m"),
        (Painted, ['{"colour": "MID"}'], "colour: Input should be"),
        (complex, ["x"], "--x = 'x' does not fit"),
        (Opaque, ["x"], "--x = 'x' does not fit"),
    ],
)
def test_a_text_that_does_not_fit_is_refused_by_name(annotation, texts, words):
    with pytest.raises(ParameterError) as caught:
        convert(annotation, texts, what="--x")

    assert words in str(caught.value)


def test_fields_are_put_over_the_default():
    parts = {("lr",): ["0.5"], ("inner", "gain"): ["3"], ("layers",): ["1,2"]}

    made = assemble(Config, Config(lr=9.0, inner=Inner(2.0)), parts, what="--cfg")

    assert made == Config(0.5, [1, 2], Inner(3.0))


@pytest.mark.parametrize(("annotation", "value"), [(Model, Model(lr=0.5)), (Typed, {"lr": 0.5}), (Config, Config(0.5))])
def test_fields_alone_make_the_whole(annotation, value):
    assert assemble(annotation, MISSING, {("lr",): ["0.5"]}, what="--cfg") == value


def test_an_init_var_is_a_field_of_its_dataclass():
    assert assemble(Seeded, MISSING, {("seed",): ["2"]}, what="--cfg") == Seeded(2)


def test_a_field_that_does_not_fit_is_named_with_its_path():
    with pytest.raises(ParameterError, match=r"--cfg\.inner\.gain = 'x'"):
        assemble(Config, MISSING, {("inner", "gain"): ["x"]}, what="--cfg")


def test_a_lacking_field_is_named():
    with pytest.raises(ParameterError, match="lr: Field required"):
        assemble(Model, MISSING, {("name",): ["x"]}, what="--cfg")


@pytest.mark.parametrize(
    ("annotation", "word"),
    [
        (int, "INTEGER"),
        (Optional[float], "FLOAT"),
        (str, "TEXT"),
        (bool, "true|false"),
        (Literal["a", 1], "[a|1]"),
        (Opt, "[adam|sgd]"),
        (Level, "[LOW|HIGH]"),
        (list[int], "INTEGER..."),
        (list, "VALUE..."),
        (dict, "JSON"),
        (Config, "JSON"),
        (Path, "PATH"),
        (pd.DataFrame, "FILE"),
        (datetime.date, "VALUE"),
        (typing.Union[int, str], "VALUE"),
        (MISSING, "VALUE"),
    ],
)
def test_help_says_what_a_value_looks_like(annotation, word):
    assert metavar(annotation) == word


def test_kinds_of_parameters_are_told_apart():
    assert is_flag(bool, MISSING)
    assert is_flag(Optional[bool], None)
    assert is_flag(MISSING, False)
    assert not is_flag(MISSING, 0)
    assert is_many(Optional[list[int]])
    assert not is_many(str)
    assert choices(int) is None
    assert fields_of(int) == {}
    assert list(fields_of(Optional[Config])) == ["lr", "layers", "inner"]
