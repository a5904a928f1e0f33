"""Selectors and conditions: what they mean, how they are written, and what their errors point at."""

from __future__ import annotations

import math
import operator
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlfn.errors import MlfnError, OptionError
from mlfn.sweep.conditions.grammar import (
    Selector,
    parse_condition,
    parse_constraint,
    parse_selector,
    parse_selectors,
)


# -- selectors
@pytest.mark.parametrize(
    ("text", "selector"),
    [
        ("max.accuracy", Selector("max", "accuracy")),
        ("min.val.loss", Selector("min", "val.loss")),
        ("accuracy", Selector("max", "accuracy")),
        ("val.loss", Selector("max", "val.loss")),
        (" max.loss@last ", Selector("max", "loss", "last")),
        ("min.loss@best", Selector("min", "loss", "best")),
        ("loss@min", Selector("max", "loss", "min")),
        ("min.val/loss@max", Selector("min", "val/loss", "max")),
        ("max.min.x", Selector("max", "min.x")),
        ("maximal.x", Selector("max", "maximal.x")),
    ],
)
def test_a_selector_is_read(text, selector):
    assert parse_selector(text) == selector
    assert parse_selector(str(selector)) == selector


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max.loss@lst", "'lst' is no point of a series. did you mean 'last'? Allowed: best, last, max, min."),
        ("max.loss@", "'' is no point of a series"),
        ("max.loss@best@last", "'best@last' is no point of a series"),
        ("max", "write 'max.accuracy'. Allowed: max.NAME, min.NAME, NAME."),
        ("minimize.loss", "write 'min.loss'"),
        ("MAX.accuracy", "write 'max.accuracy'"),
        ("maximum", "write 'max.accuracy'"),
        ("max.", "names no metric"),
        ("min..x", "names no metric"),
        ("@last", "names no metric"),
        ("max. x", "names no metric"),
        ("", "select='' is no selector"),
        (None, "select=None is no selector"),
        (3, "select=3 is no selector"),
    ],
)
def test_what_is_no_selector_is_refused(text, said):
    with pytest.raises(OptionError) as caught:
        parse_selector(text)

    assert said in str(caught.value)


@given(st.text())
def test_no_text_upsets_the_selector(text):
    try:
        selector = parse_selector(text)
    except OptionError:
        return
    assert parse_selector(str(selector)) == selector


def test_several_selectors_keep_their_order():
    assert parse_selectors(["max.accuracy", "min.latency"]) == (Selector("max", "accuracy"), Selector("min", "latency"))


@pytest.mark.parametrize(
    ("given_", "said"),
    [(["max.x", "min.x"], "names 'x' twice"), ([3], "select=3 is no selector")],
)
def test_selectors_that_do_not_fit_are_refused(given_, said):
    with pytest.raises(OptionError, match=said):
        parse_selectors(given_)


@given(st.floats(), st.floats(), st.sampled_from(["max.x", "min.x"]))
def test_of_two_values_one_is_better_at_most(one, other, text):
    selector = parse_selector(text)

    assert not (selector.is_better(one, other) and selector.is_better(other, one))
    assert not selector.is_better(math.nan, one) and not selector.is_better(math.inf, one)


def test_a_value_is_better_by_the_direction():
    assert Selector("max", "x").is_better(2, 1) and Selector("min", "x").is_better(1, 2)
    assert Selector("max", "x").is_better(-1, math.nan) and Selector("max", "x").is_better(-1, math.inf)


# -- conditions: what they mean
METRICS = {"accuracy": 0.98, "val.loss": 0.2, "steps": 7, "flag": True, "bad": math.nan, "text": "1", "huge": 10**400}
NOW = {"elapsed": 601.0, "started": 12, "finished": 10, "failed": 2, "best": 0.98, "stagnation": 4}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("accuracy > 0.97", True),
        ("accuracy>.97", True),
        ("accuracy >= 0.98 and val.loss < 0.1", False),
        ("accuracy >= 0.98 or val.loss < 0.1", True),
        ("0.9 < accuracy <= 1", True),
        ("0.9 < accuracy <= 0.95", False),
        ("1 < 3 > 2", True),
        ("not accuracy > 0.97", False),
        ("not not accuracy > 0.97", True),
        ("not accuracy < 0.5 and steps == 7", True),
        ("accuracy < 0 or accuracy > 0 and steps == 0", False),
        ("(accuracy < 0 or accuracy > 0) and steps == 7", True),
        ("steps % 2 == 1", True),
        ("steps + 1 * 2 == 9", True),
        ("(steps + 1) * 2 == 16", True),
        ("10 - 2 - 3 == 5", True),
        ("-steps < -+-6", True),
        ("- -steps == 7", True),
        ("steps / 2 == 3.5", True),
        ("1e2 == 100 != 1E-2", True),
        ("flag == 1", True),
        ("steps != 7", False),
        ("elapsed > 10m", True),
        ("elapsed > 1h", False),
        ("90s == 1.5m", True),
        ("2h == 7200 == 7200000ms and 1d == 24h", True),
        ("failed / finished >= 0.2", True),
        ("stagnation >= 4 and best > 0.9", True),
        ("'accuracy' > 0.97", True),
        ('"val.loss" < 1', True),
        ("\n accuracy\t> 0.97 ", True),
        # what is unknown satisfies nothing
        ("bad > 0", False),
        ("bad != 0", False),
        ("not bad > 0", False),
        ("missing < 1", False),
        ("not missing < 1", False),
        ("missing < 1 or accuracy > 0.9", True),
        ("accuracy > 0.9 or missing < 1", True),
        ("missing < 1 and accuracy > 0.9", False),
        ("not (missing < 1 and accuracy < 0.9)", True),
        ("text == 1", False),
        ("huge > 1", False),
        ("steps / 0 > 1", False),
        ("not steps / 0 > 1", False),
        ("steps % 0 != 1", False),
        ("'elapsed' > 1", False),
    ],
)
def test_a_condition_holds(text, holds):
    assert parse_condition(text).holds(METRICS, NOW) is holds


