"""What people read in a terminal of some width: tables, the end of a run, and remarks."""

from __future__ import annotations

import click
import pytest

from mlfn.artifacts.formats.tagged_json import encode
from mlfn.spec.record import Output, RunState
from mlfn.ui import text
from mlfn.ui.terminal.tables import table_lines
from mlfn.ui.text import Column, Way
from mlfn.ui.views.listing import ListingView
from mlfn.ui.views.sweep import ChildView
from mlfn.ui.views.values import Value, output
from mlfn.ui.wording import ago, from_home, number, wrapped
from tests.unit.ui.make_views import run_view, sweep_view

NAMES = ("train_gradient_boosting", "evaluate_gradient_boosting")


def listing(project: tuple[str, str] = ("default", "default")) -> ListingView:
    params = (Value("data", "'" + "x" * 100 + "'"),)
    runs = [
        run_view(
            id=f"{at}f2a91c0" * 4,
            name=name,
            project=one,
            params=params,
            state=RunState.SUCCEEDED,
            created=1_000_000.0 - at * 3600,
            ended=1_000_020.5,
        )
        for at, (name, one) in enumerate(zip(NAMES, project, strict=True))
    ]
    return ListingView(tuple(runs), 2, "accuracy", {run.id: 0.123456789 for run in runs})


def drawn(columns: list[Column], width: int) -> list[str]:
    return [click.unstyle(line) for line in table_lines(columns, width)]


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_an_id_a_state_and_a_metric_are_never_cut(width):
    lines = drawn(text.listing_table(listing(), numbered=False), width)

    for line, first in zip(lines[1:], ("0f2a91c0", "1f2a91c0"), strict=True):
        assert line.split()[:2] == [first, "succeeded"] and "0.1235" in line.split()
    assert all(len(line) <= width for line in lines)


def test_a_column_that_is_the_same_in_each_row_goes_first():
    assert "PROJECT" not in drawn(text.listing_table(listing(), numbered=False), 80)[0]
    assert "PROJECT" in drawn(text.listing_table(listing(("risk", "sales")), numbered=False), 100)[0]


def test_in_a_terminal_a_date_is_how_long_ago():
    columns = text.listing_table(listing(("risk", "sales")), numbered=False)

    assert "1 min ago" in drawn(columns, 140)[1]
    assert "1 min ago" not in "".join(text.table_lines(columns))  # a file is read later


def test_parameters_take_what_is_left():
    wide, narrow = (drawn(text.listing_table(listing(), numbered=False), width)[1] for width in (140, 80))

    assert len(wide) == 140 and len(narrow) == 80 and wide.endswith("…") and narrow.endswith("…")


def test_outside_a_terminal_nothing_is_cut():
    lines = list(text.table_lines([Column("ID", ["0123456789abcdef"]), Column("PARAMETERS", ["x" * 200], Way.CUT)]))

    assert lines == ["ID                PARAMETERS", f"0123456789abcdef  {'x' * 200}"]


def test_a_table_of_a_sweep_keeps_ids_states_and_the_selected_metric():
    params = (Value("x", "'long'", stored={"packer": "json", "inline": encode("y" * 60)}),)
    metrics = {"score": 0.123456, **{f"other_{at}": 0.5 for at in range(6)}}
    child = ChildView(7, "3f2a91c0" * 4, RunState.SUCCEEDED, params, (0.5,), 1.0, 2.0, metrics=metrics)

    head, row = drawn(text.sweep_table(sweep_view(children=(child,)), 10), 60)

    assert {"7", "succeeded", "0.1235", "3f2a91c0"} < set(row.split()) and len(row) <= 60
    assert "other_5" not in head


def test_a_run_that_ended_shows_each_result_in_a_line_of_its_own():
    path = f"/home/me/artifacts/{'3f2a91c0' * 4}/model/{'a' * 64}.json"
    outputs = (
        output(Output("model", "result", "json", "builtins.dict", path=path, size=145_000)),
        output(Output("accuracy", "result", "json", "builtins.float", encode(0.123456789))),
    )
    run = run_view(state=RunState.SUCCEEDED, ended=1_000_020.0, outputs=outputs, artifacts=path.rpartition("/model")[0])

    lines = [click.unstyle(line) for line in text.ending(run, width=80)]

    assert "model      dict, 145 kB" in lines and "accuracy   0.1235" in lines
    assert lines[-1].startswith("artifacts  ") and lines[-1].endswith("3f2a91c0" * 4)


def test_results_come_first():
    outputs = (output(Output("accuracy", "result", "json", "builtins.float", encode(0.5))),)
    titles = [click.unstyle(line) for line in text.report(run_view(outputs=outputs, params=(Value("x", "1"),)))]

    assert titles.index("outputs") < titles.index("about")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.123456789, "0.1235"), (12345.678, "12346"), (97.0, "97"), (1.23456e-05, "1.235e-05"), (1e300, "1e+300")],
)
def test_a_number_has_four_digits(value, shown):
    assert number(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(5, "5 s ago"), (125, "2 min ago"), (7300, "2 h ago"), (180_000, "2 d ago")]
)
def test_a_time_is_told_by_how_long_ago(seconds, shown):
    assert ago(1_000_000.0 - seconds, taken=1_000_000.0) == shown


def test_of_a_time_long_ago_the_date_is_told():
    assert ago(0.0, taken=1e9) in ("1970-01-01", "1969-12-31")


def test_lines_are_broken_between_words_alone():
    path = "/a/very/long/path/that/has/no/space"

    assert wrapped(f"key in {path} mode 0600", 20, indent=4) == ["key in", f"    {path}", "    mode 0600"]
    assert wrapped("one two", None, indent=4) == ["one two"]


def test_a_path_below_the_home_folder_begins_with_a_tilde(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")

    assert from_home("/home/me/.mlfn/logs") == "~/.mlfn/logs"
    assert from_home("/home/menno/x") == "/home/menno/x"
    assert from_home("/home/me/two words") == "/home/me/two words"  # which a shell takes in quotes, and no tilde there
