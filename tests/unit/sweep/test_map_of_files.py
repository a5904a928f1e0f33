"""A map over files: their paths, or a pattern that matches them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import mlfn
from mlfn.errors import ParameterError


@mlfn.function
def count(table: pd.DataFrame) -> int:
    return len(table)


@mlfn.function
def name(path: Path) -> str:
    return path.name


@mlfn.function
def size(data: bytes) -> int:
    return len(data)


@mlfn.function
def text(value: str) -> str:
    return value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (2, 1):
        Path(tmp_path, f"{number}.csv").write_text("x\n" + "0\n" * number)
    Path(tmp_path, "sub.csv").mkdir()
    return tmp_path


def test_paths_are_mapped_over(folder: Path) -> None:
    files: list[Any] = sorted(folder.glob("?.csv"))

    assert count.on("inline").map(files).submit().result(60) == [1, 2]


def test_a_pattern_stands_for_the_files_that_it_matches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)

    assert count.on("inline").map("*.csv").submit().result(60) == [1, 2]
    assert name.on("inline").map(path=str(folder / "*.csv")).submit().result(60) == ["1.csv", "2.csv"]
    assert size.on("inline").map("*.csv").submit().result(60) == [4, 6]


def test_a_pattern_without_files_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"count.map\(\): table='none/\*.csv' matches no file"):
        count.map("none/*.csv")
    with pytest.raises(ParameterError, match="table='none' names no pattern and no file"):
        count.map("none")


def test_a_text_where_texts_are_mapped_is_no_pattern() -> None:
    with pytest.raises(ParameterError, match="one text where a list is meant"):
        text.map("*.csv")