def test_an_infinite_value_is_a_number():
    assert parse_condition("loss > 1e9").holds({"loss": math.inf})


def test_a_condition_says_what_it_speaks_of():
    condition = parse_condition("a.b > 1 and -c * 2 < elapsed or not 'best' == best")

    assert condition.names() == {"a.b", "c", "best"} and condition.words() == {"elapsed", "best"}


def test_without_words_every_name_is_a_metric():
    assert parse_constraint("best <= 16 and elapsed < 3").names() == {"best", "elapsed"}


# -- conditions that are generated with what they must come to: (text, metrics -> number or truth)
def quoted(name):
    return "'" + re.sub(r"(['\\])", r"\\\1", name) + "'"


names = st.sampled_from(["a", "val.loss", "größe", "and", "elapsed", "val/loss", "it's", "\\", "a b"]) | st.text(
    min_size=1
)
metrics = names.map(lambda name: (quoted(name), lambda values: values.get(name, math.nan)))
numbers = st.tuples(st.integers(0, 99), st.sampled_from([("", 1.0), ("ms", 0.001), ("m", 60.0), ("d", 86400.0)])).map(
    lambda it: (f"{it[0]}{it[1][0]}", lambda _: it[0] * it[1][1])
)
SIGNS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "%": operator.mod}
COMPARISONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq}


def arithmetic(left, sign, right):
    def value(values):
        try:
            return SIGNS[sign](left[1](values), right[1](values))
        except ZeroDivisionError:
            return math.nan

    return f"({left[0]}) {sign} ({right[0]})", value


def comparison(left, sign, right):
    def truth(values):
        one, other = left[1](values), right[1](values)
        return None if math.isnan(one) or math.isnan(other) else COMPARISONS[sign](one, other)

    return f"{left[0]} {sign} {right[0]}", truth


def negation(inner):
    return f"not ({inner[0]})", lambda values: None if inner[1](values) is None else not inner[1](values)


def conjunction(one, other):
    def truth(values):
        found = {one[1](values), other[1](values)}
        return False if False in found else None if None in found else True

    return f"({one[0]}) and ({other[0]})", truth


def disjunction(one, other):
    return f"({one[0]}) or ({other[0]})", negation(conjunction(negation(one), negation(other)))[1]


numeric = st.recursive(
    numbers | metrics, lambda inner: st.builds(arithmetic, inner, st.sampled_from(list(SIGNS)), inner), max_leaves=3
)
truths = st.recursive(
    st.builds(comparison, numeric, st.sampled_from(list(COMPARISONS)), numeric),
    lambda inner: (
        st.builds(negation, inner) | st.builds(conjunction, inner, inner) | st.builds(disjunction, inner, inner)
    ),
    max_leaves=3,
)


@given(truths, st.dictionaries(names, st.floats(), max_size=5))
def test_a_condition_holds_just_where_it_is_true(condition, values):
    text, truth = condition
    if len(text) <= 4000:
        assert parse_constraint(text).holds(values) is (truth(values) is True)


ALPHABET = st.sampled_from(
    [*"()<>=!+-*/% .'\"\\\n&|^0189aezs_", "and", "or", "not", "elapsed", "10m", "1e999", "é", "٣", "x"]
)


@given(st.text() | st.lists(ALPHABET, max_size=30).map("".join) | st.lists(ALPHABET, max_size=30).map(" ".join))
def test_any_text_parses_or_raises_option_error(text):
    try:
        condition = parse_condition(text)
    except OptionError:
        return
    condition.holds({"a": 1.0, "x": math.nan}, NOW)


