"""Parallel coordinates as one SVG: what is drawn, what is left out, and that nothing in it is obeyed."""

from __future__ import annotations

import math
import time
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import pytest

from mlfn.sweep.results.parallel_coordinates import draw, parallel_coordinates
from mlfn.sweep.results.scales import axis_of, text_of
from mlfn.sweep.results.table import Table

NS = "{http://www.w3.org/2000/svg}"


def table_of(points, scores, state="succeeded", metric="accuracy"):
    keys = tuple(dict.fromkeys(key for point in points for key in point))
    columns = {"iteration": list(range(1, len(points) + 1)), "state": [state] * len(points)}
    columns |= {key: [point.get(key) for point in points] for key in keys}
    columns[metric] = list(scores)
    return Table(columns, keys, (metric,))


def lines(picture):
    """Return (group, title, points) of each line, in the order in which they are drawn."""
    root = ET.fromstring(picture.svg)
    return [
        (group.get("class"), path.find(f"{NS}title").text, path.get("d"))
        for group in root.iter(f"{NS}g")
        for path in group.iter(f"{NS}path")
    ]


def ticks(picture):
    return [text.text for text in ET.fromstring(picture.svg).iter(f"{NS}text") if text.get("class") is None]


def test_each_child_is_a_line_and_the_best_is_drawn_last():
    table = table_of([{"lr": 0.1, "depth": d} for d in (4, 8, 16)], [0.5, 0.9, 0.7])

    drawn = lines(draw(table, "max.accuracy", 2))

    assert [group for group, _, _ in drawn] == ["s0", "s3", "best"]
    assert drawn[-1][1] == "child 2, succeeded\ndepth = 8\naccuracy = 0.9"


def test_where_less_is_better_the_least_is_the_strongest():
    table = table_of([{"x": x} for x in range(3)], [3.0, 1.0, 2.0], metric="loss")

    assert [group for group, _, _ in lines(draw(table, "min.loss", None))] == ["s0", "s4", "s7"]


def test_what_is_the_same_for_all_is_said_and_not_drawn():
    picture = draw(table_of([{"seed": 1, "x": x} for x in (1, 2)], [1.0, 2.0]), "max.accuracy", 2)

    assert "The same for all: seed." in picture.notes
    assert "seed" not in picture.svg


def test_options_stand_in_the_order_in_which_they_came():
    picture = draw(table_of([{"opt": o} for o in ("sgd", "adam", "sgd")], [3.0, 1.0, 2.0]), "max.accuracy", 1)

    assert ticks(picture)[:2] == ["adam", "sgd"]  # from the bottom: the first on top


def test_a_child_without_the_number_is_dashed_below_the_others():
    picture = draw(table_of([{"x": x} for x in range(4)], [1.0, None, math.nan, 2.0]), "max.accuracy", 4)

    assert [group for group, _, _ in lines(picture)].count("none") == 2
    assert "Dashed: 2 without accuracy." in picture.notes


@pytest.mark.parametrize(
    "table",
    [
        table_of([], []),
        table_of([{"x": 1}], [1.0]),
        table_of([{"x": 1}, {"x": 1}], [1.0, 2.0]),
        table_of([{"x": 1}, {"x": 2}], [None, None]),
        Table({"iteration": [1, 2], "state": ["failed"] * 2, "x": [1, 2]}, ("x",), ()),
    ],
    ids=["no children", "one child", "nothing varied", "no numbers", "nothing reported"],
)
def test_where_there_is_nothing_to_draw_there_is_no_page(table):
    assert parallel_coordinates(table, "max.accuracy", None) is None


def test_without_a_selector_the_first_number_gives_the_colour():
    assert "accuracy" in parallel_coordinates(table_of([{"x": 1}, {"x": 2}], [1.0, 2.0]), (), None)


def test_every_selected_metric_has_an_axis():
    table = table_of([{"x": x} for x in range(3)], [1.0, 2.0, 3.0])
    table = Table({**table.columns, "latency": [3.0, 2.0, 1.0]}, table.params, ("accuracy", "latency"))

    assert "latency = 1" in lines(draw(table, ["max.accuracy", "min.latency"], 3))[-1][1]


