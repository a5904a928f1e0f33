"""`mlfn.diff` says in words what changed."""

from __future__ import annotations

from collections.abc import Callable
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


def test_stored_versions_are_compared_by_their_hash() -> None:
    before, after = declared(), declared(default=2, cpu=2)
    for function in (before, after):
        function.on("inline").submit()

    assert list(mlfn.diff(before.hash, after.hash)) == ["resources: {'cpu': 2.0} added", "code: changed"]
    assert list(mlfn.diff(before.spec, before.hash)) == []


def test_what_is_no_version_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"diff\(3\)"):
        mlfn.diff(3, declared())
    with pytest.raises(NotFoundError, match="No function version 'abc'"):
        mlfn.diff("abc", declared())
