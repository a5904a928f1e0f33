"""Cards as HTML: every text escaped, bounded, and styled under one class alone."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import mlfn
from mlfn.spec.record import Attempt, RemoteFailure, RunState
from mlfn.ui import notebook
from mlfn.ui.html import cards
from mlfn.ui.html.sparklines import sparkline
from mlfn.ui.views.function import FunctionView, short_repr
from mlfn.ui.views.listing import MOST_RUNS, ListingView
from mlfn.ui.views.run import Series
from mlfn.ui.views.values import Value
from mlfn.ui.wording import amount, duration
from tests.architecture.source import PACKAGE
from tests.unit.ui.make_views import run_view

EVIL = "<script>owned()</script>\"'><img src=x onerror=owned()>&amp;\x1b[31m\u202e</style>"
TAGS = {
    "div",
    "span",
    "style",
    "table",
    "thead",
    "tbody",
    "tr",
    "td",
    "th",
    "pre",
    "svg",
    "g",
    "polyline",
    "circle",
    "wbr",
}


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "wbr":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def read(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    assert reader.tags <= TAGS
    assert not any(name.startswith("on") or name in ("href", "src") for name in reader.attributes)
    return html


def test_every_text_of_a_card_is_escaped():
    card = read(
        cards.run_card(
            run_view(
                name=EVIL,
                project=EVIL,
                place=EVIL,
                state=RunState.FAILED,
                reason=EVIL,
                progress={"done": 1, "total": 2, "text": EVIL},
                params=(Value(EVIL, EVIL, EVIL),),
                outputs=(Value(EVIL, EVIL, EVIL, 3),),
                series=(Series(EVIL, 2, (1.0, 2.0)),),
                attempts=(
                    Attempt("r", 1, None, 1.0, 2.0, EVIL, EVIL, None, EVIL),
                    Attempt("r", 2, None, 3.0, None, EVIL, EVIL, None),
                ),
                log=(EVIL, EVIL),
                failure=RemoteFailure("E", EVIL, EVIL),
                notice=EVIL,
            )
        )
    )

    assert card.count("&lt;script&gt;") >= 15
    assert card.count("</style>") == 1


def test_every_text_of_the_tables_is_escaped():
    read(cards.function_card(FunctionView(EVIL, ((EVIL, EVIL),), ((EVIL, EVIL, EVIL),), EVIL)))
    run = run_view(name=EVIL, project=EVIL, params=(Value(EVIL, EVIL),))
    read(cards.runs_table(ListingView((run,), 1, EVIL, {run.id: 1.0})))
    read(cards.notice_card(EVIL))


def test_all_style_is_under_one_class():
    style = (PACKAGE / "ui" / "html" / "templates" / "card.css").read_text()
    rules = re.findall(r"([^{}]+)\{", re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL))

    assert len(rules) > 20
    for rule in rules:
        for selector in rule.split(","):
            assert re.search(r"(^|\s)\.mlfn-card\b", selector), selector


def test_a_card_is_bounded_whatever_the_run_holds():
    many = tuple(Value(f"name{number}", "v" * 80, "w" * 1000) for number in range(10_000))

    card = read(cards.run_card(run_view(params=many, outputs=many, more_series=7)))

    assert len(card) < 150_000
    assert "and 9,976 more" in card


def parts_of(text):
    found = re.search(
        r'<td class="mlfn-value">(.*?)\n?</td>', cards.run_card(run_view(params=(Value("x", text),))), re.DOTALL
    )
    assert found
    return found[1].split("<wbr>")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("145 kB", ["145 kB"]),
        ("0.1234567890123456", ["0.1234567890123456"]),
        ("iteration_results", ["iteration_results"]),
        ("/data/cleaned/2026-01/iris_table.csv", ["/", "data/", "cleaned/", "2026-01/", "iris_", "table", ".csv"]),
        ("learning_rate=1e-05,momentum=0.95", ["learning_", "rate=", "1e-05,", "momentum=", "0.95"]),
        ("a" * 40, ["a" * 16, "a" * 16, "a" * 8]),
    ],
)
def test_a_value_breaks_between_its_parts_alone(text, parts):
    assert parts_of(text) == parts


def test_a_name_of_an_output_stays_in_a_line():
    card = read(cards.run_card(run_view(outputs=(Value("iteration_results_parquet", "x"),))))

    assert '<td class="mlfn-key mlfn-fit">iteration_results_parquet</td>' in card


def test_a_default_path_is_shown_without_its_class():
    assert short_repr({"file": Path("a.csv")}) == "{'file': 'a.csv'}"


def test_a_listing_shows_the_first_rows_and_counts_the_rest():
    table = read(cards.runs_table(ListingView((run_view(),) * MOST_RUNS, 80)))

    assert table.count("<tr>") == MOST_RUNS + 1
    assert "and 30 more" in table
    assert "1 run<" in cards.runs_table(ListingView((run_view(),), 1))
    assert "0 runs" in cards.runs_table(ListingView((), 0))


def test_a_listing_in_the_order_of_a_metric_shows_it():
    one = run_view()

    table = read(cards.runs_table(ListingView((one,), 1, "accuracy", {one.id: 0.93})))

    assert "<th>accuracy</th>" in table and "0.93</td>" in table


def test_runs_in_the_order_of_a_metric_know_their_values():
    @mlfn.function
    def measure(x: float, ctx: mlfn.Context) -> None:
        ctx.log_metric("m", x)

    for x in (0.25, 0.5):
        measure.on("inline").submit(x)

    listed = mlfn.runs(order="max.m")

    assert [listed.scores[run.id] for run in listed[:1]] == [0.5] and listed[1:].metric == "m"
    assert "m=0.5" in repr(listed) and "<th>m</th>" in notebook.runs_html(listed)
    assert mlfn.runs().metric is None


@pytest.mark.parametrize(
    ("state", "facts", "shown"),
    [
        (RunState.PENDING, {"started": None}, "waiting 1 min 40 s"),
        (RunState.RUNNING, {}, "1 min 30 s"),
        (RunState.RUNNING, {"progress": {"done": 1, "total": 4, "text": "epochs"}}, "epochs · 1 of 4"),
        (RunState.RUNNING, {"progress": {"done": 1, "total": 4}}, "width:25.0%"),
        (RunState.RUNNING, {"progress": {"done": 7}}, "7 done"),
        (RunState.SUCCEEDED, {"ended": 1_000_010.25}, "250 ms"),
        (RunState.FAILED, {"ended": 1_000_020.0, "reason": "never_started"}, "failed: never started"),
        (
            RunState.FAILED,
            {"ended": 1_000_020.0, "failure": RemoteFailure("builtins.ValueError", "x")},
            "ValueError: x",
        ),
        (RunState.CANCELLED, {"started": None, "ended": 1_000_001.0}, "not started"),
        (RunState.RUNNING, {"attempt": 2}, "attempt 2"),
    ],
)
def test_what_a_card_says(state, facts, shown):
    assert shown in read(cards.run_card(run_view(state=state, **facts)))


def test_a_card_that_may_be_saved_half_way_says_when_it_was_true():
    assert "as of" in cards.run_card(run_view())
    assert "as of" not in cards.run_card(run_view(state=RunState.SUCCEEDED, ended=1_000_020.0))


@pytest.mark.parametrize(
    ("seconds", "exact", "text"),
    [
        (0.0042, True, "4 ms"),
        (1.25, True, "1.2 s"),
        (1.25, False, "1 s"),
        (61, True, "1 min 01 s"),
        (7260, False, "2 h 01 min"),
    ],
)
def test_durations(seconds, exact, text):
    assert duration(seconds, exact=exact) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_340_000, "2.34 MB"), (10**9, "1 GB"), (10**13, "10 TB")],
)
def test_amounts(size, text):
    assert amount(size) == text


@pytest.mark.parametrize(
    ("values", "lines", "coordinates"),
    [
        ([1.0, 2.0], 1, ["3.0,19.0", "129.0,3.0"]),
        ([5.0, 5.0, 5.0], 1, ["66.0,11.0"]),
        ([1.0, 2.0, math.nan, 3.0, 4.0], 2, ["3.0,19.0"]),
        ([math.inf, 1.0, 2.0, -math.inf], 1, []),
        ([1e308, -1e308], 1, ["3.0,3.0", "129.0,19.0"]),
        ([7.0], 0, []),
    ],
)
def test_sparklines(values, lines, coordinates):
    drawing = read(sparkline(values))

    assert drawing.count("<polyline") == lines
    assert "nan" not in drawing
    assert "circle" in drawing
    for pair in coordinates:
        assert pair in drawing


def test_a_series_without_a_number_has_no_drawing():
    assert sparkline([math.nan, math.inf]) == ""
    assert sparkline([]) == ""


class Sulking:
    def __repr__(self):
        raise RuntimeError("no")


def test_a_function_whose_defaults_cannot_be_shown_is_shown():
    @mlfn.function(env={"TOKEN": "hush"}, labels={"team": "risk"})
    def odd(a: Unknown = 1, *rest, b=Sulking(), c=tuple(range(10**6)), **more):  # noqa: B008, F821
        """Do little."""

    shown = read(notebook.function_html(odd.on("local")))

    for word in ("odd", "Do little.", "*rest", "**more", "Sulking", "TOKEN", "team", "local"):
        assert word in shown
    assert "hush" not in shown
    assert len(shown) < 20_000


def test_a_function_shows_its_options_as_people_write_them():
    function = mlfn.function(name="f", requirements=["a==1", "b"], labels={"team": "risk"}, cpu=2)(lambda x: x)

    card = read(notebook.function_html(function))

    assert all(words in card for words in ("a==1, b</td>", "team=risk</td>", ">2</td>"))


def test_a_repr_never_raises():
    assert "cannot be shown" in notebook.run_html(object())
    assert "cannot be shown" in notebook.runs_html([object()])
    assert "cannot be shown" in notebook.function_html(object())


def test_without_ipython_nothing_is_registered():
    assert notebook.register() is False
