"""What a function returns as the number to select by, and what a sweep says where that is none."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest

import mlfn
from mlfn.errors import SweepError


@mlfn.function
def give(value: Any) -> Any:
    return value


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (Decimal("0.5"), "is a decimal.Decimal, where a number is wanted"),
        (np.array(0.5), "is a numpy.ndarray, where a number is wanted"),
        ("0.5", "is a str, where a number is wanted"),
        (None, "is None, where a number is wanted"),
        (10**400, "is a whole number that no float holds"),
        (float("nan"), "is nan"),
        (float("inf"), "is inf"),
    ],
)
def test_a_sweep_without_a_best_child_says_what_the_first_one_returned(value: Any, says: str) -> None:
    sweep = give.on("inline").sweep([{"value": value}]).with_options(select="max.return").submit()

    with pytest.raises(SweepError) as caught:
        sweep.result()

    assert f"no child succeeded with a finite return: that of child 1 {says}" in str(caught.value)


@pytest.mark.parametrize("large", [2**53, 2**63, -(2**70), 10**30])
@pytest.mark.parametrize(("select", "best"), [("max.return", 1), ("min.return", 0)])
def test_whole_numbers_beyond_floats_compare_exactly(large: int, select: str, best: int) -> None:
    for order in ((0, 1), (1, 0)):
        points = [{"value": large + each} for each in order]

        sweep = give.on("inline").sweep(points).with_options(select=select).submit()
        sweep.wait()

        assert sweep.best.params["value"] == large + best
