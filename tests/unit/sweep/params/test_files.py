"""Parameters from a CSV, JSON or YAML file, typed, with errors by line."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlfn.errors import InputNotFoundError, ParameterError
from mlfn.sweep.params.files import grid_from_file, zip_from_file
from mlfn.sweep.strategies.grid import Grid
from mlfn.sweep.strategies.zip import Zip


@pytest.fixture
def write(tmp_path):
    """Give a function that writes a file and returns its path."""

    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def typed(lists):
    return {key: [(type(value), value) for value in items] for key, items in lists.items()}


CSV = 'depth, lr,opt ,on,code\n4,0.1,adam,true,007\n8,1e-3,"a, b",False,1.\n\n16,,null,,-3\n'


def test_csv_rows_of_a_zip_are_typed(write):
    got = zip_from_file(write("p.csv", CSV))

    assert typed(got) == typed(
        {
            "depth": [4, 8, 16],
            "lr": [0.1, 0.001, None],
            "opt": ["adam", "a, b", None],
            "on": [True, False, None],
            "code": ["007", 1.0, -3],
        }
    )
    assert len(Zip(got)) == 3


def test_csv_columns_of_a_grid_end_before_empties(write):
    got = grid_from_file(str(write("p.CSV", CSV)))

    assert typed(got) == typed(
        {
            "depth": [4, 8, 16],
            "lr": [0.1, 0.001],
            "opt": ["adam", "a, b", None],
            "on": [True, False],
            "code": ["007", 1.0, -3],
        }
    )
    assert len(Grid(got)) == 3 * 2 * 3 * 2 * 3


@pytest.mark.parametrize("content", [b"\xef\xbb\xbfdepth\r\n4\r\n8\r\n", b"depth\r4\r8", b"\n\ndepth\n4\n8"])
def test_a_csv_file_may_come_from_any_system(write, content):
    assert grid_from_file(write("p.csv", content)) == {"depth": [4, 8]}


def test_special_numbers_of_a_csv_file(write):
    nan, *rest = zip_from_file(write("p.csv", "x\nnan\ninf\n-inf\n1_000\n+5\n.5\n1e5\n--1\n"))["x"]

    assert math.isnan(nan) and rest == [math.inf, -math.inf, "1_000", 5, 0.5, 1e5, "--1"]


YAML = """\
depth: [4, 8]      # a comment
lr: [1e-3, 0.1, .5]
opt:
  - adam
  - "no"
  - no
  - null
  - 'true'
