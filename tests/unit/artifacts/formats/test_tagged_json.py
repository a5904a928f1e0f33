from __future__ import annotations

import collections
import enum
import json
import math
import pathlib
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import hypothesis
import pytest
from hypothesis import strategies as st

from mlfn.artifacts.formats.base import UnfitError
from mlfn.artifacts.formats.tagged_json import MAX_DEPTH, decode, dumps, encode


def again(value: Any) -> Any:
    return decode(json.loads(dumps(encode(value))))


def same(one: Any, other: Any) -> bool:
    """Compare exactly: types all the way down, order of dicts, nan as itself, the sign of zero."""
    if type(one) is not type(other):
        return False
    if type(one) is float:
        return (math.isnan(one) and math.isnan(other)) or (one == other and repr(one) == repr(other))
    if type(one) is complex:
        return same([one.real, one.imag], [other.real, other.imag])
    if type(one) in (list, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if type(one) is dict:
        return same(list(one.items()), list(other.items()))
    if type(one) in (set, frozenset):
        return sorted(map(repr, one)) == sorted(map(repr, other))
    if type(one) in (datetime, time):
        return repr(one) == repr(other)
    if type(one) is Decimal:
        return one.as_tuple() == other.as_tuple()
    return bool(one == other)


class Point(NamedTuple):
    x: int


class Colour(enum.IntEnum):
    RED = 1


class Name(str):
    __slots__ = ()


EXACT = [
    None,
    True,
    0,
    -0.0,
    1.0,
    1e16,
    math.nan,
    math.inf,
    -math.inf,
    2**63,
    -(2**63) - 1,
    10**5000,
    "",
    "a\r\nb\0",
    "\ud800",
    "\ud83d\ude00",
    "😀",
    complex(-0.0, math.nan),
    b"",
    b"\xff\0",
    bytearray(b"x"),
    (),
    (1, (2,)),
    [],
    [[], {}],
    {},
    {"b": 1, "a": 2},
    {"!": "tuple", "v": [1]},
    {"v": 1},
    {1: "int", "1": "str", (1, 2): "tuple", None: 0, 1.5: 2},
    {"\ud800": 1},
    set(),
    {1, "a", (2,)},
    frozenset({frozenset({1})}),
    datetime(2024, 1, 2, 3, 4, 5, 6),
    datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    datetime(2024, 1, 2, tzinfo=timezone.utc),
    datetime(2024, 1, 2, tzinfo=timezone(timedelta(hours=-3, seconds=1))),
    datetime(2024, 1, 2, tzinfo=timezone(timedelta(hours=1), "CET")),
    time(1, 2, 3, tzinfo=timezone.utc, fold=1),
    date(2024, 2, 29),
    timedelta(days=-1, microseconds=7),
    timezone.utc,
    ZoneInfo("UTC"),
    Decimal("1.10"),
    Decimal("-0E-7"),
    Decimal("NaN123"),
    Decimal("sNaN"),
    UUID(int=7),
    Fraction(-1, 3),
    range(1, 10, 3),
    slice(None, 5),
    pathlib.PurePosixPath("a/b"),
    pathlib.PureWindowsPath("c:/x"),
    pathlib.Path("relative"),
]


@pytest.mark.parametrize("value", EXACT, ids=lambda value: type(value).__name__)
def test_a_value_comes_back_exactly(value: Any) -> None:
    assert same(again(value), value)


@pytest.mark.parametrize("value", EXACT, ids=lambda value: type(value).__name__)
def test_a_value_comes_back_exactly_from_within_containers(value: Any) -> None:
    nested = {"k": [(value, {"!": value})]}

    assert same(again(nested), nested)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=())),
    st.binary(),
    st.complex_numbers(allow_nan=False),
    st.datetimes(timezones=st.none() | st.timezones()),
    st.times(),
    st.dates(),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.fractions(),
)
keys = st.one_of(st.text(), st.integers(), st.tuples(st.text(), st.binary()), st.just("!"))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(keys, inner),
        st.sets(keys),
        st.frozensets(keys),
    ),
    max_leaves=12,
)


