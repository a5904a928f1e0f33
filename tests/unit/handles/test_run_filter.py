"""`mlfn.runs(where=...)` and `mlfn.runs().table()`."""

from __future__ import annotations

import math

import pandas as pd
import pytest

import mlfn
from mlfn.errors import OptionError


@mlfn.function
@mlfn.handler(outputs=["size"])
def train(ctx: mlfn.Context, lr: float = 0.5, opt: str = "sgd", fails: bool = False) -> int:
    for accuracy in (lr, 1 - lr, 0.4):
        ctx.log_metric("accuracy", accuracy)
    if fails:
        raise ValueError("on purpose")
    return round(10 * lr)


@pytest.fixture
def trained() -> list[str]:
    runs = [train.on("inline").submit(lr=lr) for lr in (0.05, 0.2)]
    return [*(run.id for run in runs), train.on("inline").submit().id]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("lr < 0.1", [0]),
        ("lr == 0.5", [2]),  # a default counts
        ("max.accuracy > 0.9", [0]),
        ("min.accuracy < 0.3 and not lr < 0.1", [1]),
        ("accuracy > 0.5", []),  # the last value
        ("size >= 2", [2, 1]),
        ("max.size >= 2", [2, 1]),  # an output has no series
        ("lr < 0.1 or size > 4", [2, 0]),
    ],
)
def test_runs_are_filtered_by_parameters_metrics_and_outputs(trained: list[str], where: str, found: list[int]) -> None:
    assert [run.id for run in mlfn.runs(where=where)] == [trained[at] for at in found]


def test_children_of_sweeps_are_among_them() -> None:
    sweep = train.on("inline").grid(lr=[0.1, 0.2]).submit()

    assert list(mlfn.runs(where="lr > 0.15")) == [sweep.children[2]]


def test_other_filters_order_and_limit_hold_too(trained: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlfn.handles.run_query._FIRST_LOOK", 1)

    assert [run.id for run in mlfn.runs(where="lr < 0.3", order="max.size", limit=1)] == [trained[1]]
    assert [run.id for run in mlfn.runs(where="lr < 0.1", limit=1)] == [trained[0]]
    assert len(mlfn.runs(where="lr < 1", state="failed")) == 0


def test_a_name_that_no_run_has_is_named(trained: list[str]) -> None:
    assert "no run has a number 'acuracy': did you mean 'accuracy'?" in mlfn.runs(where="max.acuracy > 0").note


def test_what_is_no_condition_is_refused_with_its_position() -> None:
    with pytest.raises(OptionError, match=r"where: lr is a number, and a condition compares"):
        mlfn.runs(where="lr")


def test_a_listing_is_a_table(trained: list[str]) -> None:
    failed = train.on("inline").submit(lr=0.3, fails=True)

    table = mlfn.runs().table()

    assert isinstance(table, pd.DataFrame)
    assert table["run"].tolist() == [failed.id, *trained[::-1]]
    assert table["state"].tolist() == ["failed", "succeeded", "succeeded", "succeeded"]
    assert table["lr"].tolist()[0] == 0.3 and math.isnan(table["lr"].tolist()[1])  # a default is not given
    assert table["size"].tolist()[1:] == [5, 2, 0]
    assert table["error"].tolist()[0] == "ValueError: on purpose"


def test_a_listing_of_no_runs_is_an_empty_table() -> None:
    assert len(mlfn.runs().table()) == 0