model.layers: [[1, 2], {units: 3}]
day: [2024-01-01, 0x10, 1_0]
"""


@pytest.mark.parametrize("suffix", ["yaml", "yml"])
def test_yaml_file_has_types_of_version_12(write, suffix):
    got = grid_from_file(write(f"p.{suffix}", YAML))

    assert typed(got) == typed(
        {
            "depth": [4, 8],
            "lr": [0.001, 0.1, 0.5],
            "opt": ["adam", "no", "no", None, "true"],
            "model.layers": [[1, 2], {"units": 3}],
            "day": ["2024-01-01", 16, "1_0"],
        }
    )


def test_a_json_file_is_typed_as_it_is(write):
    lists = {"depth": [4, 8.0], "opt": ["1", None, True, {"a": [1]}]}
    path = write("p.json", json.dumps(lists))

    assert typed(grid_from_file(path)) == typed(lists)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.json", '[{"depth": 4, "lr": 0.1}, {"lr": 0.3, "depth": 8}]'),
        ("p.yaml", "- {depth: 4, lr: 0.1}\n- lr: 0.3\n  depth: 8\n"),
        ("q.yaml", "depth: [4, 8]\nlr: [0.1, 0.3]"),
        ("p.csv", "depth,lr\n4,0.1\n8,0.3"),
    ],
)
def test_rows_go_in_step(write, name, content):
    assert zip_from_file(write(name, content)) == {"depth": [4, 8], "lr": [0.1, 0.3]}


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(st.dictionaries(st.text(min_size=1), st.lists(scalars, min_size=1, max_size=3), min_size=1, max_size=3))
def test_what_is_written_as_json_comes_back(tmp_path_factory, lists):
    path = tmp_path_factory.mktemp("lists") / "p.json"
    path.write_text(json.dumps(lists))

    assert typed(grid_from_file(path)) == typed(lists)


BOTH = [grid_from_file, zip_from_file]
PARAMETERS = [
    (BOTH, "p.csv", "", "p.csv:1: expected a line of names and lines of values"),
    (BOTH, "p.csv", "depth,lr\n", "p.csv:1: expected a line of names"),
    (BOTH, "p.csv", "depth,lr\n4\n", "p.csv:2: 1 values for 2 names (depth, lr)"),
    (BOTH, "p.csv", "depth\n4\n\n8,9\n", "p.csv:4: 2 values for 1 names (depth)"),
    (BOTH, "p.csv", "depth,\n4,5\n", "p.csv:1: column 2 has no name"),
    (BOTH, "p.csv", "depth,depth\n4,5\n", "p.csv:1: the name 'depth' is there twice"),
    (BOTH, "p.csv", 'depth\n"4\n', "p.csv:2: no CSV: "),
    (BOTH, "p.csv", b"depth\n4\n\xff\n", "p.csv:3: it is no UTF-8"),
    ([grid_from_file], "p.csv", "depth,lr\n4,1\n,2\n8,3\n", "p.csv:3: 'depth' has no value here, but has some below"),
    (BOTH, "p.json", '{"depth": [4,\n 8\n', "p.json:3: no JSON: "),
    (BOTH, "p.json", '{"depth": [1],\n"depth": [2]}', "p.json:2: the key 'depth' is there twice"),
    (BOTH, "p.json", '{"lr": [1],\n"depth": 4}', "p.json:2: depth=4 is no list: write [4]"),
    (BOTH, "p.yaml", "model:\n  depth: [4, 8]\n", "is no list: a part is swept by its path, model.depth: [4, 8]"),
    (BOTH, "p.json", '{"lr": [1],\n"opt": "adam"}', "p.json:2: opt='adam' is no list: write ['adam']"),
    (BOTH, "p.json", '{"lr": []}', "p.json:1: lr=[] is empty"),
    (BOTH, "p.json", "3", "p.json:1: expected lists by key, such as {depth: [4, 8]}, and found 3"),
    (BOTH, "p.json", "{}", "p.json:1: expected lists by key"),
    (BOTH, "p.json", "[" * 100_000, "p.json:1: it is nested too deeply"),
    ([grid_from_file], "p.json", '[{"depth": 4}]', "p.json:1: it holds a list of rows: sweep it by .zip(...)"),
    ([zip_from_file], "p.json", "[]", "p.json:1: expected lists by key"),
    ([zip_from_file], "p.json", '[{"a": 1}, 3]', "p.json:1: row 2 is 3: each row needs the keys of the first"),
    ([zip_from_file], "p.json", '[{"a": 1}, {"b": 1}]', "row 2 is {'b': 1}: each row needs the keys of the first"),
    (BOTH, "p.yaml", "a: [1]\nb: *x\n", "p.yaml:2: "),
    (BOTH, "p.yaml", "a: [1]\nb: &x [1]\nc: *x", "p.yaml:2: an anchor or alias (& or *) is not read"),
    (BOTH, "p.yaml", "a: !!python/object/apply:os.system ['true']", "p.yaml:1: the tag "),
    (BOTH, "p.yaml", "a: [1]\na: [2]", "p.yaml:2: the key 'a' is there twice"),
    (BOTH, "p.yaml", "a: [1\nb: 2", "p.yaml:2: "),
    (BOTH, "p.yaml", "a: [1]\n---\nb: [1]", "p.yaml:2: expected a single document in the stream"),
    (BOTH, "p.yaml", "a: [1]\nb: 4", "p.yaml:2: b=4 is no list"),
    (BOTH, "p.yaml", "a: [1]\n3: [4]", "p.yaml:2: the key 3 is no text"),
    (BOTH, "p.yaml", "a: " + "[" * 60 + "]" * 60, "p.yaml:1: nested deeper than 50 levels"),
    (BOTH, "p.yaml", "a: [1]\nb: \x07", "p.yaml:2: special characters are not allowed"),
    (BOTH, "p.yaml", "", "p.yaml:1: expected lists by key"),
    (BOTH, "p.yaml", "? [a]\n: 1", "p.yaml:1: a list or mapping is no key"),
    (BOTH, "p.yaml", "a: [" + "1, " * 400_000 + "]", "characters are too many"),
    (BOTH, "p.txt", "", "is no file of parameters. Allowed: .csv, .json, .yaml, .yml."),
]


@pytest.mark.parametrize(
    ("read", "name", "content", "said"),
    [(read, *rest) for reads, *rest in PARAMETERS for read in reads],
    ids=[f"{read.__name__[:4]}{i}" for i, (reads, *_) in enumerate(PARAMETERS) for read in reads],
)
def test_error_names_file_and_line(write, read, name, content, said):
    with pytest.raises(ParameterError) as caught:
        read(write(name, content))

    assert said in str(caught.value)


def test_missing_file_error_names_similar_files(write):
    near = write("params.csv", "a\n1\n")

    with pytest.raises(InputNotFoundError, match=r"param.csv' is not there. did you mean 'params.csv'"):
        grid_from_file(near.with_name("param.csv"))
    with pytest.raises(InputNotFoundError, match="No folder "):
        grid_from_file(near.parent / "no" / "p.csv")


def test_a_folder_cannot_be_read(tmp_path):
    (tmp_path / "p.csv").mkdir()

    with pytest.raises(ParameterError, match="cannot be read"):
        grid_from_file(tmp_path / "p.csv")
