"""A function's parameters may have any name: those of our own methods' are no hindrance."""

from __future__ import annotations

from typing import Any

import pytest

import mlfn

NAMES = ("self", "cls", "args", "kwargs", "function", "place", "options", "params", "name", "session", "values")
GIVEN: dict[str, Any] = {name: 2**number for number, name in enumerate(NAMES)}
LISTED = {name: [value] for name, value in GIVEN.items()}
TOTAL = 2 ** len(NAMES) - 1


@mlfn.function
def named(
    self: int, cls: int, args: int, kwargs: int, function: int, place: int, options: int, params: int, name: int,
    session: int, values: int,
) -> int:  # fmt: skip
    return self + cls + args + kwargs + function + place + options + params + name + session + values


@mlfn.function
def any_named(**given: int) -> int:
    return sum(given.values())


@pytest.mark.parametrize("declared", [named, any_named])
def test_calls_and_runs_take_them_by_keyword(declared: Any) -> None:
    run = declared.on("inline").submit(**GIVEN)

    assert declared(**GIVEN) == run.result() == TOTAL
    assert "session" in declared.plan(**GIVEN)
    assert run.rerun(self=2).result() == TOTAL + 1
    assert run.promote("best").submit(self=3).result() == TOTAL + 2


@pytest.mark.parametrize("declared", [named, any_named])
def test_sweeps_take_them_by_keyword(declared: Any) -> None:
    declared = declared.on("inline")
    rest = {name: value for name, value in GIVEN.items() if name != "self"}
    sweeps = [
        declared.grid(**LISTED).submit(),
        declared.zip(self=[1]).submit(**rest),
        declared.random(n=1, **LISTED).submit(),
        declared.search(n=1, sampler="random", self=[1]).with_options(select="max.return").submit(**rest),
        declared.sweep([{"self": 1}]).submit(**rest),
    ]

    assert [[child.result() for child in sweep] for sweep in sweeps] == [[TOTAL]] * 5


def test_a_map_takes_them_by_keyword() -> None:
    assert list(named.on("inline").map(**LISTED).submit()) == [TOTAL]
