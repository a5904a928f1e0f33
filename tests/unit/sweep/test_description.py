"""What one writes where a sweep is described, and what the errors say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import mlfn
from mlfn.errors import ParameterError


@mlfn.function
def train(depth: int, rate: float = 0.1) -> float:
    return depth * rate


@mlfn.function
def of_any(**values: Any) -> int:
    return len(values)


@pytest.mark.parametrize(
    ("describe", "method", "option"),
    [
        (lambda: train.grid(depth=[1, 2], parallel=2), "grid", "parallel=2"),
        (lambda: train.zip(depth=[1, 2], name="depths"), "zip", "name='depths'"),
        (lambda: train.random(n=2, depth=mlfn.randint(1, 4), parallel=2), "random", "parallel=2"),
        (lambda: train.search(n=2, depth=mlfn.randint(1, 4), max_failures=1), "search", "max_failures=1"),
        (lambda: train.map([1, 2], timeout=5), "map", "timeout=5"),
        (lambda: train.grid(depth=[1, 2]).submit(select="max.return"), "submit", "select='max.return'"),
    ],
)
def test_an_option_given_as_a_parameter_is_shown_its_place(
    describe: Callable[[], Any], method: str, option: str
) -> None:
    with pytest.raises(ParameterError) as caught:
        describe()

    said = str(caught.value)
    assert said.startswith(f"train.{method}(): {option.partition('=')[0]}= is an option of the sweep")
    assert f".with_options({option})" in said


def test_a_function_of_any_names_takes_them() -> None:
    assert len(of_any.grid(parallel=[1, 2])) == 2


@pytest.mark.parametrize("name", ["result", "wait", "best", "children", "cancel"])
def test_what_a_submitted_sweep_has_is_pointed_at(name: str) -> None:
    with pytest.raises(AttributeError, match=rf"once it is submitted: train\.\.\.\.submit\(\)\.{name}"):
        getattr(train.grid(depth=[1, 2]), name)
    assert not hasattr(train.grid(depth=[1, 2]), "no_such_thing")
