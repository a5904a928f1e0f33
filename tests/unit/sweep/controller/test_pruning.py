"""Answers to points that children report."""

from __future__ import annotations

import logging

import pytest

from mlfn.errors import ParameterError
from mlfn.sweep.controller.pruning import Pruning


class Pruner:
    """Prunes each child at its third step, and fails or refuses where it is asked to."""

    def __init__(self, error=None):
        self.error = error
        self.steps = []

    def report(self, iteration, step, value):
        self.steps.append((iteration, step))
        if self.error is not None:
            raise self.error
        return f"pruned at step {step}" if step == 2 else None


def test_points_without_a_step_are_counted_by_child():
    pruner = Pruner()
    pruning = Pruning(pruner, "train", grace=60.0)

    answers = [pruning.verdict(run, iteration, None, 1.0) for _ in range(3) for iteration, run in enumerate("ab", 1)]

    assert answers == [None, None, None, None, "pruned at step 2", "pruned at step 2"]
    assert pruner.steps == [(1, 0), (2, 0), (1, 1), (2, 1), (1, 2), (2, 2)]


def test_a_child_that_does_not_stop_is_overdue_once():
    pruning = Pruning(Pruner(), "train", grace=0.0)
    pruning.verdict("a", 1, 2, 1.0)

    assert pruning.overdue() == ["a"]
    assert pruning.overdue() == []


@pytest.mark.parametrize("grace", [0.0, 60.0])
def test_a_child_that_stopped_is_never_overdue(grace):
    pruning = Pruning(Pruner(), "train", grace=grace)
    pruning.verdict("a", 1, 2, 1.0)
    pruning.forget("a")

    assert pruning.overdue() == []


def test_an_error_of_the_pruner_is_kept_and_ends_judging():
    error = ZeroDivisionError("a mistake in a pruner")
    pruner = Pruner(error)
    pruning = Pruning(pruner, "train", grace=0.0)

    assert [pruning.verdict("a", 1, step, 1.0) for step in range(3)] == [None] * 3
    assert pruning.error is error
    assert len(pruner.steps) == 1


def test_points_that_cannot_be_compared_are_named_once(caplog):
    pruning = Pruning(Pruner(ParameterError("a pruner counts whole steps from 0")), "train", grace=0.0)

    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert pruning.verdict("a", 1, -1, 1.0) is None

    assert [record.message for record in caplog.records] == [
        "a of train is not pruned by such points: a pruner counts whole steps from 0"
    ]
    assert pruning.error is None
