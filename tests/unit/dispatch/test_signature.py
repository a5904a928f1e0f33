"""A handler's parameters: bound as Python would, checked against its annotations, never converted."""

# ruff: noqa: PYI061, UP007, UP045 - every spelling that users write

from __future__ import annotations

import functools
import typing
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass
from datetime import date
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, TypedDict, Union

import annotated_types
import numpy as np
import pandas as pd
import pydantic
import pytest

import mlfn
from mlfn.dispatch.signature import Signature
from mlfn.errors import InputNotFoundError, ParameterError
from mlfn.spec.call_shape import CallShape
from mlfn.spec.data_item import DataItem

if TYPE_CHECKING:
    from nowhere import Thing  # type: ignore[import-not-found]


def checked(function: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
    signature = Signature(function, function.__name__)
    return signature.check(signature.bind(args, kwargs))


def taking(annotation: Any) -> Callable[..., Any]:
    def f(x): ...

    f.__annotations__["x"] = annotation
    return f


# -- what a kind injects ------------------------------------------------------------------------------------------------


class Session: ...


INJECTS = {f"{__name__}.Session": "session"}


def with_session(x: int, s: Session, ctx: mlfn.Context, *, y: int = 1) -> Any:
    return x, s, ctx, y


def test_what_a_kind_injects_is_no_parameter() -> None:
    signature = Signature(with_session, "with_session", INJECTS)

    assert list(signature.parameters) == ["x", "y"] and "s" not in signature.annotations
    assert signature.bind((1,), {"y": 2}) == {"x": 1, "y": 2}
    with pytest.raises(ParameterError, match=r"with_session\(s=...\) is filled in by the run: leave it out"):
        signature.bind((1,), {"s": Session()})
    with pytest.raises(ParameterError, match="takes 1 parameters by position"):
        signature.bind((1, Session()), {})


def test_what_a_kind_supplies_is_filled_in() -> None:
    shape = CallShape.from_json(Signature(with_session, "with_session", INJECTS).shape.to_json())

    assert shape.arguments({"x": 1}, "ctx", {"session": "it"}) == ([], {"x": 1, "s": "it", "ctx": "ctx"})
    assert shape.arguments({"x": 1}, "ctx") == ([], {"x": 1, "ctx": "ctx"})


def test_a_plain_call_passes_what_a_run_injects() -> None:
    signature, session, ctx = Signature(with_session, "with_session", INJECTS), Session(), mlfn.context()

    assert signature.arguments((1, session), {}, ctx) == ([], {"x": 1, "s": session, "ctx": ctx})


def test_a_shape_without_injection_is_stored_as_before() -> None:
    shape = Signature(with_session, "with_session").shape

    assert shape.to_json() == {"positional": (), "varargs": None, "varkw": None, "context": "ctx"}


# -- binding -----------------------------------------------------------------------------------------------------------


def every_kind(a: int, b: int = 2, /, c: int = 3, *rest: int, d: int, e: int = 5, **more: int) -> Any:
    return a, b, c, rest, d, e, more


CALLS: list[tuple[tuple[int, ...], dict[str, int]]] = [
    ((1,), {"d": 4}),
    ((1, 9), {"d": 4}),
    ((1, 9, 8), {"d": 4, "e": 6}),
    ((1, 9, 8, 7, 6), {"d": 4, "f": 1, "g": 2}),
    ((1,), {"c": 7, "d": 4}),
    ((1,), {"d": 4, "a": 5}),
]


@pytest.mark.parametrize("place", ["inline", "local"])
def test_parameters_of_every_kind_arrive_as_in_a_plain_call(place: str) -> None:
    function = mlfn.function(every_kind).on(place)

    runs = [function.submit(*args, **kwargs) for args, kwargs in CALLS]

    assert [run.result(timeout=60) for run in runs] == [every_kind(*args, **kwargs) for args, kwargs in CALLS]


def test_a_context_before_and_between_other_parameters_is_passed() -> None:
    @mlfn.function
    def first(ctx: mlfn.Context, x: int, *rest: int) -> Any:
        return ctx.name, x, rest

    @mlfn.function
    def middle(x: int, ctx: mlfn.Context, y: int = 2, *rest: int, z: int = 3) -> Any:
        return x, ctx.name, y, rest, z

    @mlfn.function
    def strict(ctx: mlfn.Context, x: int = 1, /) -> Any:
        return ctx.name, x

    @mlfn.function
    def optional(x: int, ctx: mlfn.Context | None = None) -> Any:
        return x, ctx is not None and ctx.name

    inline = {f: f.on("inline") for f in (first, middle, strict, optional)}
    assert inline[first].submit(1, 2, 3).result() == ("first", 1, (2, 3))
    assert inline[middle].submit(1).result() == (1, "middle", 2, (), 3)
    assert inline[middle].submit(1, 5, 6, z=7).result() == (1, "middle", 5, (6,), 7)
    assert inline[middle].submit(1, y=5).result() == (1, "middle", 5, (), 3)
    assert inline[strict].submit(4).result() == ("strict", 4)
    assert inline[optional].submit(4).result() == (4, "optional")


def test_an_own_parameter_called_context_with_another_type_is_the_callers() -> None:
    def f(context: dict) -> Any: ...

    assert checked(f, {"a": 1}) == {"context": {"a": 1}}


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        ((), {"a": 1, "cpu": 2}, r"cpu= is an option of f, and no parameter: give it by \.with_options\(cpu=2\)\."),
        ((), {"a": 1, "dept": 2}, r"f\(\) has no parameter 'dept' \(value 2\): did you mean 'depth'"),
        ((), {}, r"f\(\) lacks parameter 'a' \(int\): pass it, as in submit\(a=\.\.\.\)"),
        ((1, 2, 3), {}, r"takes 2 parameters by position \(a, depth\) and got 3: the first too many is 3"),
        ((1,), {"a": 2}, "multiple values for argument 'a'"),
        ((1,), {"ctx": 2}, r"f\(ctx=...\) is filled in by the run"),
    ],
)
def test_a_call_that_does_not_bind_names_the_parameter(args: Any, kwargs: Any, says: str) -> None:
    def f(a: int, ctx: mlfn.Context, depth: int = 3, *, k: int = 0) -> None: ...

    with pytest.raises(ParameterError, match=says):
        checked(f, *args, **kwargs)