@pytest.mark.parametrize(
    ("text", "said", "column"),
    [
        ("accuracy > ", "Expected a metric, a number or '(', and found the end", 11),
        ("accuracy > > 1", "Expected a metric, a number or '(', and found '>'", 11),
        ("accuracy", "accuracy is a number, and a condition compares: write, say, accuracy > 0.9", 0),
        ("a > 1 and b", "b is a number, and a condition compares", 10),
        ("not a", "a is a number, and a condition compares", 4),
        ("a and b > 1", "a is a number", 0),
        ("(a > 1) + 2 > 3", "a > 1 is true or false, and a number is expected here", 1),
        ("2 + (a > 1) > 3", "a > 1 is true or false", 5),
        ("-(a > 1) > 3", "a > 1 is true or false", 2),
        ("a > (b or c > 1)", "b or c > 1 is true or false", 5),
        ("(a > 1", "'(' was never closed", 0),
        ("(a > 1 b", "Expected the end, 'and', 'or' or an operator", 7),
        ("a > 1)", "unmatched ')'", 5),
        ("a > not b", "found 'not'", 4),
        ("f(1) > 0", "Expected the end, 'and', 'or' or an operator", 1),
        ("a > 1 adn b > 1", "Expected the end, 'and', 'or' or an operator. did you mean 'and'", 6),
        ("a = 1", "'=' is no part of a condition: write ==", 2),
        ("a > 1 && b > 1", "'&' is no part of a condition: write and", 6),
        ("a > 1 | b", "write or", 6),
        ("!a", "write not", 0),
        ("a ≥ 1", "write >=", 2),
        ("a > 'b", "write a closing quote", 4),
        ("a ** 2 > 1", "found '*'", 3),
        ("a[0] > 1", "'[' is no part of a condition", 1),
        ("elapsed > 10min", "'min' is no unit of time. did you mean 'm'? Allowed: d, h, m, ms, s.", 10),
        ("elapsed > 3y", "'y' is no unit of time. Allowed", 10),
        ("a > 1e999", "1e999 is more than a float can hold", 4),
        ("'' > 1", "An empty text names no metric", 0),
        ("", "Expected a metric, a number or '(', and found the end", 0),
        ("a >\n> 1", "found '>'", 4),
        ("and > 1", "found 'and'", 0),
        ("not " * 150 + "a > 1", "more than 100 levels", 404),
        ("-" * 150 + "a > 1", "more than 100 levels", 100),
        ("a + " * 200 + "a > 1", "more than 100 levels", 0),
    ],
)
def test_an_error_points_at_what_is_wrong(text, said, column):
    with pytest.raises(OptionError) as caught:
        parse_condition(text)

    lines = str(caught.value).split("\n")
    assert said in lines[0] and lines[0].startswith("stop_when: ")
    assert lines[1] == "  " + text.replace("\n", " ") and lines[2] == " " * (column + 2) + "^"


@pytest.mark.parametrize("text", ["(" * 1900 + "a > 1" + ")" * 1900, "(" * 3999, "not " * 990 + "a > 1"])
def test_a_text_nested_too_deeply_is_refused(text):
    with pytest.raises(OptionError, match=r"nested|levels|Expected a metric"):
        parse_condition(text)


def test_parentheses_alone_may_be_many():
    assert parse_condition("(" * 80 + "a > 1" + ")" * 80).holds({"a": 2})


def test_other_types_and_long_texts_are_refused():
    with pytest.raises(OptionError, match="stop_when=3 is no condition"):
        parse_condition(3)
    with pytest.raises(OptionError, match="subject_to has 200005 characters"):
        parse_constraint("(" * 100_000 + "a > 1" + ")" * 100_000)


def test_a_text_is_never_run_as_python():
    for text in (
        "__import__('os').system('true') > 0",
        "open('x') > 1",
        "a.__class__ > 1 or (lambda: 1)() > 0",
        "f(1) > 0",
    ):
        with pytest.raises(MlfnError):
            parse_condition(text)


def test_many_alternatives_are_one_level():
    condition = parse_condition(" or ".join(f"m{i} > {i}" for i in range(300)))

    assert condition.holds({"m299": 300}) and not condition.holds({"m299": 299})


@pytest.mark.parametrize(
    ("text", "violation"),
    [
        ("mem <= 16", 4),
        ("mem < 20", math.ulp(0)),
        ("mem <= 20", 0),
        ("mem >= 25", 5),
        ("mem == 18", 2),
        ("mem != 20", math.ulp(0)),
        ("mem != 17", -3),
        ("10 <= mem <= 15", 5),
        ("mem <= 16 and time < 100", 4),
        ("mem <= 16 or time < 100", -97),
        ("not mem > 16", 4),
        ("not (mem <= 16 or time < 1)", -2),
        ("not (mem <= 25 and time < 1)", -2),
        ("missing <= 16", math.inf),
        ("not missing <= 16", math.inf),
        ("mem / 0 <= 16", math.inf),
    ],
)
def test_violation_measures_how_far_a_bound_is(text, violation):
    assert parse_constraint(text).violation({"mem": 20, "time": 3}) == violation
