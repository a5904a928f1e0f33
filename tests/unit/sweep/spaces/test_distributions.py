"""Distributions: what they give, what they refuse, and that they are the same everywhere."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from statistics import NormalDist, fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mlfn
from mlfn.errors import ParameterError
from mlfn.sweep.spaces.distributions import (
    Space,
    as_spaces,
    choice,
    draw,
    lograndint,
    loguniform,
    normal,
    ordinal,
    parents_first,
    quniform,
    randint,
    uniform,
)

LARGEST = 1 - 2.0**-53
units = st.floats(0, LARGEST)
finite = st.floats(-1e300, 1e300)
positive = st.floats(1e-300, 1e300)
whole = st.integers(-(10**30), 10**30)


def bounds(values):
    return st.tuples(values, values).map(sorted)


def itself(value):
    return value


@given(bounds(finite), units)
def test_a_uniform_value_lies_within_its_bounds(pair, u):
    value = uniform(*pair).at(u)

    assert pair[0] <= value <= pair[1] and type(value) is float


@given(bounds(positive), units)
def test_a_loguniform_value_lies_within_its_bounds(pair, u):
    assert pair[0] <= loguniform(*pair).at(u) <= pair[1]


@given(bounds(whole), units)
def test_randint_of_any_size_stays_within_bounds(pair, u):
    value = randint(*pair).at(u)

    assert pair[0] <= value <= pair[1] and type(value) is int


@given(bounds(st.integers(1, 10**30)), units)
def test_a_lograndint_is_an_int_within_its_bounds(pair, u):
    value = lograndint(*pair).at(u)

    assert pair[0] <= value <= pair[1] and type(value) is int


@given(st.integers(-1000, 1000), st.integers(0, 1000), st.integers(1, 500), units)
def test_quniform_values_are_whole_steps_from_low(low, width, q, u):
    low, high, q = low / 100, (low + width) / 100, q / 100

    value = quniform(low, high, q).at(u)

    steps = (Decimal(repr(value)) - Decimal(repr(low))) / Decimal(repr(q))
    assert steps == int(steps) and low <= value <= high


@pytest.mark.parametrize(
    "space",
    [uniform(-3, 7), loguniform(1e-5, 10), quniform(0, 1, 0.1), randint(-5, 5), lograndint(1, 9), normal(1, 2)],
    ids=repr,
)
@given(pair=bounds(units))
def test_a_larger_share_gives_no_smaller_value(space, pair):
    assert space.at(pair[0]) <= space.at(pair[1])


def test_both_ends_are_reached_and_counts_are_even():
    thirds = [randint(1, 3).at((i + 0.5) / 999) for i in range(999)]
    steps = [quniform(0, 1, 0.1).at((i + 0.5) / 1100) for i in range(1100)]

    assert [thirds.count(n) for n in (1, 2, 3)] == [333, 333, 333]
    assert sorted(set(steps)) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert {lograndint(1, 8).at(i / 100) for i in range(100)} == set(range(1, 9))


def test_step_that_misses_high_ends_below_it():
    assert quniform(0, 1, 0.3).at(LARGEST) == 0.9


@given(units)
def test_a_value_has_at_most_twelve_digits(u):
    for space in (uniform(0, 1), loguniform(1e-6, 1), normal(0, 1)):
        value = space.at(u)

        assert value == float(f"{value:.12g}")


def test_values_are_known_by_heart():
    # Made once; another machine or Python version must give the same.
    known = {
        uniform(-1, 1): [-1.0, -0.753086419753, 0.9999999998],
        loguniform(1e-4, 1): [0.0001, 0.000311764858264, 0.999999999079],
        normal(0, 1): [-8.29236107581, -1.15787860365, 6.3613408897],
        lograndint(1, 10**6): [1, 3, 1000000],
    }

    got = {space: [space.at(u) for u in (0.0, 10 / 81, 1 - 1e-10)] for space in known}

    assert got == known


@given(st.floats(1e-9, 1 - 1e-9))
def test_a_normal_value_is_the_quantile(u):
    assert normal(0, 1).at(u) == pytest.approx(NormalDist().inv_cdf(u), rel=1e-10, abs=1e-10)


def test_a_normal_is_symmetric_and_centred():
    values = [normal(10, 2).at((i + 0.5) / 1000) for i in range(1000)]

    assert fmean(values) == pytest.approx(10)
    assert normal(0, 1).at(0.5) == 0


@pytest.mark.parametrize("options", [[1, True, "1", None], [[1, 2], {"a": 1}], (0.5,), range(3), np.array([1, 2])])
def test_a_choice_gives_the_very_options(options):
    space = choice(options)

    got = [space.at((i + 0.5) / len(options)) for i in range(len(options))]

    assert [(type(value), value) for value in got] == [(type(v), v) for v in space.options]


def test_a_range_is_kept_as_it_is():
    assert choice(range(10**15)).at(0.5) == 5 * 10**14


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: uniform(2, 1), "uniform(2.0, 1.0): low=2.0 is above high=1.0: write the lower bound first."),
        (lambda: uniform("0", 1), "uniform('0', 1): low must be a number, and is '0' (str)."),
        (lambda: uniform(True, 2), "low must be a number, and is True (bool)"),
        (lambda: uniform(0, math.inf), "high must be a finite number, and is inf"),
        (lambda: uniform(math.nan, 1), "low must be a finite number, and is nan"),
        (lambda: uniform(0, 10**400), "high must be a finite number"),
        (lambda: uniform(None, 1), "low must be a number, and is None"),
        (lambda: loguniform(0, 1), "loguniform(0.0, 1.0): low=0.0 must be above 0: a logarithm has no other"),
        (lambda: loguniform(-1, 1), "must be above 0"),
        (lambda: quniform(0, 1, 0), "q=0.0 must be above 0"),
        (lambda: quniform(1, 0, 0.5), "write the lower bound first"),
        (lambda: randint(1, 2.5), "high must be a whole number, and is 2.5 (float); for floats write uniform"),
        (lambda: randint(3, 1), "low=3 is above high=1"),
        (lambda: lograndint(0, 5), "low=0 must be 1 or more"),
        (lambda: normal(0, 0), "sd=0.0 must be above 0"),
        (lambda: normal(0, 1e308), "exceed what a float can hold"),
        (lambda: choice("adam"), "choice('adam'): options='adam' is one text where a list is meant"),
        (lambda: choice([]), "options=[] is empty"),
        (lambda: ordinal({1, 2}), "is a set, which has no order"),
        (lambda: choice(iter([1])), "can be read only once"),
        (lambda: choice({"a": 1}), "is a mapping where a list is meant"),
        (lambda: choice(3), "(int) is no list"),
        (lambda: uniform(0, 1).when(), "names no parameter"),
        (lambda: uniform(0, 1).when(opt=[]), "is no value of 'opt'"),
        (lambda: uniform(0, 1).when(opt={"adam"}), "is no value of 'opt'"),
    ],
)
def test_what_makes_no_space_is_refused_at_once(make, said):
    with pytest.raises(ParameterError) as caught:
        make()

    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("space", "shown"),
    [
        (uniform(0, 1), "uniform(0.0, 1.0)"),
        (quniform(0, 1, 0.25), "quniform(0.0, 1.0, 0.25)"),
        (randint(np.int64(2), 32), "randint(2, 32)"),
        (choice(["adam", None]), "choice(['adam', None])"),
        (ordinal(range(9)), "ordinal(range(0, 9))"),
        (choice(range(9)).when(opt="sgd", depth=[1, 2]), "choice(range(0, 9)).when(opt='sgd').when(depth=[1, 2])"),
    ],
)
def test_a_space_shows_itself_as_it_is_written(space, shown):
    assert repr(space) == shown


@pytest.mark.parametrize(
    "space",
    [
        uniform(0, 1),
        loguniform(1e-4, 1).when(opt="sgd").when(depth=[1, None]),
        quniform(0, 1, 0.1),
        randint(1, 10**40),
        lograndint(1, 3),
        normal(0, 1),
        choice([1, "1", None]),
        ordinal(range(3)),
    ],
    ids=repr,
)
def test_a_space_comes_back_from_json(space):
    again = Space.from_json(json.loads(json.dumps(space.to_json(itself))), itself)

    assert again == space and type(again) is type(space) and repr(again) == repr(space)


def test_each_option_goes_through_the_encoder():
    space = choice([1j, b"x"]).when(opt=2j)

    data = json.loads(json.dumps(space.to_json(repr)))

    assert Space.from_json(data, eval) == space


def test_equal_spaces_are_equal_and_frozen():
    assert uniform(0, 1) == uniform(0.0, 1.0) and hash(uniform(0, 1)) == hash(uniform(0, 1))
    assert uniform(0, 1).when(a=1) != uniform(0, 1)
    with pytest.raises(AttributeError):
        uniform(0, 1).low = 3


# -- conditions
SPACES = {
    "nesterov": choice([True, False]).when(momentum=0.9),
    "momentum": choice([0.5, 0.9]).when(opt=["sgd", "rms"]),
    "opt": choice(["adam", "sgd", "rms"]),
}


def drawn(spaces, **u):
    return draw(spaces, parents_first(spaces), u.__getitem__)


@pytest.mark.parametrize(
    ("u", "params"),
    [
        ({"opt": 0, "momentum": 0.9, "nesterov": 0}, {"opt": "adam"}),
        ({"opt": 0.5, "momentum": 0, "nesterov": 0}, {"momentum": 0.5, "opt": "sgd"}),
        ({"opt": 0.9, "momentum": 0.9, "nesterov": 0}, {"nesterov": True, "momentum": 0.9, "opt": "rms"}),
    ],
)
def test_draw_omits_parameters_whose_condition_fails(u, params):
    got = drawn(as_spaces(SPACES), **u)

    assert got == params and list(got) == list(params)


def test_parents_come_before_what_depends_on_them():
    assert parents_first(as_spaces(SPACES)) == ("opt", "momentum", "nesterov")


def test_true_is_not_one_in_a_condition():
    spaces = as_spaces({"flag": [1, True], "lr": uniform(0, 1).when(flag=True)})

    assert "lr" not in drawn(spaces, flag=0, lr=0) and "lr" in drawn(spaces, flag=0.9, lr=0)


def test_condition_on_dotted_key_is_a_mapping():
    spaces = as_spaces({"model.opt": ["adam", "sgd"], "lr": uniform(0, 1).when({"model.opt": "sgd"})})

    assert draw(spaces, parents_first(spaces), lambda key: 0) == {"model.opt": "adam"}


@pytest.mark.parametrize(
    ("spaces", "said"),
    [
        (
            {"lr": uniform(0, 1).when(otp="sgd"), "opt": ["sgd"]},
            "depends on 'otp', which is not swept. did you mean 'opt'",
        ),
        (
            {"lr": uniform(0, 1).when(opt="sdg"), "opt": ["sgd", "adam"]},
            "a value that 'opt' never has. did you mean 'sgd'",
        ),
        ({"lr": uniform(0, 1).when(opt=1), "opt": [True, "a"]}, "a value that 'opt' never has. Allowed: [True, 'a']"),
        (
            {"a": choice([1]).when(b=1), "b": choice([1]).when(c=1), "c": choice([1]).when(a=1)},
            "The conditions of 'a' are circular: a -> b -> c -> a.",
        ),
        ({"a": choice([1]).when(a=1)}, "are circular: a -> a"),
        ({"opt": "adam"}, "opt='adam' is one text where a list is meant: write opt=['adam']"),
        ({"opt": 3}, "opt=3 (int) is no list"),
    ],
)
def test_spaces_that_do_not_fit_together_are_refused(spaces, said):
    with pytest.raises(ParameterError) as caught:
        as_spaces(spaces)

    assert said in str(caught.value)


def test_the_public_names_make_spaces():
    made = [
        mlfn.uniform(0, 1),
        mlfn.loguniform(1, 2),
        mlfn.quniform(0, 1, 0.5),
        mlfn.randint(0, 1),
        mlfn.lograndint(1, 2),
        mlfn.normal(0, 1),
        mlfn.choice([1]),
        mlfn.ordinal([1]),
    ]

    assert all(isinstance(space, Space) for space in made)
