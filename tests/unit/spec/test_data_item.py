"""`data()`: what is to be read, and where it lies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import mlfn
from mlfn.errors import ParameterError


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/data/iris.csv", "/data/iris.csv"),
        ("file:///data/iris.csv", "/data/iris.csv"),
        ("file:///data/my%20iris.csv", "/data/my iris.csv"),
        ("/data/a:b.csv", "/data/a:b.csv"),
        (Path("/data/iris.csv"), "/data/iris.csv"),
    ],
)
def test_paths_and_file_urls_name_files(url: Any, path: str) -> None:
    assert mlfn.data(url).local_path() == path


def test_relative_and_home_paths_become_absolute(home: Path) -> None:
    assert mlfn.data("iris.csv").local_path() == os.path.join(os.getcwd(), "iris.csv")
    assert mlfn.data("~/iris.csv").local_path() == str(home / "iris.csv")


@pytest.mark.parametrize("wrong", [3, None, b"iris.csv", ["iris.csv"]])
def test_what_is_no_url_is_refused(wrong: Any) -> None:
    with pytest.raises(ParameterError, match="a path, or a URL"):
        mlfn.data(wrong)


def test_another_scheme_is_refused_by_name() -> None:
    with pytest.raises(ParameterError, match=r"'s3://lake/iris.csv' has the scheme 's3'"):
        mlfn.data("s3://lake/iris.csv").local_path()
