"""Verdicts on points that children report: Optuna's own, or by its rules."""

from __future__ import annotations

import math
import random

import optuna
import pytest

from mlfn.errors import ParameterError
from mlfn.spec.record import RunState
from mlfn.sweep.optuna import Search
from mlfn.sweep.spaces.distributions import uniform
from mlfn.sweep.strategy import Told
from tests.unit.sweep.optuna.searching import succeeded, tell_all

FAIL = optuna.trial.TrialState.FAIL


def search(pruner="median", **more):
    return Search({"x": uniform(0, 1)}, 100, **{"directions": ("max",), "sampler": "random", **more}, pruner=pruner)


def after(one, count, value=1.0, steps=4):
    for iteration in range(1, count + 1):
        one.tell(succeeded(iteration, one.ask(iteration), value, series=tuple((step, value) for step in range(steps))))
    one.ask(count + 1)
    return one


def test_a_child_below_the_median_is_pruned_and_told_why():
    one = after(search(), 5)

    assert one.report(6, 0, 1.5) is None
    assert one.report(6, 1, 0.25) is None  # its best so far counts
    one.ask(7)
    assert one.report(7, 2, 0.25) == "pruned by median at step 2, with 0.25"


def test_less_is_better_where_it_should_be():
    one = after(search(directions=("min",)), 5)

    assert one.report(6, 0, 0.5) is None
    one.ask(7)
    assert one.report(7, 0, 1.5)


def test_without_a_pruner_nothing_is():
    one = after(search(None), 5)

    assert one.report(6, 0, -1e9) is None


def test_the_first_value_of_a_step_counts_as_with_optuna():
    one = after(search(), 5)
    one.report(6, 0, 2.0)
    one.report(6, 0, 0.1)
    one.tell(Told(6, one.ask(6), RunState.PRUNED, None, ((0, 2.0), (0, 0.1), (1, 5.0), (1, 6.0))))

    assert one._trials[5].intermediate_values == {0: 2.0, 1: 5.0}


def test_a_value_that_is_no_number_is_pruned_as_with_optuna():
    assert after(search(), 5).report(6, 0, math.nan)
    assert after(search("threshold"), 1).report(2, 0, math.nan)
    assert after(search("threshold"), 1).report(2, 0, math.inf)
    assert after(search("threshold"), 1).report(2, 0, 1e300) is None


@pytest.mark.parametrize("step", [1.0, "1", True, -1, None])
def test_a_step_is_a_whole_number_from_zero(step):
    with pytest.raises(ParameterError, match="whole steps from 0"):
        after(search(), 1).report(2, step, 1.0)


def test_a_step_below_zero_in_a_stored_series_is_passed_over():
    one = search()
    one.tell(succeeded(1, one.ask(1), 1.0, series=((-1, 9.0), (0, 1.0))))

    assert one._trials[0].intermediate_values == {0: 1.0}


def test_a_child_that_nobody_asked_for_or_that_ended_has_no_verdict():
    one = after(search(), 5)

    assert one.report(50, 0, -9.0) is None
    assert one.report(2, 0, -9.0) is None


def test_a_pruner_of_the_users_is_asked():
    one = after(search(optuna.pruners.ThresholdPruner(lower=0.5)), 1)

    assert one.report(2, 0, 0.75) is None
    assert one.report(2, 1, 0.25) == "pruned by ThresholdPruner at step 1, with 0.25"


def test_patience_spares_a_child_that_gets_better():
    one = after(search("patient"), 6, steps=12)

    assert [one.report(7, step, 0.01 * step) for step in range(8)] == [None] * 8
    one.ask(8)
    assert any(one.report(8, step, 0.1 - step / 100) for step in range(12))


def test_a_statistical_test_on_folds():
    one = after(search("wilcoxon"), 2, steps=10)

    assert any(one.report(3, fold, 0.1 + fold / 100) for fold in range(10))


@pytest.mark.parametrize("direction", ["min", "max"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("asha", lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=1)),
        ("hyperband", optuna.pruners.HyperbandPruner),
    ],
)
def test_halving_rebuilt_prunes_as_optuna_undisturbed(name, theirs, seed, direction):
    """Children side by side, point by point; Optuna's study lives on, ours is rebuilt now and then."""

    def rebuilt():
        return tell_all(search(name, directions=(direction,), seed=seed), [tolds[i] for i in sorted(tolds)])

    def told(child, state):
        trial, points, level = child
        values = (level,) if state is RunState.SUCCEEDED else None
        tolds[trial.number + 1] = Told(trial.number + 1, {"x": 0.5}, state, values, tuple(points))
        return tolds[trial.number + 1]

    draw, steps, verdicts = random.Random(seed), 30, []
    study = optuna.create_study(direction=f"{direction}imize", study_name=f"search-{seed}", pruner=theirs())
    # Which tells Hyperband the largest step, and competes nowhere.
    study.add_trial(optuna.trial.create_trial(value=1.0, intermediate_values={steps - 1: math.nan}))
    tolds = {1: Told(1, {"x": 0.5}, RunState.SUCCEEDED, (1.0,), ((steps - 1, math.nan),))}
    ours, running = rebuilt(), []
    for _ in range(300):
        if len(running) < 4:
            running.append((study.ask(), [], draw.random()))
            ours.tell(told(running[-1], RunState.RUNNING))
        trial, points, level = child = draw.choice(running)
        step = len(points)
        points.append((step, math.nan if draw.random() < 0.02 else level + draw.random() / (step + 1)))
        trial.report(points[-1][1], step)
        verdicts.append((trial.should_prune(), ours.report(trial.number + 1, *points[-1]) is not None))
        if verdicts[-1][0] or len(points) == steps:
            running.remove(child)
            state = RunState.FAILED if draw.random() < 0.1 else RunState.SUCCEEDED
            ours.tell(told(child, state))
            study.tell(trial, **({"values": level} if state is RunState.SUCCEEDED else {"state": FAIL}))
        if draw.random() < 0.1:
            for each in running:
                told(each, RunState.RUNNING)
            ours = rebuilt()

    assert [one for one, _ in verdicts] == [other for _, other in verdicts]
    assert any(one for one, _ in verdicts)
