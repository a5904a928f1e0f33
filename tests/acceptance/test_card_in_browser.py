"""Cards in a real browser: what a reader sees, on light and dark pages, wide and narrow."""

from __future__ import annotations

import html as html_module
import json
import re
import subprocess
from dataclasses import replace

import pytest

from mlfn.spec.record import Attempt, RemoteFailure, RunState
from mlfn.sweep.results.parallel_coordinates import parallel_coordinates
from mlfn.sweep.results.table import Table
from mlfn.ui.html import cards
from mlfn.ui.views.function import FunctionView
from mlfn.ui.views.listing import ListingView
from mlfn.ui.views.run import Series
from mlfn.ui.views.sweep import ChildView
from mlfn.ui.views.values import Value
from tests.browser import FLAGS, browser_path
from tests.unit.ui.make_views import run_view, sweep_view

EVIL = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
# Run by the page itself, not by a card: says what a reader would see.
REPORT = """
<pre id="report"></pre><script>
const seen = [...document.querySelectorAll(".mlfn-card")].map(card => {
  const style = getComputedStyle(card), box = card.getBoundingClientRect();
  const spilt = [...card.querySelectorAll("*")].filter(part =>
    part.tagName != "STYLE" && !part.closest(".mlfn-scroll *") && part.getBoundingClientRect().right > box.right + 0.5).map(part => part.outerHTML.slice(0, 80));
  return {text: card.innerText, ink: style.color, paper: style.backgroundColor, height: box.height, width: box.width,
          spilt: spilt, active: card.querySelectorAll("script, img, iframe, object, a").length,
          spark: (card.querySelector("svg") || card).getBoundingClientRect().width,
          bar: getComputedStyle(card.querySelector(".mlfn-bar div") || card).backgroundColor};
});
document.getElementById("report").textContent = JSON.stringify({title: document.title, seen: seen});
</script>
"""
KNOWN = {
    "progress": {"done": 3, "total": 12, "text": "epochs"},
    "params": (Value("data", "pandas.DataFrame", size=145_000), Value("a_rather_long_parameter_name" * 4, "v" * 80)),
    "outputs": (Value("accuracy", "0.972028", "0.9720279720279720"),),
    "series": (Series("loss", 4, (1.0, 0.5, 0.3, 0.25)), Series("validation.accuracy", 4, (0.1, 0.5, 0.7, 0.75))),
    "attempts": (
        Attempt("r", 1, None, 1.0, 2.0, "failed", "error", None),
        Attempt("r", 2, None, 3.0, None, "running", None, None),
    ),
    "log": ("epoch 1", "w" * 300),
    "log_size": 2000,
}
RUN = run_view(**KNOWN)


@pytest.fixture
def browse(tmp_path):
    """Give a function that shows HTML in a browser and returns what a reader of it would see."""
    chromium = browser_path()

    def show(body, *, width=900, page='data-jp-theme-light="true"', extra=()):
        path = tmp_path / "page.html"
        path.write_text(f"<!doctype html><meta charset=utf-8><title>page</title><body {page}>{body}{REPORT}", "utf-8")
        command = [chromium, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},1200", *extra]
        done = subprocess.run(
            [*command, "--dump-dom", path.as_uri()], capture_output=True, text=True, check=True, timeout=90
        )
        report = re.search(r'<pre id="report">(.*?)</pre>', done.stdout, re.DOTALL)
        assert report, done.stdout + done.stderr
        return json.loads(html_module.unescape(report[1]))

    return show


def brightness(color):
    return sum(float(part) for part in re.findall(r"[\d.]+", color)[:3])


def test_a_reader_sees_the_run(browse):
    (card,) = browse(cards.run_card(RUN))["seen"]

    for words in (
        "train",
        "3f2a91c0",
        "running",
        "1 min 30 s",
        "epochs · 3 of 12",
        "145 kB",
        "0.972028",
        "0.25",
        "epoch 1",
    ):
        assert words in card["text"]
    assert ".mlfn-card{" not in card["text"]
    assert card["spark"] == 132
    assert card["active"] == 0


@pytest.mark.parametrize("width", [380, 700, 1100])
def test_nothing_spills_out_of_a_card(browse, width):
    shown = cards.run_card(RUN) + cards.runs_table(ListingView((RUN, run_view(**KNOWN, name="n" * 200)), 2))

    seen = browse(f'<div style="width:{width}px">{shown}</div>', width=1200)["seen"]

    assert [card["spilt"] for card in seen] == [[], []]
    assert all(card["height"] > 50 and card["width"] <= width for card in seen)


def test_a_notebooks_theme_chooses_dark_or_light(browse):
    (light,) = browse(cards.run_card(RUN), page='data-jp-theme-light="true"')["seen"]
    (dark,) = browse(cards.run_card(RUN), page='data-jp-theme-light="false"')["seen"]

    assert brightness(light["paper"]) > 700 > 300 > brightness(light["ink"])
    assert brightness(dark["ink"]) > 600 > 150 > brightness(dark["paper"])
    assert light["bar"] != dark["bar"]


def test_elsewhere_the_readers_preference_does(browse):
    (light,) = browse(cards.run_card(RUN), page="", extra=["--blink-settings=preferredColorScheme=1"])["seen"]
    (dark,) = browse(cards.run_card(RUN), page="", extra=["--blink-settings=preferredColorScheme=0"])["seen"]

    assert brightness(light["paper"]) > 700
    assert brightness(dark["paper"]) < 150