def test_a_missing_keyword_only_parameter_is_named_even_where_positions_are_plenty() -> None:
    def f(a: int, *, b: int) -> None: ...

    with pytest.raises(ParameterError, match="lacks parameter 'b'"):
        checked(f, 1, 2)


def test_what_has_no_signature_takes_anything() -> None:
    assert checked(max, 1, 2) == {"args": (1, 2)}


def test_a_partial_may_be_overridden_by_name() -> None:
    def f(a: int, b: int) -> None: ...

    signature = Signature(functools.partial(f, b=2), "f")
    assert signature.bind((1,), {}) == {"a": 1}
    assert signature.bind((1,), {"b": 3}) == {"a": 1, "b": 3}


# -- checking ----------------------------------------------------------------------------------------------------------


class Mode(Enum):
    FAST = "fast"


class Config(pydantic.BaseModel):
    depth: int
    lr: float = 0.1


@dataclass
class Point:
    x: int
    y: int = 0


class Row(TypedDict):
    name: str
    age: int


Positive = Annotated[int, annotated_types.Gt(0)]

FITS: list[tuple[Any, Any]] = [
    (int, 3),
    (int, np.int64(0)),
    (int, np.int32(3)),
    (float, 3),
    (float, 0),
    (float, np.float64(0.5)),
    (float, np.float32(0.0)),
    (float, np.int64(0)),
    (bool, False),
    (bool, np.bool_(False)),
    (str, ""),
    (bytes, b""),
    (type(None), None),
    (Any, object()),
    (list[int], [1, 2]),
    (list[int], []),
    (dict[str, float], {"a": 1}),
    (tuple[int, ...], (1, 2)),
    (tuple[int, str], (1, "a")),
    (set[int], {1}),
    (Sequence[int], (1, 2)),
    (Mapping[str, int], {"a": 1}),
    (Iterable[int], [1]),
    (Optional[int], None),
    (int | None, 0),
    (Union[int, str], "a"),
    (int | str, 0),
    (Literal["adam", "sgd"], "sgd"),
    (Literal[0, None], None),
    (Positive, 1),
    (Annotated[str, "a remark"], "x"),
    (Mode, Mode.FAST),
    (date, date(2024, 1, 2)),
    (Config, Config(depth=3)),
    (Config | None, None),
    (Point, Point(1)),
    (list[Point], [Point(1)]),
    (Row, {"name": "a", "age": 1}),
    (list[Row], [{"name": "a", "age": 1}]),
    (Optional[Row], None),
    (Path, Path("a")),
    (np.ndarray, np.zeros(2)),
    (pd.DataFrame, pd.DataFrame({"a": [1]})),
    (Callable[[int], int], abs),
    (type, int),
    (typing.TypeVar("T"), 3),
    ("Thing", object()),
]