def test_a_metric_with_a_parameters_name_is_found():
    table = Table(
        {"iteration": [1, 2], "state": ["succeeded"] * 2, "x": [1, 2], "result.x": [5.0, 6.0]}, ("x",), ("result.x",)
    )

    assert "result.x = 6" in lines(draw(table, "max.x", 2))[-1][1]


def test_ten_thousand_children_are_thinned_and_it_is_said():
    table = table_of([{"x": x % 97, "y": x} for x in range(10_000)], [float(x * 7919 % 10_007) for x in range(10_000)])
    best = max(range(10_000), key=lambda row: table.columns["accuracy"][row]) + 1

    picture = draw(table, "max.accuracy", best)

    assert len(lines(picture)) == 1000
    assert lines(picture)[-1][:2][0] == "best"
    assert "1,000 of 10,000 children are drawn, evenly from the worst to the best." in picture.notes
    assert len(picture.svg) < 300_000


def test_a_best_child_that_thinning_would_leave_out_is_drawn():
    table = table_of([{"x": x} for x in range(100)], [float(x) for x in range(100)])

    assert lines(draw(table, "max.accuracy", 50, most=10))[-1][1].startswith("child 50,")


def test_a_thousand_rows_are_quick():
    table = table_of([{"x": x / 7, "y": x % 5, "z": str(x % 3)} for x in range(1000)], map(float, range(1000)))

    def taken():
        begun = time.process_time()
        parallel_coordinates(table, "max.accuracy", 1000)
        return time.process_time() - begun

    assert min(taken() for _ in range(5)) < 1  # it takes 20 ms; a look at whether it is linear, not at the machine


def test_texts_are_shown_and_not_obeyed():
    evil = "</title><script>alert(1)</script>\x1b[31m\u202e"
    table = table_of([{evil: evil}, {evil: "b"}], [1.0, 2.0])

    page = parallel_coordinates(table, "max.accuracy", 2, title=evil)

    assert "<script" not in page
    assert not {"\x1b", "\u202e"} & set(page)
    assert "http://www.w3.org/2000/svg" in page and page.count("http") == 1  # and nothing is fetched


@pytest.mark.parametrize(
    "values",
    [
        [[1], [2]],
        [{"a": 1}, None],
        [float("inf"), 1.0],
        [10**400, 1],
        [1e308, -1e308],
        [5e-324, 1e300],
        [True, 1],
        [None, 3, "x"],
    ],
    ids=repr,
)
def test_values_of_any_type_can_be_drawn(values):
    picture = draw(table_of([{"x": value} for value in values], map(float, range(len(values)))), "max.accuracy", 1)

    assert len(lines(picture)) == len(values)
    assert "nan" not in " ".join(points for _, _, points in lines(picture))


class TestAxis:
    def test_numbers_over_decades_are_logarithmic(self):
        axis = axis_of("lr", [0.001, 0.01, 0.1])

        assert axis.is_log
        assert axis.places == pytest.approx((0, 0.5, 1))
        assert [text for _, text in axis.ticks] == ["0.001", "0.01", "0.1"]

    def test_draws_from_nought_to_one_are_not(self):
        assert not axis_of("x", [(x + 0.5) / 1000 for x in range(1000)]).is_log

    def test_labels_do_not_stand_on_each_other(self):
        for values in ([x / 7 for x in range(1000)], [10 ** (x / 100) for x in range(700)], list("abcdefgh" * 20)):
            places = [place for place, _ in axis_of("x", values).ticks]
            assert all(b - a >= 0.059 for a, b in pairwise(places))
            assert (places[0], places[-1]) == (0, 1)

    def test_a_number_that_is_missing_lies_below_the_others(self):
        axis = axis_of("momentum", [0.5, None, 0.9])

        assert axis.places[1] == axis.missing == 0
        assert min(axis.places[0], axis.places[2]) > 0.05
        assert axis.ticks[0] == (0.0, "none")

    def test_a_long_text_is_cut(self):
        assert len(text_of("x" * 10_000)) == 60

    def test_a_path_is_told_by_itself(self):
        assert text_of(Path("a.csv")) == "a.csv"