def test_hostile_texts_are_read_not_run(browse):
    facts = {
        "name": EVIL,
        "project": EVIL,
        "state": RunState.FAILED,
        "failure": RemoteFailure("E", EVIL, EVIL),
        "params": (Value(EVIL, EVIL, EVIL + "\" onmouseover=\"document.title='owned'"),),
        "outputs": (Value(EVIL, EVIL),),
        "series": (Series(EVIL, 1, (1.0,)),),
        "progress": {"done": 1, "total": 2, "text": EVIL},
        "log": (EVIL, "</pre></div></style>" + EVIL),
        "notice": EVIL,
    }
    hostile = run_view(**{**KNOWN, **facts})
    page = browse(
        cards.run_card(hostile)
        + cards.runs_table(ListingView((hostile,), 1))
        + cards.function_card(FunctionView(EVIL, ((EVIL, EVIL),), ((EVIL, EVIL, EVIL),), EVIL))
    )

    assert page["title"] == "page"
    assert len(page["seen"]) == 3
    assert [card["active"] for card in page["seen"]] == [0, 0, 0]
    assert all("<script>document.title='owned'</script>" in card["text"] for card in page["seen"])


TABLE = Table(
    {
        "iteration": list(range(1, 41)),
        "state": ["succeeded"] * 40,
        **{f"parameter_{key}": [(x * key) % 7 for x in range(40)] for key in range(1, 12)},
        "accuracy": [x / 40 for x in range(40)],
    },
    tuple(f"parameter_{key}" for key in range(1, 12)),
    ("accuracy",),
)


def child(number, text="v"):
    """Return a child with the values of a row of the table, each shown as one text."""
    values = {name: TABLE.columns[name][number - 1] for name in (*TABLE.params, "accuracy")}
    accuracy = values.pop("accuracy")
    params = tuple(Value(name, text, stored={"packer": "json", "inline": value}) for name, value in values.items())
    return ChildView(number, "r", RunState.SUCCEEDED, params, (accuracy,), 1.0, 2.0, metrics={"accuracy": accuracy})


ROW = replace(child(40), params=child(40, "v" * 9).params[:6])
SWEEP = sweep_view(
    run=run_view(**KNOWN, state=RunState.SUCCEEDED, ended=1_000_090.0),
    keys=TABLE.params,
    select=("max.accuracy",),
    size=50,
    ended={"succeeded": 38, "failed": 2},
    active=2,
    best=40,
    rows=(ROW,) * 10,
    working=(ROW, ROW),
    failed=replace(ROW, error="ValueError: " + "w" * 300),
    history=(0.1, 0.5, 0.9),
    children=tuple(child(number) for number in range(1, 41)),
)


@pytest.mark.parametrize("width", [380, 700, 1100])
def test_nothing_spills_out_of_a_sweeps_card(browse, width):
    (card,) = browse(f'<div style="width:{width}px">{cards.sweep_card(SWEEP)}</div>', width=1200)["seen"]

    assert card["spilt"] == []
    assert card["spark"] == 132
    for words in ("40 of 50 children", "accuracy = 0.975", "Parallel coordinates", "parameter_11"):
        assert words in card["text"]


@pytest.mark.parametrize(("count", "lines"), [(6, 2), (7, 4)])
def test_a_wide_sweep_scrolls_within_its_card(browse, count, lines):
    """At 600 pixels a row of long values stays low: the table is wider than the card, which scrolls it."""
    params = tuple(Value(f"parameter_{key}", "sklearn.ensemble.GradientBoostingClassifier") for key in range(count))
    row = ChildView(1, "r", RunState.SUCCEEDED, params, (0.5, 2.0), 1.0, 2.0)
    select = ("max.validation.accuracy", "min.training_seconds")
    shown = [sweep_view(run=run_view(state=RunState.SUCCEEDED), select=select, rows=(row,) * rows) for rows in (1, 11)]

    body = "".join(f'<div style="width:600px">{cards.sweep_card(sweep)}</div>' for sweep in shown)
    one, many = browse(body, width=620)["seen"]

    assert (many["spilt"], many["width"]) == ([], 600)
    assert (many["height"] - one["height"]) / 10 < 20 * lines + 10  # a line has 18 pixels, a row 7 between the lines


def test_the_lines_of_a_sweep_are_seen_on_light_and_on_dark_pages(browse):
    probe = (
        '<div class="mlfn-card"><div class="mlfn-bar"><div id="p"></div></div></div><script>addEventListener("load",()=>0);'
        "document.getElementById('p').style.backgroundColor=getComputedStyle(document.querySelector('.mlfn-lines .s7 path')).stroke"
        "</script>"
    )
    found = {
        theme: browse(cards.sweep_card(SWEEP) + probe, page=f'data-jp-theme-light="{theme}"')["seen"][1]["bar"]
        for theme in ("true", "false")
    }

    assert brightness(found["true"]) < 300 < 500 < brightness(found["false"])


def test_the_stored_picture_goes_by_the_readers_preference(browse):
    page = parallel_coordinates(TABLE, "max.accuracy", 40)
    probe = '<div class="mlfn-card" style="color:inherit"></div>'

    for scheme, dark in ((1, False), (0, True)):
        [card] = browse(page + probe, page="", extra=[f"--blink-settings=preferredColorScheme={scheme}"])["seen"]
        assert (brightness(card["ink"]) > 600) is dark
