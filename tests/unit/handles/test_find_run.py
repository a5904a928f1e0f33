"""What names a run: its id, its function, its sweep, or that it is the last."""

from __future__ import annotations

import pytest

import mlfn
from mlfn.errors import NotFoundError


@mlfn.function
def add(x: int) -> int:  # a name that could be the first digits of an id
    return x + 1


@mlfn.function
def train(x: int) -> int:
    return x


@pytest.fixture
def runs():
    first, second = (add.on("inline").submit(x) for x in (1, 2))
    sweep = train.on("inline").grid(x=[1, 2]).with_options(name="nightly").submit()
    sweep.wait()
    return first, second, sweep


def test_the_last_is_the_newest_that_no_other_run_submitted(runs):
    assert mlfn.run("last").id == runs[2].id


def test_a_function_names_its_newest_run(runs):
    assert mlfn.run("add").id == runs[1].id


def test_a_sweep_is_named_by_its_name(runs):
    assert mlfn.run("nightly").id == runs[2].id


def test_digits_of_an_id_name_that_run(runs):
    assert mlfn.run(runs[0].id[:8]).id == mlfn.run(runs[0].id).id == runs[0].id


def test_what_names_no_run_is_refused_with_the_nearest_name(runs):
    with pytest.raises(NotFoundError, match=r"no run 'trian': did you mean 'train'\? Allowed: .* 'last'"):
        mlfn.run("trian")


def test_where_none_has_run_there_is_no_last():
    with pytest.raises(NotFoundError, match="There is no run 'last'"):
        mlfn.run("last")