@pytest.mark.parametrize(("annotation", "value"), FITS, ids=lambda item: str(item).split(" at 0x")[0][:40])
def test_a_value_that_fits_stays_the_very_object(annotation: Any, value: Any) -> None:
    assert checked(taking(annotation), value)["x"] is value


MISFITS: list[tuple[Any, Any, str]] = [
    (int, "3", "valid integer"),
    (int, 3.0, "valid integer"),
    (int, None, "valid integer"),
    (int, np.float64(3.5), "valid integer"),
    (float, "0.1", "valid number"),
    (bool, 1, "valid boolean"),
    (str, 3, "valid string"),
    (str, b"a", "valid string"),
    (list[int], [1, "2"], r"\[1\]: Input should be a valid integer"),
    (list[int], (1, 2), "valid list"),
    (dict[str, int], {"a": "1"}, r"\['a'\]: Input should be a valid integer"),
    (dict[str, int], [1], "valid dictionary"),
    (tuple[int, str], (1,), r"\[1\]: Field required"),
    (int | None, "x", "valid integer"),
    (Literal["adam", "sgd"], "rmsprop", "'adam' or 'sgd'"),
    (Positive, 0, "greater than 0"),
    (Mode, "fast", "Mode"),
    (Config, {"dept": 3}, r"\['depth'\]: Field required"),
    (Config, 3, "Config"),
    (Point, {"z": 1}, "'x'"),
    (Row, {"name": "a"}, r"\['age'\]: Field required"),
    (list[Row], [{"name": 1, "age": 1}], r"\[0\]\['name'\]: Input should be a valid string"),
    (Row | None, {"age": 1}, r"\['name'\]: Field required"),
    (pd.DataFrame, [1], "DataFrame"),
    (np.ndarray, [1], "ndarray"),
]


@pytest.mark.parametrize(("annotation", "value", "says"), MISFITS, ids=lambda item: str(item)[:40])
def test_a_value_that_does_not_fit_is_refused_by_name(annotation: Any, value: Any, says: str) -> None:
    with pytest.raises(ParameterError, match=says) as refused:
        checked(taking(annotation), value)

    assert str(refused.value).startswith("f(x=") and "does not fit" in str(refused.value)
    assert refused.value.__cause__ is None and refused.value.__suppress_context__  # one traceback, not two
    assert isinstance(refused.value, TypeError) and isinstance(refused.value, ValueError)


def test_the_fields_of_a_model_or_dataclass_may_be_given_as_a_mapping() -> None:
    assert checked(taking(Config), {"depth": 3}) == {"x": Config(depth=3)}
    assert checked(taking(Point | None), {"x": 3}) == {"x": Point(3)}
    assert checked(taking(list[Config]), [{"depth": 3}]) == {"x": [Config(depth=3)]}
    assert checked(taking(dict[str, Point]), {"a": {"x": 3}}) == {"x": {"a": Point(3)}}


@dataclass
class Line:
    start: Point
    width: float = 1.0


@dataclass
class Seeded:
    start: Point
    seed: InitVar[int]
    step: InitVar[int] = 1

    def __post_init__(self, seed: int, step: int) -> None:
        self.drawn = seed + step


