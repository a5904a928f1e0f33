"""Cards of sweeps and descriptions: what they say, that they stay small, and that nothing in them is obeyed."""

from __future__ import annotations

from dataclasses import replace

import pytest

import mlfn
from mlfn.spec.record import RemoteFailure, RunState
from mlfn.ui.html.cards import sweep_card
from mlfn.ui.notebook import description_html, run_html
from mlfn.ui.views.handles import view_sweep, view_sweep_briefly
from mlfn.ui.views.sweep import ChildView, thin
from mlfn.ui.views.values import Value
from mlfn.ui.wording import pace_text
from tests.unit.ui.make_views import run_view, sweep_view

EVIL = "<script>owned()</script>\x1b[31m"


@mlfn.function
def train(x: int, ctx: mlfn.Context, how: str = "a") -> None:
    if x == 13:
        raise ValueError(EVIL)
    ctx.log_metric("score", x, step=0)
    ctx.log_metric("score", -x, step=1)


@mlfn.function
def silent(x: object) -> None:
    pass


def test_a_running_sweep_says_how_far_it_is_and_which_child_leads():
    sweep = sweep_view(active=3, marks=((1_000_090.0, 22), (1_000_100.0, 42)))

    card = sweep_card(sweep)

    assert "42 of 100 children · 2 failed · 3 running · 2.0/s · about 29 s left" in card
    assert "Best so far" in card
    assert "score = 0.5" in card
    assert 'class="mlfn-failed" style="width:2.00%"' in card
    assert sweep.best_text == "best score = 0.5: child 7, x=7"


def test_without_a_pace_nothing_is_foretold():
    assert sweep_view(marks=((1_000_090.0, 42), (1_000_100.0, 42))).left is None
    assert sweep_view(size=None, marks=((1_000_090.0, 22), (1_000_100.0, 42))).left is None


@pytest.mark.parametrize(("pace", "said"), [(1234.4, "1,234/s"), (1.25, "1.2/s"), (0.05, "3.0/min"), (0.001, "3.6/h")])
def test_a_pace_is_said_in_words(pace, said):
    assert pace_text(pace) == said


def test_every_text_of_a_sweeps_card_is_escaped():
    evil = Value(EVIL, EVIL, EVIL, stored={"packer": "json", "inline": EVIL})
    row = ChildView(7, EVIL, RunState.SUCCEEDED, (evil,), (0.5,), 1.0, 2.0, EVIL, {EVIL: 0.5})
    other = replace(row, iteration=8, params=(replace(evil, stored={"packer": "json", "inline": 1}),))
    failure = RemoteFailure("E", EVIL, EVIL)
    run = run_view(name=EVIL, project=EVIL, params=(evil,), notice=EVIL, failure=failure, state=RunState.FAILED)
    sweep = sweep_view(
        run=run, keys=(EVIL,), rows=(row,), working=(row,), failed=row, stopped=EVIL, children=(row, other), select=()
    )

    card = sweep_card(sweep)

    assert "mlfn-lines" in card
    assert "<script" not in card
    assert "\x1b" not in card
    assert card.count("&lt;script&gt;") >= 12


class TestOfTheStore:
    def test_a_card_shows_the_best_children_and_the_picture(self):
        sweep = train.on("inline").grid(x=range(20), how=["a", "b"]).with_options(select="min.score").submit()

        card = run_html(sweep)

        assert "40 of 40 children · 2 failed" in card
        assert "score = -19" in card
        assert card.count('class="mlfn-fit" title=') == 10
        assert "best_iteration" in card
        assert "child 34" in card and "&lt;script&gt;" in card and "<script" not in card
        assert "Dashed" not in card or "mlfn-lines" in card
        assert card.count("<path") == 40

    def test_the_default_of_what_is_swept_is_nobodys(self):
        fixed = train.on("inline").grid(x=[1, 2]).with_options(select="max.score").submit()
        swept = train.on("inline").grid(x=[1], how=["b"]).with_options(select="max.score").submit()

        assert [value.name for value in view_sweep(fixed).shared] == ["how"]
        assert view_sweep(swept).shared == ()

    def test_a_reduction_of_a_series_decides_the_order(self):
        sweep = train.on("inline").grid(x=range(12)).with_options(select="max.score@best").submit()

        assert [row.iteration for row in view_sweep(sweep).rows[:3]] == [12, 11, 10]

    def test_a_map_shows_its_last_children(self):
        sweep = silent.on("inline").map([1, "b", None, object])

        shown = view_sweep(sweep.submit())

        assert [row.iteration for row in shown.rows] == [4, 3, 2, 1]
        assert "The last 4" in sweep_card(shown)

    def test_nothing_is_unpickled(self, monkeypatch):
        sweep = silent.on("inline").grid(x=[object(), {1}, 3]).submit()
        monkeypatch.setattr(type(sweep._session.codec()), "decode", None)

        assert "object" in run_html(sweep)

    def test_a_glance_reads_no_children(self, monkeypatch):
        sweep = train.on("inline").grid(x=range(5)).with_options(select="max.score").submit()
        first = view_sweep_briefly(sweep)
        monkeypatch.setattr(type(sweep._session.store), "children", None)
        monkeypatch.setattr(type(sweep._session.store), "children_at", None)

        again = view_sweep_briefly(sweep, first)

        assert (again.done, again.best, again.rows[0].iteration) == (5, 1, 1)

    def test_a_store_that_went_away_leaves_what_was_known(self, monkeypatch):
        sweep = train.on("inline").grid(x=range(5)).with_options(select="max.score").submit()
        before = view_sweep(sweep)
        monkeypatch.setattr(type(sweep._session.store), "children", lambda *_, **__: 1 / 0)

        after = view_sweep(sweep, before)

        assert "The store cannot be read" in after.notice
        assert after.rows == before.rows


class TestDescriptions:
    def test_a_description_shows_its_size_and_first_rows(self):
        card = description_html(train.grid(x=range(10**9), how=["a", EVIL]))

        assert "sweep of 2,000,000,000 children" in card
        assert card.count("<tr>") == 11
        assert "and 1,999,999,990 more" in card
        assert "<script" not in card

    def test_a_search_shows_its_spaces(self):
        card = description_html(train.search(n=9, x=mlfn.randint(1, 5)).with_options(select="max.score"))

        assert "randint(1, 5)" in card
        assert "max.score" in card

    def test_an_iterable_says_that_its_size_is_unknown(self):
        assert "children from an iterable" in description_html(train.sweep({"x": x} for x in range(3)))


def test_a_history_is_thinned_with_both_ends():
    thinned = thin(range(10_000))

    assert (len(thinned), thinned[0], thinned[-1]) == (120, 0, 9999)
