"""Which grids a place gets whole although they may fail early: those whose failures it can count."""

from __future__ import annotations

from dataclasses import replace

import pytest

import mlfn
from mlfn.backends.registry import capabilities
from mlfn.spec.record import RunState
from mlfn.sweep.controller.loop import _is_countable
from mlfn.sweep.controller.scoreboard import Scoreboard
from mlfn.sweep.results.child import Child
from mlfn.sweep.spec import SweepBody
from tests.unit.backends.test_kubernetes import PLAN


@pytest.mark.parametrize(
    ("size", "retry", "countable"),
    [
        (10, None, True),
        (11, None, False),  # two executions, of which each would count by itself
        (None, None, False),
        (10, mlfn.Retry(0), True),
        (10, mlfn.Retry(1), False),  # one that fails may succeed yet
    ],
)
def test_a_place_can_count_where_one_execution_has_all_children_and_none_is_tried_again(
    size: int | None, retry: mlfn.Retry | None, countable: bool
) -> None:
    assert _is_countable(SweepBody(size=size, max_failures=2), replace(PLAN, retry=retry), 10) is countable


def test_only_a_place_that_counts_says_so() -> None:
    assert [name for name in ("local", "dask", "kubernetes") if capabilities(name).counts_failures] == ["kubernetes"]


@pytest.mark.parametrize(("most", "left"), [(None, None), (0, 1), (1, 1), (3, 2)])
def test_what_may_still_fail_is_counted_down(most: int | None, left: int | None) -> None:
    board = Scoreboard((), SweepBody(max_failures=most))

    board.add(Child(1, "a", RunState.FAILED), elapsed=1.0)

    assert board.failures_left == left
