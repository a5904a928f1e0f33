from __future__ import annotations

import json
import pathlib
import typing
from pathlib import Path
from typing import Annotated, Any, NewType, Optional, Union

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from mlfn.artifacts.inputs import annotation_name, read_input, wants_input
from mlfn.errors import InputNotFoundError, ParameterError

FRAME = pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]})
Table = NewType("Table", pd.DataFrame)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    FRAME.to_csv(tmp_path / "data.csv", index=False)
    FRAME.to_csv(tmp_path / "data.tsv", index=False, sep="\t")
    FRAME.to_parquet(tmp_path / "data.parquet")
    FRAME.to_feather(tmp_path / "data.feather")
    FRAME.to_json(tmp_path / "data.json")
    FRAME.to_json(tmp_path / "data.jsonl", orient="records", lines=True)
    FRAME[["a"]].to_csv(tmp_path / "column.csv", index=False)
    np.save(tmp_path / "array.npy", np.arange(3))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    (tmp_path / "config.json").write_text('{"depth": 3}')
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "text.txt").write_bytes(b"one\r\n")
    return tmp_path


@pytest.mark.parametrize(
    "annotation",
    [
        pd.DataFrame,
        pd.Series,
        np.ndarray,
        Path,
        Optional[pd.DataFrame],  # noqa: UP045
        Union[None, pd.DataFrame],  # noqa: UP007
        pd.DataFrame | None,
        Annotated[pd.DataFrame, "rows"],
        Annotated[pd.DataFrame | None, "rows"],
        npt.NDArray[np.float64],
        Table,
    ],
    ids=str,
)
def test_a_str_for_this_annotation_names_an_input(annotation: Any) -> None:
    assert wants_input(annotation)


@pytest.mark.parametrize(
    "annotation",
    [
        str | pd.DataFrame,
        pd.DataFrame | pd.Series,
        str,
        int,
        dict,
        list[int],
        bytes,
        Any,
        None,
        "DataFrame",
        typing.Literal["a"],
        typing.TypeVar("T"),
        pathlib.PurePath,
        pd.Index,
    ],
    ids=str,
)
def test_a_str_for_this_annotation_is_a_value(annotation: Any) -> None:
    assert not wants_input(annotation)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "feather", "json", "jsonl"])
def test_a_frame_is_read_by_its_suffix(files: Path, suffix: str) -> None:
    frame = read_input(files / f"data.{suffix}", annotation_name(pd.DataFrame))

    pd.testing.assert_frame_equal(frame, FRAME)


def test_a_suffix_may_be_in_capitals(files: Path) -> None:
    (files / "data.csv").rename(files / "DATA.CSV")

    assert len(read_input(files / "DATA.CSV", "pandas.DataFrame")) == 2


@pytest.mark.parametrize(
    ("name", "annotation", "expected"),
    [
        ("config.json", "dict", {"depth": 3}),
        ("list.json", "list", [1, 2]),
        ("config.json", None, {"depth": 3}),
        ("text.txt", "bytes", b"one\r\n"),
        ("text.txt", "str", "one\r\n"),
        ("text.txt", None, "one\r\n"),
    ],
)
def test_a_file_is_read_as_annotated(files: Path, name: str, annotation: str | None, expected: Any) -> None:
    assert read_input(files / name, annotation) == expected


def test_an_array_is_read_from_npy(files: Path) -> None:
    assert read_input(files / "array.npy", "numpy.ndarray").tolist() == [0, 1, 2]


def test_an_array_of_objects_is_not_unpickled(files: Path) -> None:
    with pytest.raises(ParameterError, match="allow_pickle"):
        read_input(files / "objects.npy", "numpy.ndarray")


def test_a_series_is_the_one_column_of_a_file(files: Path) -> None:
    assert read_input(files / "column.csv", "pandas.Series").tolist() == [1, 2]
    with pytest.raises(ParameterError, match="2 columns"):
        read_input(files / "data.csv", "pandas.Series")


def test_a_path_is_returned_unread_though_nothing_is_there() -> None:
    assert read_input(Path("to/be/written"), "pathlib.Path") == Path("to/be/written")


def test_an_unknown_suffix_names_those_allowed(files: Path) -> None:
    with pytest.raises(ParameterError, match=r"\.txt.*\.csv, \.tsv, \.parquet"):
        read_input(files / "text.txt", "pandas.DataFrame")


def test_an_annotation_that_no_file_is_read_as_names_those_that_are(files: Path) -> None:
    with pytest.raises(ParameterError, match=r"bytes, str, pandas\.DataFrame"):
        read_input(files / "text.txt", "torch.Tensor")


def test_a_file_that_holds_another_type_is_refused(files: Path) -> None:
    with pytest.raises(ParameterError, match="holds a list, not a dict"):
        read_input(files / "list.json", "dict")


def test_a_file_that_cannot_be_parsed_names_it(files: Path) -> None:
    (files / "bad.json").write_text("{")

    with pytest.raises(ParameterError, match=r"bad\.json as dict: JSONDecodeError"):
        read_input(files / "bad.json", "dict")


def test_a_missing_file_names_its_near_matches(files: Path) -> None:
    with pytest.raises(InputNotFoundError, match=r"dta\.csv\. Near it: data\.csv"):
        read_input(files / "dta.csv", "pandas.DataFrame")


def test_a_missing_folder_is_named(files: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no 'lake'"):
        read_input(files / "lake" / "raw" / "data.csv", "pandas.DataFrame")


def test_reading_changes_nothing(files: Path) -> None:
    def state() -> str:
        return json.dumps(
            [[entry.name, entry.stat().st_mtime_ns, entry.stat().st_size] for entry in sorted(files.iterdir())]
        )

    before = state()

    for entry in sorted(files.iterdir()):
        if entry.name != "objects.npy":
            read_input(entry, None)

    assert state() == before
