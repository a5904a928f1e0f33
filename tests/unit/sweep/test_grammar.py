"""Selectors and conditions: what they mean, how they are written, and what their errors point at."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlfn.errors import MlfnError, OptionError
from mlfn.sweep.condition import And, Arithmetic, Comparison, Metric, Minus, Not, Number, Or, Word
from mlfn.sweep.grammar import (
    WORDS,
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
    assert parse_selector(selector) is selector


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
    assert parse_selectors("loss@min") == (Selector("max", "loss", "min"),)
    assert parse_selectors(Selector("max", "x")) == (Selector("max", "x"),)


@pytest.mark.parametrize(
    ("given_", "said"),
    [([], "is no selector"), (["max.x", "min.x"], "names 'x' twice"), ({"x": 1}, "is no selector"), ([3], "select=3")],
)
def test_selectors_that_do_not_fit_are_refused(given_, said):
    with pytest.raises(OptionError, match=said):
        parse_selectors(given_)


@pytest.mark.parametrize(
    ("text", "series", "value"),
    [
        ("max.x", [1, 3, 2], 2),
        ("max.x@best", [1, math.nan, 3, 2], 3),
        ("min.x@best", [2, 1, math.nan, 3], 1),
        ("max.x@min", [2, 1, 3], 1),
        ("min.x@max", [2, 1, 3], 3),
        ("max.x@best", [math.nan], None),
        ("max.x", [], None),
    ],
)
def test_a_series_is_reduced_to_the_point_that_counts(text, series, value):
    assert parse_selector(text).reduced(series) == value


def test_the_last_point_counts_even_if_it_is_no_number():
    assert math.isnan(parse_selector("max.x").reduced([1, math.nan]))


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


# -- conditions: how they are written
names = st.one_of(
    st.sampled_from(["a", "val.loss", "x_1", "f1.0", "größe", "and", "elapsed", "val/loss", "it's", "\\", "a b"]),
    st.text(min_size=1, max_size=5),
)
metrics = names.map(lambda name: Metric(name, quoted=name in WORDS))
numbers = st.builds(Number, st.floats(0, 1e300), st.sampled_from(["", "s", "m", "h", "d", "ms"]))
numeric = st.recursive(
    numbers | metrics | st.sampled_from(list(WORDS)).map(Word),
    lambda inner: st.builds(Minus, inner) | st.builds(Arithmetic, inner, st.sampled_from("+-*/%"), inner),
    max_leaves=5,
)


@st.composite
def comparisons(draw):
    signs = tuple(draw(st.lists(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), min_size=1, max_size=3)))
    return Comparison(tuple(draw(numeric) for _ in range(len(signs) + 1)), signs)


truths = st.recursive(
    comparisons(),
    lambda inner: (
        st.builds(Not, inner)
        | st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple))
        | st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple))
    ),
    max_leaves=4,
)


@given(truths)
def test_a_tree_that_is_written_and_read_is_the_same(tree):
    written = str(tree)
    if len(written) <= 4000:
        assert parse_condition(written).tree == tree


@given(truths, st.dictionaries(names, st.floats(), max_size=5))
def test_a_condition_holds_just_where_it_is_not_violated(tree, values):
    try:
        condition = parse_constraint(str(tree))
    except OptionError:
        return  # longer than a condition may be

    assert condition.holds(values) is (condition.violation(values) <= 0)


ALPHABET = st.sampled_from(
    [*"()<>=!+-*/% .'\"\\\n&|^0189aezs_", "and", "or", "not", "elapsed", "10m", "1e999", "é", "٣", "x"]
)


@given(st.text() | st.lists(ALPHABET, max_size=30).map("".join) | st.lists(ALPHABET, max_size=30).map(" ".join))
def test_no_text_raises_anything_but_the_error_of_the_grammar(text):
    try:
        condition = parse_condition(text)
    except OptionError:
        return
    condition.holds({"a": 1.0, "x": math.nan}, NOW)
    assert parse_condition(str(condition.tree)).tree == condition.tree


@pytest.mark.parametrize(
    ("text", "said", "column"),
    [
        ("accuracy > ", "Expected a metric, a number or '(', and found the end", 11),
        ("accuracy > > 1", "Expected a metric, a number or '(', and found '>'", 11),
        ("accuracy", "accuracy is a number, and a condition compares: write, say, accuracy > 0.9", 0),
        ("a > 1 and b", "b is a number, and a condition compares", 10),
        ("not a", "a is a number, and a condition compares", 4),
        ("a and b > 1", "a is a number", 0),
        ("(a > 1) + 2 > 3", "(a > 1) is true or false, and a number is expected here", 0),
        ("2 + (a > 1) > 3", "(a > 1) is true or false", 4),
        ("-(a > 1) > 3", "(a > 1) is true or false", 1),
        ("a > (b or c > 1)", "b is a number", 5),
        ("(a > 1", "Expected ')' for this parenthesis", 0),
        ("(a > 1 b", "Expected ')' for this parenthesis", 7),
        ("a > 1)", "Expected the end, 'and', 'or' or an operator", 5),
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
        ("(" * 100 + "a > 1" + ")" * 100, "nested deeper than 60 levels", 60),
        ("not " * 100 + "a > 1", "nested deeper than 60 levels", 240),
        ("-" * 100 + "a > 1", "nested deeper than 60 levels", 60),
        ("a + " * 200 + "a > 1", "more than 120 levels", 478),
    ],
)
def test_an_error_points_at_what_is_wrong(text, said, column):
    with pytest.raises(OptionError) as caught:
        parse_condition(text)

    lines = str(caught.value).split("\n")
    assert said in lines[0] and lines[0].startswith("stop_when: ")
    assert lines[1] == "  " + text.replace("\n", " ") and lines[2] == " " * (column + 2) + "^"


def test_what_is_no_text_or_too_long_is_refused():
    with pytest.raises(OptionError, match="stop_when=3 is no condition"):
        parse_condition(3)
    with pytest.raises(OptionError, match="subject_to has 5000 characters"):
        parse_constraint("a" * 5000)


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
def test_a_violation_says_by_how_much_a_bound_is_missed(text, violation):
    assert parse_constraint(text).violation({"mem": 20, "time": 3}) == violation
