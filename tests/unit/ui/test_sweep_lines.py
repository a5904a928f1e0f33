"""A sweep's lines in a terminal: what they say, that they keep to its size, and that nothing in them is obeyed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.cells import cell_len

import mlfn
from mlfn.spec.record import RunState
from mlfn.sweep.conditions.grammar import Selector
from mlfn.sweep.controller.scoreboard import MOST_LEADERS, Scoreboard
from mlfn.sweep.results.child import Child
from mlfn.sweep.spec import SweepBody
from mlfn.ui.terminal.sweep_lines import MOST_ROWS, below, head
from mlfn.ui.views.handles import view_sweep, view_sweep_briefly
from mlfn.ui.views.sweep import ChildView
from mlfn.ui.views.values import Value
from tests.unit.ui.make_views import run_view, sweep_view

EVIL = "a\x1b[2Jb\x07c\u202ed\ne\tf"


def row(number, state=RunState.SUCCEEDED, value=None, error="", **params):
    items = tuple(Value(name, str(text)) for name, text in params.items())
    ended = None if state is RunState.RUNNING else 1090.0 + number / 1000
    return ChildView(number, "r", state, items, () if value is None else (value,), 1090.0, ended, error)


def snapshot(**facts):
    best = tuple(row(number, value=1 / number, lr=number / 1000, how=f"way {number}") for number in range(1, 9))
    working = tuple(row(number, RunState.RUNNING, lr=0.5, how="on") for number in (9001, 9002, 9003))
    known = {
        "run": running(),
        "keys": ("lr", "how"),
        "size": 10_000,
        "ended": {"succeeded": 8990, "failed": 10},
        "active": 3,
        "best": 1,
        "rows": best,
        "working": working,
        "failed": row(8000, RunState.FAILED, error="ValueError: no such way", lr=0.25, how="none"),
        "marks": ((1090.0, 8000), (1100.0, 9000)),
    }
    return sweep_view(**{**known, **facts})


def running(**facts):
    return run_view(**{"taken": 1100.0, "created": 1000.0, "started": 1091.0, **facts})


def first_line(sweep, width):
    found = head(sweep, width)
    parts = (found.who, "#" * found.bar, found.counts, found.elapsed)
    return "".join(f" {part}" for part in parts if part)[1:]


def texts(sweep, width, height):
    return [line.text for line in below(sweep, width, height)]


class TestTheFirstLine:
    def test_with_room_it_says_everything(self):
        assert first_line(snapshot(), 120) == (
            "train 3f2a91c0 running ################ "
            "9,000 of 10,000 children · 10 failed · 3 running · 100/s · about 10 s left 9 s"
        )

    def test_the_bar_and_all_else_give_way_before_the_time_left(self):
        lines = {width: first_line(snapshot(), width) for width in range(36, 120)}

        assert [width for width, line in lines.items() if cell_len(line) > width] == []
        assert [width for width, line in lines.items() if "9,000 of 10,000" not in line] == []
        assert [width for width, line in lines.items() if "about 10 s left" not in line] == []

    def test_the_bar_is_shortened_before_a_word_is_left_out(self):
        whole, shorter = head(snapshot(), 120), head(snapshot(), 113)

        assert (whole.bar, shorter.bar) == (16, 10)
        assert replace(whole, bar=0) == replace(shorter, bar=0)

    def test_however_narrow_it_is_no_wider(self):
        sweep = snapshot(run=running(name="訓練" * 40))

        assert [width for width in range(1, 60) if cell_len(first_line(sweep, width)) > width] == []

    def test_a_state_that_is_not_running_is_kept_longest(self):
        waiting = snapshot(run=running(state=RunState.PENDING))

        assert "pending" in first_line(waiting, 70)
        assert "running 9" not in first_line(snapshot(), 70)


class TestTheTable:
    def test_it_shows_the_best_those_at_work_and_the_last_that_failed(self):
        assert texts(snapshot(), 80, 22) == [
            "child  state      lr     how     score   time",
            "  * 1  succeeded  0.001  way 1       1   1 ms",
            "    2  succeeded  0.002  way 2     0.5   2 ms",
            "    3  succeeded  0.003  way 3  0.3333   3 ms",
            "    4  succeeded  0.004  way 4    0.25   4 ms",
            " 9001  running    0.5    on          –   10 s",
            " 9002  running    0.5    on          –   10 s",
            " 9003  running    0.5    on          –   10 s",
            " 8000  failed     0.25   none        –  8.0 s",
            "    ValueError: no such way",
        ]

    def test_the_best_is_bold_and_the_failed_red(self):
        lines = below(snapshot(), 80, 22)

        assert [line.style for line in lines] == ["dim", "bold", *[""] * 6, "red", "red"]

    @pytest.mark.parametrize("width", [20, 24, 30, 39, 40, 60, 79, 80, 200])
    def test_it_is_no_larger_than_the_terminal(self, width):
        found = {height: texts(snapshot(), width, height) for height in range(-2, 30)}

        assert [h for h, lines in found.items() if len(lines) > min(max(0, h), MOST_ROWS + 2)] == []
        assert [h for h, lines in found.items() if any(cell_len(line) > width for line in lines)] == []
        assert [h for h, lines in found.items() if bool(lines) is not (h > 0)] == []

    def test_number_and_metric_are_whole_however_narrow_it_is(self):
        found = {width: texts(snapshot(), width, 22) for width in range(15, 60)}

        assert [width for width, lines in found.items() if "* 1" not in lines[1]] == []
        assert [width for width, lines in found.items() if "9003" not in lines[7]] == []
        assert [width for width, lines in found.items() if "0.3333" not in lines[3]] == []

    def test_values_are_cut_before_a_column_is_left_out(self):
        long = tuple(replace(one, params=(*one.params, Value("note", "x" * 60))) for one in snapshot().rows)

        wide, narrow, *narrower = (
            texts(snapshot(rows=long, failed=None), width, 22)[:2] for width in (100, 58, 48, 36, 26, 20)
        )

        assert f"  {'x' * 31}…  " in wide[1]
        assert wide[0].split() == ["child", "state", "lr", "how", "note", "score", "time"]
        assert narrow[0].split() == wide[0].split()
        assert "xxxxx…" in narrow[1]
        assert [lines[0].split() for lines in narrower] == [
            ["child", "state", "lr", "how", "…", "score", "time"],
            ["child", "lr", "how", "…", "score", "time"],
            ["child", "lr", "…", "score"],
            ["child", "score"],
        ]

    def test_what_is_left_out_leaves_a_mark(self):
        many = tuple(
            replace(one, params=tuple(Value(f"key_{n}", "value") for n in range(30))) for one in snapshot().rows
        )

        lines = texts(snapshot(rows=many, working=(), failed=None), 60, 22)

        assert lines[0].split() == ["child", "state", "key_0", "key_1", "key_2", "…", "score", "time"]
        assert "  …  " in lines[1]

    def test_a_low_terminal_shows_fewer_rows_with_the_best_among_them(self):
        lines = texts(snapshot(), 80, 4)

        assert [line.split()[:2] for line in lines[1:]] == [["*", "1"], ["2", "succeeded"], ["9001", "running"]]

    def test_where_no_row_has_room_the_best_has_a_line(self):
        assert texts(snapshot(), 80, 1) == ["  best score = 1: child 1, lr=0.001, how=way 1"]

    def test_without_a_selector_there_is_no_metric_and_no_best(self):
        lines = texts(snapshot(select=()), 80, 22)

        assert lines[0].split() == ["child", "state", "lr", "how", "time"]
        assert not any("*" in line for line in lines)

    def test_each_selected_metric_has_a_column(self):
        select = ("max.score@best", "min.size")
        rows = (replace(snapshot().rows[0], values=(0.5, 1234567.0)),)

        lines = texts(snapshot(select=select, rows=rows, working=(), failed=None), 80, 22)

        assert lines[0].split() == ["child", "state", "lr", "how", "score@best", "size", "time"]
        assert lines[1].split() == ["*", "1", "succeeded", "0.001", "way", "1", "0.5", "1234567", "1", "ms"]

    def test_nothing_in_it_is_obeyed(self):
        evil = row(7, value=0.5, **{EVIL: EVIL})
        failed = row(8, RunState.FAILED, error=f"ValueError: {EVIL}", **{EVIL: EVIL})
        sweep = snapshot(run=running(name=EVIL), keys=(EVIL,), rows=(evil,), best=7, failed=failed)

        for lines in (texts(sweep, 120, 22), texts(sweep, 120, 1), [first_line(sweep, 120)]):
            assert all(line.isprintable() for line in lines)
            assert any("ab\ufffdc\ufffdd e f" in line for line in lines)

    def test_wide_characters_count_as_two(self):
        wide = tuple(replace(one, params=(Value("how", "訓練" * 20),)) for one in snapshot().rows)

        lines = texts(snapshot(rows=wide, working=(), failed=None), 50, 22)

        assert all(cell_len(line) <= 50 for line in lines)
        assert len({cell_len(line[: line.index("ms")]) for line in lines[1:]}) == 1


class TestTheBestFew:
    def taken(self, direction, values):
        board = Scoreboard((Selector(direction, "score"),), SweepBody())
        for number, value in enumerate(values, 1):
            state = RunState.FAILED if value is None else RunState.SUCCEEDED
            board.add(Child(number, "r", state, {}, (value,)), elapsed=0.0)
        return board.progress(None)

    def test_the_driver_tells_them_in_their_order_of_equals_the_first(self):
        assert self.taken("max", [1, 5, None, 5, float("nan"), 9])["leaders"] == [6, 2, 4, 1]
        assert self.taken("min", [1, 5, None, 5, float("inf"), 9])["leaders"] == [1, 2, 4, 6]

    def test_it_tells_no_more_of_ten_thousand(self):
        said = self.taken("max", [number * 7919 % 10_007 for number in range(10_000)])

        best = sorted(range(10_000), key=lambda number: -(number * 7919 % 10_007))[:MOST_LEADERS]
        assert said["leaders"] == [number + 1 for number in best]
        assert said["best"]["iteration"] == said["leaders"][0]

    def test_one_that_is_not_feasible_is_none_of_them(self):
        board = Scoreboard((Selector("max", "score"),), SweepBody())
        for number, violation in enumerate((-1.0, 1.0, 0.0), 1):
            board.add(Child(number, "r", RunState.SUCCEEDED, {}, (number,), {"size": violation}), elapsed=0.0)

        assert board.progress(3)["leaders"] == [3, 1]


@mlfn.function
def train(x: int, ctx: mlfn.Context) -> None:
    if x % 50 == 49:
        raise ValueError(f"bad\x1b[31m {x}\nand more")
    ctx.log_metric("score", -x)


class TestOfTheStore:
    def rows_read(self, sweep, monkeypatch, before=None):
        session = type(sweep._session.store.connection)
        read, count = session.read, 0

        def counted(*args, **kwargs):
            nonlocal count
            found = list(read(*args, **kwargs))
            count += len(found)
            return found

        with monkeypatch.context() as patched:
            patched.setattr(session, "read", counted)
            return view_sweep_briefly(sweep, before), count

    def test_a_glance_reads_a_few_rows_of_many_and_those_once(self, monkeypatch):
        sweep = train.on("inline").grid(x=range(200)).with_options(select="max.score").submit()

        first, count = self.rows_read(sweep, monkeypatch)
        again, count_again = self.rows_read(sweep, monkeypatch, first)

        assert [one.iteration for one in first.rows] == [1, 2, 3, 4, 5, 6, 7, 8]
        assert [one.values for one in first.rows[:2]] == [(0.0,), (-1.0,)]
        assert first.failed is not None
        assert (first.failed.iteration, first.failed.error) == (200, "ValueError: bad\x1b[31m 199")
        assert again.rows == first.rows
        assert again.failed == first.failed
        assert count <= 25
        assert count_again <= 2

    def test_of_new_ones_among_the_best_only_those_are_read(self, monkeypatch):
        sweep = train.on("inline").grid(x=range(20)).with_options(select="max.score").submit()
        first = view_sweep_briefly(sweep)
        older = replace(first, rows=first.rows[2:], leaders=first.leaders[2:])
        asked = []
        read = type(sweep._session.store).children_at
        monkeypatch.setattr(
            type(sweep._session.store),
            "children_at",
            lambda self, run, which: asked.append(which) or read(self, run, which),
        )

        again = view_sweep_briefly(sweep, older)

        assert asked == [[1, 2]]
        assert again.rows == first.rows

    def test_one_that_failed_since_takes_the_place_of_the_other(self):
        sweep = train.on("inline").grid(x=range(100)).with_options(select="max.score").submit()
        first = view_sweep_briefly(sweep)
        earlier = replace(first, ended={**first.ended, "failed": 1}, failed=row(50, RunState.FAILED))

        assert view_sweep_briefly(sweep, earlier).failed == first.failed
        whole = view_sweep(sweep, earlier).failed
        assert whole is not None and first.failed is not None
        assert whole.iteration == first.failed.iteration == 100

    def test_a_driver_that_told_of_the_best_alone_is_understood(self):
        sweep = train.on("inline").grid(x=range(5)).with_options(select="max.score").submit()
        said = dict(sweep.progress)
        del said["leaders"]
        record = replace(sweep._record, progress=said)
        sweep._look = lambda: record
        sweep._record = record

        assert [one.iteration for one in view_sweep_briefly(sweep).rows] == [1]

    def test_without_a_selector_the_last_that_ended_are_shown(self):
        sweep = train.on("inline").grid(x=range(20)).submit()

        assert [one.iteration for one in view_sweep_briefly(sweep).rows] == [20, 19, 18, 17, 16, 15, 14, 13]