class Drawing(pydantic.BaseModel):
    line: Line
    name: str = ""


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        (Point, {"x": "3"}, r"\['x'\]: Input should be a valid integer"),
        (Config, {"depth": "3"}, r"\['depth'\]: Input should be a valid integer"),
        (Point | None, {"x": 3.0}, r"\['x'\]: Input should be a valid integer"),
        (list[Point], [{"x": 1}, {"x": "3"}], r"\[1\]\['x'\]: Input should be a valid integer"),
        (dict[str, Config], {"a": {"depth": True}}, r"\['a'\]\['depth'\]: Input should be a valid integer"),
        (Line, {"start": {"x": "1"}}, r"\['start'\]\['x'\]: Input should be a valid integer"),
        (
            Drawing,
            {"line": {"start": {"x": 1}, "width": "2"}},
            r"\['line'\]\['width'\]: Input should be a valid number",
        ),
        (Seeded, {"start": {"x": 1}, "seed": "2"}, r"\['seed'\]: Input should be a valid integer"),
        (Seeded, {"start": {"x": 1}}, r"\['seed'\]: Field required"),
        (Point, {"y": 1}, r"\['x'\]: Field required"),
        (Point, {"x": 1, "z": 1}, r"\['z'\]: is no field of Point"),
        (int | Point, {"x": "3"}, r"\['x'\]: Input should be a valid integer"),
    ],
)
def test_a_field_given_in_a_mapping_is_held_to_its_annotation(annotation: Any, value: Any, words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        checked(taking(annotation), value)


def test_a_dataclass_with_an_init_var_is_made_of_a_mapping() -> None:
    made = checked(taking(Seeded), {"start": {"x": 1}, "seed": 2})["x"]

    assert (made.start, made.drawn) == (Point(1), 3)


@pytest.mark.parametrize("annotation", [any, callable, np.array])
def test_an_annotation_that_is_no_type_warns_of_nothing(annotation: Any) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        checked(taking(annotation), 1)

    assert caught == []


def test_mappings_within_mappings_are_made_into_what_they_stand_for() -> None:
    assert checked(taking(Line), {"start": {"x": 1}, "width": 2}) == {"x": Line(Point(1), 2)}
    assert checked(taking(Drawing), {"line": {"start": {"x": 1}}}) == {"x": Drawing(line=Line(Point(1)))}
    assert checked(taking(tuple[int, Point]), (1, {"x": 1})) == {"x": (1, Point(1))}
    assert checked(taking(Config | Point), {"x": np.int64(1)}) == {"x": Point(1)}


def test_a_refused_value_is_shown_short() -> None:
    with pytest.raises(ParameterError) as refused:
        checked(taking(int), "x" * 10_000)

    assert len(str(refused.value)) < 400


def test_rest_and_more_are_checked_one_by_one() -> None:
    def f(*rest: int, **more: float) -> None: ...

    assert checked(f, 1, 2, a=0.5) == {"rest": (1, 2), "more": {"a": 0.5}}
    with pytest.raises(ParameterError, match=r"f\(rest\[1\]='2'\) does not fit int"):
        checked(f, 1, "2")
    with pytest.raises(ParameterError, match=r"f\(a='x'\) does not fit float"):
        checked(f, a="x")


def test_one_hint_that_cannot_be_resolved_leaves_the_others_checked() -> None:
    def f(a: Thing, b: int) -> None: ...

    marker = object()
    assert checked(f, marker, 1) == {"a": marker, "b": 1}
    with pytest.raises(ParameterError, match="does not fit int"):
        checked(f, marker, "1")


def test_a_callable_object_is_checked_by_its_call() -> None:
    class Scale:
        __name__ = "scale"

        def __call__(self, x: int) -> int:
            return x

    with pytest.raises(ParameterError, match="does not fit int"):
        checked(Scale(), "1")


# -- inputs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "iris.csv"
    path.write_text("a,b\n1,2\n")
    return path


@pytest.mark.parametrize("annotation", [pd.DataFrame, pd.DataFrame | None, Optional[pd.DataFrame], "pd.DataFrame"])
def test_a_text_for_a_frame_is_an_input(annotation: Any, table: Path) -> None:
    assert checked(taking(annotation), str(table))["x"] == DataItem(str(table), "pandas.DataFrame")


def test_a_text_stays_a_text_where_it_could_be_the_value(table: Path) -> None:
    assert checked(taking(str | pd.DataFrame), str(table))["x"] == str(table)
    assert checked(taking(str), str(table))["x"] == str(table)


def test_data_says_read_this_anywhere(table: Path) -> None:
    for annotation in (str | pd.DataFrame, str, bytes, Any, int):
        item = checked(taking(annotation), mlfn.data(table))["x"]
        assert isinstance(item, DataItem) and item.url == str(table)

    def bare(x): ...

    assert checked(bare, mlfn.data(table.as_uri())) == {"x": DataItem(str(table))}


def test_a_path_is_a_path_and_need_not_be_there() -> None:
    assert checked(taking(Path), "not/there.csv")["x"] == Path("not/there.csv")
    with pytest.raises(InputNotFoundError):
        checked(taking(Path), mlfn.data("not/there.csv"))


def test_an_input_that_is_missing_names_what_lies_near_it(table: Path) -> None:
    def bare(x): ...

    table.with_name("iris.py").touch()  # no table
    for function in (taking(pd.DataFrame), bare):
        with pytest.raises(InputNotFoundError, match=r"iris\.cvs\. Did you mean 'iris\.csv'\? Allowed: iris\.csv\."):
            checked(function, mlfn.data(table.with_name("iris.cvs")))


def test_a_folder_without_any_file_of_the_kind_says_so(table: Path) -> None:
    with pytest.raises(InputNotFoundError, match=r"Of \.npy there is no file in "):
        checked(taking(np.ndarray), str(table.with_name("x.npy")))


@pytest.mark.parametrize(
    ("annotation", "name", "says"),
    [
        (pd.DataFrame, "job.py", r"f\(x=\.\.\.\): Cannot read .*job\.py as pandas\.DataFrame: its suffix is \.py"),
        (np.ndarray, "iris.csv", r"f\(x=\.\.\.\): .*its suffix is \.csv\. Allowed: \.npy"),
        (pd.DataFrame, ".", r"f\(x=\.\.\.\): .*it is a folder\. Allowed: a file with \.csv"),
        (bytes, ".", r"f\(x=\.\.\.\): Cannot read .* as bytes: it is a folder\. Allowed: a file\."),
        (Any, "job.py", r"f\(x=\.\.\.\): Cannot read .*job\.py as a value: its suffix is \.py"),
    ],
)
def test_an_input_that_cannot_be_read_names_the_parameter(annotation: Any, name: str, says: str, table: Path) -> None:
    table.with_name("job.py").touch()
    with pytest.raises(ParameterError, match=says):
        checked(taking(annotation), mlfn.data(table.parent / name))


def test_a_folder_is_an_input_where_it_can_be_read(table: Path) -> None:
    whole = table.with_name("parts.parquet")
    whole.mkdir()
    pd.DataFrame({"a": [1]}).to_parquet(whole / "part-0.parquet")

    assert checked(taking(Path), mlfn.data(table.parent))["x"] == DataItem(str(table.parent), "pathlib.Path")

    @mlfn.function
    def columns(frame: pd.DataFrame) -> list[str]:
        return list(frame.columns)

    assert columns.on("inline").submit(str(whole)).result() == ["a"]


def test_a_scheme_that_is_not_read_names_the_parameter() -> None:
    with pytest.raises(ParameterError, match=r"f\(x=\.\.\.\): 'ftp://host/a\.csv' has the scheme 'ftp'.*file://"):
        checked(taking(pd.DataFrame), "ftp://host/a.csv")


def test_a_path_is_an_input_where_what_a_file_holds_is_meant(table: Path) -> None:
    for kind in (pd.DataFrame, pd.Series, str, bytes, Optional[pd.DataFrame]):
        assert checked(taking(kind), table)["x"].url == str(table)
    assert checked(taking(Path), table) == {"x": table}
    assert checked(taking(Any), table) == {"x": table}
    with pytest.raises(InputNotFoundError, match=r"iris\.csv"):
        checked(taking(pd.DataFrame), table.with_name("iri.csv"))


@pytest.mark.parametrize("place", ["inline", "local"])
def test_inputs_are_read_where_the_run_runs_and_left_alone(place: str, table: Path) -> None:
    @mlfn.function
    def columns(frame: pd.DataFrame, text: str, either: str | pd.DataFrame, path: Path) -> Any:
        return list(frame.columns), text, either, path.name

    run = columns.on(place).submit(str(table), mlfn.data(table), str(table), str(table))

    assert run.result(timeout=60) == (["a", "b"], "a,b\n1,2\n", str(table), "iris.csv")
    assert table.read_text() == "a,b\n1,2\n"


@pytest.mark.parametrize("place", ["inline", "local"])
def test_an_int_for_a_float_stays_an_int(place: str) -> None:
    @mlfn.function
    def kind(x: float, y: float) -> Any:
        return type(x).__name__, type(y).__name__, x, y

    assert kind.on(place).submit(3, np.float32(0.5)).result(timeout=60) == ("int", "float32", 3, np.float32(0.5))
