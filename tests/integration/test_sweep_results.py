"""What is looked at after a sweep: figures, comparisons, the stored picture."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

import pandas as pd
import pytest

import mlfn
from mlfn.errors import MissingExtraError, NotFoundError, OptionError, ParameterError, SweepError
from mlfn.sweep.results.plots import KINDS


class Model:
    """Knows only itself by ==."""


@mlfn.function
def measured(by: int, frame: Any, model: Any) -> float:
    return float(by * len(frame))


@mlfn.function
def speaks(x: int) -> int:
    print(f"x is {x}")
    print("done", end="")
    return x


@mlfn.function
def train(depth: int, opt: str, ctx: mlfn.Context, lr: float = 0.1, noise: int = 0) -> None:
    if opt == "bad":
        raise ValueError("a bad one")
    for step in range(3):
        ctx.log_metric("score", depth * (step + 1), step=step)
    ctx.log_result("cost", depth / 2 + lr)


@pytest.fixture
def here():
    return train.on("inline")


@pytest.fixture
def grid(here):
    return here.grid(depth=[2, 4, 8], opt=["a", "b", "bad"]).with_options(select=["max.score", "min.cost"]).submit()


class TestPlot:
    @pytest.mark.parametrize("kind", KINDS)
    def test_every_kind_is_a_figure_for_a_grid_too(self, grid, kind, tmp_path):
        figure = grid.plot(kind)
        picture = grid.plot(kind, path=tmp_path / "x.png")

        assert type(figure).__module__.startswith("plotly.")
        assert figure.data
        assert type(picture).__module__ == "matplotlib.figure"
        assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")

    def test_children_are_called_by_their_numbers(self, grid):
        history = grid.plot("history")
        series = grid.plot("intermediate")

        assert list(history.data[0].x) == [1, 2, 3, 4, 5, 6]
        assert history.data[0].name == "score"
        assert history.layout.xaxis.title.text == "Child"
        assert [trace.name for trace in series.data] == [f"Child {n}" for n in range(1, 7)]

    def test_another_of_several_metrics_is_drawn(self, grid):
        assert list(grid.plot("history", metric="cost").data[0].y) == [1.1, 2.1, 4.1] * 2

    def test_parameters_are_chosen(self, grid):
        figure = grid.plot("parallel", params=["depth"])

        assert [axis.label for axis in figure.data[0].dimensions] == ["depth", "score", "cost"]
        assert figure.data[0].dimensions[0].ticktext == ("2", "4", "8")

    def test_a_timeline_has_what_failed_too(self, grid):
        assert {trace.name for trace in grid.plot("timeline").data} == {"succeeded", "failed"}

    def test_a_search_is_drawn_by_its_spaces(self, here):
        sweep = here.search(n=6, seed=1, depth=mlfn.randint(1, 9), opt=["a"], lr=mlfn.loguniform(1e-3, 1))
        sweep = sweep.with_options(select="max.score").submit()

        assert [axis.label for axis in sweep.plot().data[0].dimensions] == ["depth", "lr", "score"]
        assert sweep.plot("slice", params=["lr"]).layout.xaxis.type == "log"

    def test_a_contour_has_the_four_most_important_parameters(self, here):
        spaces = {"depth": mlfn.randint(1, 9), "opt": ["a", "b"], "lr": mlfn.uniform(0, 1), "noise": mlfn.randint(0, 9)}
        sweep = here.random(n=8, seed=1, **spaces).with_options(select="max.score").submit()

        assert "the parameters" not in sweep.plot("contour").layout.title.text
        assert "the parameters depth, lr" in sweep.plot("contour", params=["depth", "lr"]).layout.title.text

    def test_a_path_says_in_what_way(self, grid, tmp_path):
        grid.plot("history", path=tmp_path / "x.html")
        grid.plot("history", path=str(tmp_path / "x.svg"))

        assert "Plotly.newPlot" in (tmp_path / "x.html").read_text("utf-8")
        assert "<svg" in (tmp_path / "x.svg").read_text()

    def test_what_a_path_ends_in_may_be_in_capitals(self, grid, tmp_path):
        grid.plot("history", path=tmp_path / "x.PNG")

        assert (tmp_path / "x.PNG").read_bytes().startswith(b"\x89PNG")

    def test_one_parameter_is_as_good_as_a_list_of_one(self, grid):
        assert grid.plot("slice", params="depth") == grid.plot("slice", params=["depth"])

    def test_static_lines_are_drawn_at_once_the_best_one_on_top(self, grid):
        (axes,) = grid.plot("parallel", static=True).axes
        lines = axes.collections[0]

        assert len(axes.lines) == 0
        assert len(lines.get_segments()) == len(grid)
        assert list(lines.get_linewidths()).index(3) == len(grid) - 1

    def test_a_static_timeline_has_whole_numbers_and_its_legend_where_no_bar_is(self, grid):
        (axes,) = grid.plot("timeline", static=True).axes

        assert all(tick == int(tick) for tick in axes.get_yticks())
        assert axes.get_legend()._loc == 4  # lower right

    def test_a_static_figure_leaves_matplotlib_as_it_was(self, grid):
        import matplotlib as mpl
        from matplotlib import pyplot as plt

        before = dict(mpl.rcParams)
        grid.plot("history", static=True)

        assert dict(mpl.rcParams) == before
        assert plt.get_fignums() == []

    @pytest.mark.parametrize(
        ("arguments", "error", "said"),
        [
            ({"kind": "paralel"}, OptionError, "did you mean 'parallel'"),
            ({"path": "x.gif"}, OptionError, ".png, .svg, .pdf or .html"),
            ({"path": "nowhere/x.png"}, OptionError, "there is no folder 'nowhere'"),
            ({"metric": "scor"}, NotFoundError, "did you mean 'score'"),
            ({"params": ["dept"]}, NotFoundError, "did you mean 'depth'"),
            ({"params": ["dept"], "static": True}, NotFoundError, "did you mean 'depth'"),
            ({"kind": "pareto", "metric": "score"}, OptionError, "leave it out"),
        ],
    )
    def test_what_cannot_be_is_said(self, grid, arguments, error, said):
        with pytest.raises(error, match=said):
            grid.plot(**arguments)

    def test_importance_of_children_that_are_all_equal_is_refused(self, here):
        sweep = here.grid(depth=[4], opt=["a", "b"]).with_options(select="max.score").submit()

        with pytest.raises(
            SweepError, match="two at least must have succeeded with different values, and here all have"
        ):
            sweep.plot("importance")

    def test_one_metric_has_no_pareto_front(self, here):
        sweep = here.grid(depth=[4, 8], opt=["a"]).with_options(select="max.score").submit()

        with pytest.raises(SweepError, match=r"two or three metrics.*select=\['max.score'\]"):
            sweep.plot("pareto")

    def test_without_a_selector_there_is_a_timeline_and_the_picture_that_is_stored(self, here):
        sweep = here.grid(depth=[4, 8], opt=["a"]).submit()

        lines = sweep.plot("parallel")
        [stored] = re.findall(r"cost = [0-9.]+|score = [0-9.]+", sweep.outputs.parallel_coordinates.path.read_text())[
            :1
        ]

        assert sweep.plot("timeline").data
        assert [axis.label for axis in lines.data[0].dimensions] == ["depth", stored.partition(" ")[0]]
        assert type(sweep.plot("parallel", static=True)).__module__ == "matplotlib.figure"
        with pytest.raises(NotFoundError, match="no metric to choose: it was submitted without select="):
            sweep.plot("parallel", metric="score")
        with pytest.raises(NotFoundError, match="select="):
            sweep.plot("history")

    def test_without_a_selector_and_a_number_there_is_nothing_to_draw(self, here):
        with pytest.raises(SweepError, match=r"nothing to plot: .* and one a finite number\."):
            here.grid(depth=[4, 8], opt=["bad"]).submit().plot("parallel")

    @pytest.mark.parametrize("kind", ["history", "edf", "parallel", "slice", "intermediate", "timeline"])
    def test_where_all_failed_it_is_said(self, here, kind):
        sweep = here.grid(depth=[1, 2], opt=["bad"]).with_options(select="max.score").submit()

        if kind == "timeline":
            assert sweep.plot(kind).data[0].name == "failed"
        else:
            with pytest.raises(SweepError):
                sweep.plot(kind)

    @pytest.mark.parametrize(
        ("gone", "kind", "static", "said"),
        [
            ("plotly", "history", False, r"needs plotly: pip install 'mlfn\[plots\]'; .*static=True"),
            ("matplotlib", "timeline", True, r"needs matplotlib: pip install 'mlfn\[plots\]'"),
            ("optuna", "history", False, r"needs optuna: pip install 'mlfn\[search\]'"),
        ],
    )
    def test_what_is_not_installed_is_asked_for(self, grid, monkeypatch, gone, kind, static, said):
        find = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *more: None if name == gone else find(name, *more)
        )

        with pytest.raises(MissingExtraError, match=said):
            grid.plot(kind, static=static)


class TestCompare:
    def test_children_stand_beside_each_other_by_what_differs(self, grid):
        frame = grid.compare(1, 3, 7)

        assert list(frame.columns) == [1, 3, 7]
        assert list(frame.loc["param"].index) == ["depth", "opt"]
        assert list(frame.loc[("param", "depth")]) == [2, 8, 2]
        assert list(frame.loc[("result", "score")])[:2] == [6, 24]
        assert frame.loc[("run", "error"), 7] == "ValueError: a bad one"
        assert ("param", "lr") in grid.compare(1, 3, everything=True).index or "lr" not in grid.best.params

    def test_runs_of_another_origin_may_be_among_them(self, grid, here):
        other = here.submit(4, "c")
        frame = grid.compare(1, grid.best, other)

        assert list(frame.columns) == [1, grid.best_iteration, f"train {other.id[:8]}"]

    def test_sweeps_stand_beside_each_other_with_their_best(self, grid, here):
        other = here.random(n=2, seed=1, depth=mlfn.randint(1, 3), opt=["a"]).with_options(select="max.score").submit()

        frame = grid.compare(other)

        assert list(frame.columns) == [f"train {grid.id[:8]}", f"train {other.id[:8]}"]
        assert list(frame.loc[("sweep", "strategy")]) == ["grid", "random"]
        assert list(frame.loc[("sweep", "children")]) == [9, 2]
        assert frame.loc[("result", "score")].iloc[0] == 24
        assert ("sweep", "state") not in frame.index

    def test_what_is_the_same_leaves_an_empty_table(self, grid):
        assert len(grid.compare(1, grid.children[1]).columns) == 1
        assert grid.compare(grid).empty

    @pytest.mark.parametrize("others", [(), (1,), (1, "2"), (1, True)])
    def test_what_cannot_be_compared_is_refused(self, grid, others):
        with pytest.raises(ParameterError, match="compare"):
            grid.compare(*others)

    def test_a_child_and_a_sweep_do_not_mix(self, grid):
        with pytest.raises(ParameterError, match="or sweeps"):
            grid.compare(1, grid)

    def test_a_number_that_is_not_there_is_said(self, grid):
        with pytest.raises(NotFoundError, match="from 1 to 9"):
            grid.compare(1, 99)


def test_the_picture_is_an_artifact_of_the_sweep(grid):
    page = grid.outputs.parallel_coordinates.path.read_text("utf-8")

    assert "Best: child 3, depth = 8, opt = a, score = 24" in page
    assert "cost" in page
    assert page.count("<path") == 9


class TestCompareOfAnything:
    def test_what_children_share_is_left_out_whatever_it_is(self):
        sweep = measured.on("inline").grid(by=[1, 2]).submit(frame=pd.DataFrame({"x": [1.0, None]}), model=Model())

        frame = sweep.compare(1, 2)

        assert [name for part, name in frame.index if part == "param"] == ["by"]
        assert ("param", "model") in sweep.compare(1, 2, everything=True).index


class TestLogs:
    def test_the_lines_of_children_have_their_numbers(self, local):
        sweep = speaks.grid(x=[5, 6]).submit()
        sweep.wait(30)

        assert sweep.logs() == "[1] x is 5\n[1] done\n[2] x is 6\n[2] done\n"
        assert sorted("".join(sweep.logs(follow=True)).splitlines()) == sorted(sweep.logs().splitlines())

    def test_an_attempt_is_one_childs(self, local):
        sweep = speaks.grid(x=[5]).submit()

        with pytest.raises(
            ParameterError, match=r"is a sweep: logs\(attempt=1\) is of one child, as in sweep.children\[1\]"
        ):
            sweep.logs(attempt=1)
