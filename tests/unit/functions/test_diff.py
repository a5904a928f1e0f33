"""`mlfn.diff` says in words what changed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import mlfn
from mlfn.errors import NotFoundError, ParameterError


def declared(default: int = 1, **options: Any) -> Any:
    def train(x: int = default) -> int:
        return x

    return mlfn.function(**options)(train)


def test_nothing_changed() -> None:
    assert mlfn.diff(declared(), declared()) == ()
    assert str(mlfn.diff(declared(), declared())) == "no difference"


def test_options_are_told_by_name_and_value() -> None:
    before = declared(image="a:1", cpu=1, env={"A": "1", "B": "2"}, labels={"team": "risk"})
    after = declared(image="a:2", cpu=1, env={"A": "1", "C": "3"}, mem="1Gi")

    assert set(mlfn.diff(before, after)) == {
        "image: 'a:1' -> 'a:2'",
        "env.B: '2' removed",
        "env.C: '3' added",
        "labels: {'team': 'risk'} removed",
        f"resources.mem: {2**30} added",
    }
    assert repr(mlfn.diff(before, after)).count("\n") == 4


def test_code_is_told_by_the_part_that_changed(user_modules: Callable[..., ModuleType]) -> None:
    first = user_modules("first", "FACTOR = 2\ndef helper(x): return FACTOR * x\ndef train(x): return helper(x)\n")
    second = user_modules("second", "FACTOR = 3\ndef helper(x): return FACTOR * x\ndef train(x): return helper(x)\n")

    changed = mlfn.diff(mlfn.function(first.train), mlfn.function(second.train))

    assert any("FACTOR" in line for line in changed), changed
    assert all(line.startswith("code: ") for line in changed)


CODE = """
LR = {lr}
NAMES = [{names}]
class Net:
    width = {width}
    def grow(self): return self.width {grow}
def helper(x): return LR * x
def train(x: int = {default}): return helper(x) + len(NAMES) + Net().grow()
"""
BEFORE = {"lr": "0.1", "names": "", "width": "1", "grow": "+ 1", "default": "1"}


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({"lr": "0.2"}, ["code: helper -> LR changed: 0.1 -> 0.2"]),
        ({"names": "'a'"}, ["code: train -> NAMES changed"]),
        ({"width": "2"}, ["code: Net -> width changed: 1 -> 2"]),
        ({"grow": "+ 2"}, ["code: net:Net.grow changed"]),
        ({"default": "3", "lr": "1"}, ["code: helper -> LR changed: 0.1 -> 1", "code: train -> x changed: 1 -> 3"]),
        ({"lr": "'x'"}, ["code: helper -> LR changed"]),
    ],
)
def test_stored_versions_tell_what_of_their_code_changed_and_no_more(
    change: dict[str, str], lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    for number, values in enumerate((BEFORE, {**BEFORE, **change})):
        file = tmp_path / f"net{number}.py"
        file.write_text(CODE.format(**values))
        spec = importlib.util.spec_from_file_location("net", file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "net", module)
        spec.loader.exec_module(module)
        runs.append(mlfn.function(module.train).on("inline").submit(5))

    assert list(mlfn.diff(*runs)) == lines
    assert list(mlfn.diff(*(run.record.function for run in runs))) == lines


def test_stored_versions_are_compared_by_their_hash() -> None:
    before, after = declared(), declared(default=2, cpu=2)
    for function in (before, after):
        function.on("inline").submit()

    assert list(mlfn.diff(before.hash, after.hash)) == [
        "resources: {'cpu': 2.0} added",
        "code: declared.<locals>.train -> x changed: 1 -> 2",
    ]
    assert list(mlfn.diff(before.spec, before.hash)) == []


def test_what_is_no_version_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"diff\(3\)"):
        mlfn.diff(3, declared())
    with pytest.raises(NotFoundError, match="No function version 'abc'"):
        mlfn.diff("abc", declared())