@hypothesis.given(values)
@hypothesis.settings(max_examples=300, deadline=None)
def test_any_value_comes_back_exactly(value: Any) -> None:
    assert same(again(value), value)


@pytest.mark.parametrize("value", [1, 1.5, "x", None, True, [1, "x"], {"a": {"b": [None]}}], ids=repr)
def test_plain_json_stays_plain(value: Any) -> None:
    assert encode(value) == value
    assert type(encode(value)) is type(value)


def test_equal_sets_have_equal_json() -> None:
    names = [f"name{number}" for number in range(50)]

    assert dumps(encode(set(names))) == dumps(encode({*names[25:], *names[:25]}))


@pytest.mark.parametrize(
    "value",
    [
        Point(1),
        Colour.RED,
        Name("x"),
        collections.OrderedDict(a=1),
        collections.defaultdict(list),
        collections.deque([1]),
        object(),
        int,
        ...,
    ],
    ids=lambda value: repr(value)[:10],
)
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: {"deep": [value]}], ids=["bare", "nested"])
def test_what_json_would_flatten_is_unfit(value: Any, wrap: Any) -> None:
    with pytest.raises(UnfitError):
        encode(wrap(value))


def test_a_cycle_is_unfit() -> None:
    cycle: list[Any] = [1]
    cycle += [cycle, cycle]

    with pytest.raises(UnfitError, match="cyclic"):
        encode(cycle)


def test_a_value_as_deep_as_allowed_comes_back_and_a_deeper_one_is_unfit() -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH):
        value = ({1: value},)[0]

    assert again(value) == value
    with pytest.raises(UnfitError, match="nested deeper"):
        encode([value])


def test_lists_shared_at_every_level_do_not_grow_without_end() -> None:
    value: list[Any] = [1]
    for _ in range(60):
        value = [value, value]

    with pytest.raises(UnfitError, match="repeats"):
        encode(value)


def test_a_shared_list_is_written_out_each_time() -> None:
    shared = [1]

    assert again([shared, shared]) == [[1], [1]]


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"!": "tuple", "v": [value]}
    return value


@pytest.mark.parametrize(
    "hostile",
    [
        {"!": "os.system", "v": "true"},
        {"!": ["unhashable"], "v": 1},
        {"!": "tuple"},
        {"!": "tuple", "v": "abc"},
        {"!": "bytes", "v": 9},
        {"!": "bytes", "v": "*"},
        {"!": "bytearray", "v": 10**12},
        {"!": "set", "v": [[]]},
        {"!": "dict", "v": [[{}, 1]]},
        {"!": "fraction", "v": [1, 0]},
        {"!": "fraction", "v": "1e999999999"},
        {"!": "zoneinfo", "v": "../../etc/passwd"},
        {"!": "zoneinfo", "v": "/etc/passwd"},
        {"!": "path", "v": ["system", "x"]},
        {"!": "numpy", "v": ["load", "x"]},
        {"!": "numpy", "v": ["float64", [1, 2]]},
        {"!": "datetime", "v": ["2024-01-01", 0, 5]},
        {"!": "range", "v": ["a"]},
        nested(MAX_DEPTH + 1),
    ],
    ids=lambda hostile: str(hostile)[:40],
)
def test_json_that_encode_never_wrote_is_refused(hostile: Any) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, ZeroDivisionError)):
        decode(hostile)


def test_a_concrete_path_of_another_system_comes_back_as_its_pure_sibling() -> None:
    other = "WindowsPath" if type(pathlib.Path()) is pathlib.PosixPath else "PosixPath"

    value = decode({"!": "path", "v": [other, "x"]})

    assert isinstance(value, pathlib.PurePath)
    assert not isinstance(value, pathlib.Path)
