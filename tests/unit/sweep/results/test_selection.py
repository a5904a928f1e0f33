"""Which child won: NaN never, ties to the lower number, and a metric that is not there is an error."""

from __future__ import annotations

import math
import random
import timeit

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlfn.errors import OptionError
from mlfn.spec.record import RunState
from mlfn.sweep.conditions.grammar import Selector, parse_selector, parse_selectors
from mlfn.sweep.results.child import Child
from mlfn.sweep.results.selection import best, check_reported, non_dominated, pareto

MAX, MIN = parse_selector("max.x"), parse_selector("min.x")
DONE = RunState.SUCCEEDED


def result(iteration, state, metrics, constraints=None, names=("x",)):
    return Child(
        iteration, f"r{iteration}", state, metrics, tuple(metrics.get(name) for name in names), constraints or {}
    )


def child(iteration, *selected, state=DONE, names=("x",), **constraints):
    metrics = {name: value for name, value in zip(names, selected, strict=True) if value is not None}
    return Child(iteration, "", state, metrics, selected, constraints)


def children(*values, states=(), **constraints):
    return [
        child(i, value, state=states[i - 1] if states else DONE, **constraints)
        for i, value in enumerate(values, start=1)
    ]


@pytest.mark.parametrize(
    ("selector", "values", "iteration"),
    [
        (MAX, [1, 3, 2], 2),
        (MIN, [1, 3, 2], 1),
        (MAX, [-3, -1, -2], 2),
        (MAX, [math.nan, -5, math.nan], 2),
        (MAX, [math.inf, -5, -math.inf], 2),
        (MIN, [-math.inf, 5, math.nan], 2),
        (MAX, [2, 2, 2], 1),
        (MIN, [3, 2, 2], 2),
        (MAX, [None, 1, None], 2),
        (MAX, [0.0, -0.0], 1),
        (MAX, [], None),
    ],
)
def test_the_best_is_the_one_with_the_best_finite_value(selector, values, iteration):
    found = best(children(*values), [selector])

    assert (found and found.iteration) == iteration


def test_ties_go_to_the_lower_number_however_they_are_given():
    given_ = children(1, 2, 2, 2)
    random.Random(1).shuffle(given_)

    assert best(given_, [MAX]).iteration == 2


@pytest.mark.parametrize("state", [state for state in RunState if state is not DONE])
def test_only_children_that_succeeded_count(state):
    given_ = children(9, 1, states=(state, DONE))

    assert best(given_, [MAX]).iteration == 2 and [c.iteration for c in pareto(given_, [MAX])] == [2]
    assert given_[0].numbers is None and given_[1].numbers == (1,)


@pytest.mark.parametrize("violation", [1e-300, 1, math.inf, math.nan])
def test_an_infeasible_child_does_not_count(violation):
    given_ = [*children(9, memory=violation), result(2, DONE, {"x": 1}, {"memory": 0, "time": -1})]

    assert best(given_, [MAX]).iteration == 2 and [c.iteration for c in pareto(given_, [MAX])] == [2]


def test_where_none_succeeded_or_is_feasible_there_is_no_best():
    failed = children(None, None, states=(RunState.FAILED, RunState.PRUNED))

    assert best(failed, [MAX]) is None and pareto(failed, [MAX]) == ()
    assert best(children(1, 2, memory=1), [MAX]) is None


@pytest.mark.parametrize(
    ("reported", "said"),
    [
        (
            {"accuracy": 1, "loss": 2},
            "select='max.acuracy': no child reports 'acuracy'. did you mean 'accuracy'? Allowed: ",
        ),
        ({}, "select='max.acuracy': no child reports 'acuracy'. None reports anything: log it by ctx.log_metric"),
    ],
)
def test_a_metric_that_no_child_reports_is_an_error_that_lists_those_reported(reported, said):
    given_ = [result(1, DONE, reported), result(2, RunState.FAILED, {})]
    for choose in (
        lambda: best(given_, [Selector("max", "acuracy")]),
        lambda: pareto(given_, [Selector("max", "acuracy")]),
        lambda: check_reported([("select='max.acuracy'", "acuracy")], given_),
    ):
        with pytest.raises(OptionError) as caught:
            choose()
        assert said in str(caught.value)


@given(st.lists(st.floats() | st.sampled_from([0.0, 1.0, 2.0]), max_size=20), st.sampled_from([MAX, MIN]))
def test_the_best_is_as_good_as_every_other(values, selector):
    found = best(children(*values), [selector])
    finite = [value for value in values if math.isfinite(value)]

    assert (found is None) is (not finite)
    if found is not None:
        assert found.metrics["x"] == (max if selector is MAX else min)(finite)
        assert found.iteration == 1 + min(i for i, value in enumerate(values) if value == found.metrics["x"])
        assert not any(selector.is_better(value, found.metrics["x"]) for value in values)


# -- Pareto
def dominates(one, other):
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


coordinates = st.integers(0, 4).map(float) | st.floats(-3, 3)


@given(st.integers(1, 5).flatmap(lambda size: st.lists(st.tuples(*[coordinates] * size), max_size=40)))
def test_the_front_is_what_no_other_point_dominates(points):
    slowly = [i for i, point in enumerate(points) if not any(dominates(other, point) for other in points)]

    assert non_dominated(points) == slowly


def test_the_front_follows_directions_and_keeps_equals():
    selectors = parse_selectors(["max.accuracy", "min.latency"])
    rows = [(0.9, 10), (0.8, 5), (0.7, 7), (0.9, 10), (0.95, 50), (math.nan, 1), (0.5, -math.inf)]
    names = ("accuracy", "latency")
    given_ = [result(i, DONE, {"accuracy": a, "latency": t}, names=names) for i, (a, t) in enumerate(rows, start=1)]

    front = pareto(reversed(given_), selectors)

    assert [one.iteration for one in front] == [1, 2, 4, 5]


@pytest.mark.parametrize("size", [2, 3])
def test_a_front_of_ten_thousand_is_found_quickly(size):
    # The worst case: all of them are on the front.
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(size), 10_000)
    points = [tuple(map(float, row)) for row in weights]

    taken = min(timeit.repeat(lambda: non_dominated(points), number=1, repeat=3))

    assert len(non_dominated(points)) == 10_000 and taken < 1
