"""Sweeps over real worker processes: what children get, how they end, what the parent makes of it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import mlfn
from mlfn.errors import (
    NotFoundError,
    OptionError,
    ParameterError,
    RunCancelledError,
    SweepError,
)
from mlfn.spec.record import RunState
from tests.ledger import Stage, wait_until


@mlfn.function
@mlfn.handler(outputs=["score"])
def train(depth: int, lr: float = 0.1, *, base: float = 0.0) -> float:
    return depth * lr + base


@mlfn.function
def told(x: Any, ctx: mlfn.Context, say: str = "score") -> Any:
    """Report whatever number it is given; "fail" fails."""
    if x == "fail":
        raise ValueError("as it was told")
    if x == "silent":
        return None
    ctx.log_metric(say, x)
    return x


@mlfn.function
def waits(x: int, until: str, ctx: mlfn.Context) -> int:
    import pathlib

    while not pathlib.Path(until).exists():
        time.sleep(0.005)
    return x


@mlfn.function
def mixed(x: int) -> int:
    if x < 0:
        raise ValueError("negative")
    if x == 0:
        raise ZeroDivisionError("zero")
    return x


@mlfn.function
def double(x: int) -> int:
    return 2 * x


@mlfn.function
def several(**more: int) -> int:
    return sum(more.values())


@dataclass
class Conf:
    depth: int = 1


@mlfn.function
def nested(conf: Conf = Conf()) -> int:  # noqa: B008 - it is not changed
    return conf.depth


class Told:
    """Asked and told."""

    def ask(self) -> dict[str, int]:
        return {"depth": 1}

    def tell(self, params: Any, value: Any) -> None: ...


def states(sweep: Any) -> list[str]:
    return [str(child.state) for child in sweep.children]


@mlfn.function
def some_last(x: int, until: str, ctx: mlfn.Context) -> int:
    """Return at once, the even ones later."""
    import pathlib
    import time

    while x % 2 == 0 and not pathlib.Path(until).exists():
        time.sleep(0.005)
    ctx.log_result("score", x)
    return x


class TestWhatChildrenGet:
    def test_a_grid_becomes_runs_numbered_from_one(self, local):
        sweep = train.grid(depth=[4, 8, 16], lr=[0.3, 0.1]).with_options(select="max.score").submit(base=1.0)

        assert sweep.result(30) == pytest.approx(5.8)
        assert (sweep.best_iteration, sweep.best.params) == (3, {"base": 1.0, "depth": 16, "lr": 0.3})
        assert [child.iteration for child in sweep.children] == [1, 2, 3, 4, 5, 6]
        assert [child.params["depth"] for child in sweep.children] == [4, 8, 16, 4, 8, 16]
        assert sweep.outputs["best_iteration"] == 3
        assert sweep.outputs["score"] == sweep.best.outputs["score"]
        assert len(sweep) == 6

    def test_the_table_equals_the_children(self, local):
        sweep = train.grid(depth=[1, 2], lr=[0.5, 0.25]).with_options(select="score").submit()
        sweep.wait(30)

        table = sweep.table()

        assert list(table.columns) == ["iteration", "depth", "lr", "score", "state", "seconds", "run"]
        assert table["iteration"].tolist() == [1, 2, 3, 4]
        assert table["depth"].tolist() == [1, 2, 1, 2]
        assert table["depth"].dtype == "int64"
        assert table["score"].tolist() == [child.outputs["score"] for child in sweep.children]
        assert table["run"].tolist() == [child.id[:8] for child in sweep.children]
        text = sweep.outputs["iteration_results"].read_text()
        assert text.splitlines()[0] == ",".join(table.columns)
        assert len(text.splitlines()) == 5
        parquet = pd.read_parquet(sweep.outputs["iteration_results_parquet"])
        assert parquet["depth"].tolist() == [1, 2, 1, 2]
        assert parquet.to_csv(index=False) == text

    def test_values_keep_their_types(self, local):
        values = [1, 1.0, True, None, "1", (1, 2), {"a": [1]}, float("inf")]

        sweep = mlfn.function(name="kinds")(lambda x: f"{x!r}").grid(x=values).submit()

        assert sweep.result(30) == [repr(value) for value in values]
        assert [type(child.params["x"]) for child in sweep.children] == [type(value) for value in values]

    def test_a_part_of_a_parameter_is_swept_by_its_dotted_path(self, local):
        @mlfn.function
        def fit(model: dict[str, Any], x: int = 0) -> Any:
            return model

        sweep = fit.grid({"model.depth": [4, 8]}, x=[1]).submit(model={"depth": 0, "kind": "tree"})

        assert sweep.result(30) == [{"depth": 4, "kind": "tree"}, {"depth": 8, "kind": "tree"}]
        assert sweep.table()["model.depth"].tolist() == [4, 8]

    def test_a_text_that_names_a_file_is_read_where_the_child_runs(self, local, tmp_path):
        @mlfn.function
        def seen(path: Path, gate: str = "") -> tuple[str, str]:
            if gate and not Path(gate).exists():
                raise ValueError("not yet")
            return type(path).__name__, path.read_text()

        for name in ("a", "b"):
            (tmp_path / name).write_text(name)
        files = [str(tmp_path / "a"), str(tmp_path / "b")]
        sweep = seen.grid(path=files).with_options(max_failures=1, parallel=1).submit(gate=str(tmp_path / "gate"))

        assert seen.map(files).submit().result(30) == [("PosixPath", "a"), ("PosixPath", "b")]
        assert isinstance(sweep.exception(30), SweepError)
        (tmp_path / "gate").touch()
        # As by another process, which has the code as it was stored.
        assert sweep.resume().result(30) == [("PosixPath", "a"), ("PosixPath", "b")]

    def test_what_goes_to_keywords_of_any_name_goes_there_after_a_resume_too(self, local, tmp_path):
        @mlfn.function
        def seen(gate: str, **more: int) -> dict[str, int]:
            if not Path(gate).exists():
                raise ValueError("not yet")
            return more

        sweep = seen.grid(x=[1, 2]).with_options(max_failures=1, parallel=1).submit(str(tmp_path / "gate"), y=3)

        assert isinstance(sweep.exception(30), SweepError)
        (tmp_path / "gate").touch()
        assert sweep.resume().result(30) == [{"x": 1, "y": 3}, {"x": 2, "y": 3}]

    def test_a_slice_keeps_the_numbers_of_the_whole(self, local):
        sweep = train.grid(depth=[1, 2, 3, 4, 5, 6])[1::2].submit()
        sweep.wait(30)

        assert [child.iteration for child in sweep.children] == [2, 4, 6]
        assert [child.params["depth"] for child in sweep.children] == [2, 4, 6]

    def test_the_context_says_which_child_it_is(self, local):
        @mlfn.function
        def number(x: int, ctx: mlfn.Context) -> int:
            return ctx.iteration

        assert number.grid(x=[5, 5, 5]).submit().result(30) == [1, 2, 3]

    def test_an_iterable_and_an_object_that_is_asked_choose_children(self, local):
        class Halving:
            def __init__(self) -> None:
                self.high, self.seen = 16.0, []

            def ask(self):
                return {"x": self.high} if len(self.seen) < 4 else None

            def tell(self, params, value):
                self.seen.append((params["x"], value))
                self.high /= 2

        chooser = Halving()
        asked = told.sweep(chooser).with_options(select="min.score", parallel=1).submit()
        listed = told.sweep({"x": n} for n in (3, 1, 2)).with_options(select="min.score").submit()

        assert asked.result(30) == 2.0
        assert chooser.seen == [(16.0, (16.0)), (8.0, 8.0), (4.0, 4.0), (2.0, 2.0)]
        assert (listed.result(30), listed.best_iteration) == (1, 2)

    def test_a_map_yields_results_in_order(self, local):
        double = mlfn.function(name="double")(lambda x, by=2: x * by)

        assert list(double.map([1, 2, 3]).submit()) == [2, 4, 6]
        assert double.map(iter([1, 2]), by=[10, 100]).submit().result(30) == [10, 200]

    def test_a_map_raises_where_a_child_failed(self, local):
        results = iter(told.map([1, "fail", 3]).submit())

        assert next(results) == 1
        with pytest.raises(ValueError, match="as it was told"):
            next(results)

    def test_children_share_an_output_of_another_run(self, local):
        first = train.submit(2, 5.0)

        sweep = train.grid(depth=[1, 2]).submit(base=first.outputs.score)

        assert sweep.result(30) == pytest.approx([10.1, 10.2])

    def test_another_process_sees_the_same_sweep(self, local):
        sweep = train.grid(depth=[1, 2]).with_options(select="score").submit()
        sweep.wait(30)

        again = mlfn.run(sweep.id[:8])

        assert type(again) is type(sweep)
        assert (again.best.id, again.result()) == (sweep.best.id, sweep.result())
        assert [run.id for run in mlfn.runs()] == [sweep.id]
        assert {run.id for run in mlfn.runs(parent=sweep)} == {child.id for child in sweep.children}

    def test_its_attempt_has_a_start_and_an_end(self, local):
        sweep = train.grid(depth=[1, 2]).submit()
        sweep.wait(30)

        [attempt] = sweep.attempts
        assert attempt.started <= sweep.children[1].attempts[0].started <= attempt.ended


class TestWhatWins:
    def sweep(self, values: list[Any], **options: Any) -> Any:
        sweep = told.grid(x=values).with_options(**options).submit()
        assert sweep.wait(30)
        return sweep

    def test_nan_and_infinity_never_win(self, local):
        sweep = self.sweep([math.nan, 2.0, math.inf, 1.0, -math.inf], select="max.score")

        assert sweep.best_iteration == 2
        assert self.sweep([math.nan, 2.0, -math.inf], select="min.score").best_iteration == 2

    def test_ties_go_to_the_lower_number(self, local):
        assert self.sweep([1, 3, 3, 2], select="max.score").best_iteration == 2

    def test_a_child_without_the_metric_does_not_count(self, local):
        assert self.sweep(["silent", 1, 2], select="min.score").best_iteration == 2

    def test_all_negative_numbers_have_a_best(self, local):
        assert self.sweep([-3, -1, -2], select="max.score").best_iteration == 2

    def test_a_metric_that_no_child_reports_is_an_error_that_lists_those_reported(self, local):
        sweep = self.sweep([1, 2], select="max.scoer", strict=False)

        with pytest.raises(SweepError, match=r"no child reports 'scoer'.*'score'"):
            sweep.result()
        assert states(sweep) == ["succeeded", "succeeded"]

    def test_a_first_child_without_the_metric_ends_the_sweep(self, local):
        sweep = self.sweep([1, 2, 3], select="max.scoer", parallel=1)

        with pytest.raises(SweepError, match=r"child 1 of told has not reported. Did you mean 'score'\?.*strict=False"):
            sweep.result()
        assert len(sweep.children) == 1

    def test_a_misspelt_output_that_is_declared_is_refused_at_once(self, local):
        with pytest.raises(OptionError, match=r"select='max.scoer': train has no output 'scoer': did you mean 'score'"):
            train.grid(depth=[1]).with_options(select="max.scoer").submit()

    def test_another_best_is_selected_afterwards(self, local):
        sweep = self.sweep([1, 5, 3], select="max.score")

        chosen = sweep.select("min.score")

        assert (chosen.best_iteration, chosen.result(30), chosen.outputs["return"]) == (1, 1, 1)
        assert (sweep.best_iteration, sweep.result(30)) == (2, 5)
        assert double.submit(chosen).result(30) == 2
        with pytest.raises(OptionError, match="no child reports 'scoer'"):
            _ = sweep.select("max.scoer").best

    def test_so_is_one_that_decides_what_counts_or_when_to_stop(self, local):
        barred = self.sweep([1, 2], select="max.score", subject_to="scoer < 3")
        endless = self.sweep([1, 2], select="max.score", stop_when="scoer > 9")
        unselected = self.sweep([1, 2], subject_to="score < 3")

        with pytest.raises(SweepError, match=r"subject_to='scoer < 3': no child reports 'scoer'.*'score'"):
            barred.result()
        with pytest.raises(SweepError, match=r"stop_when='scoer > 9': no child reports 'scoer'.*'score'"):
            endless.result()
        assert endless.best_iteration == 2
        assert unselected.result() == [1, 2]

    def test_the_table_says_who_meets_the_constraints(self, local):
        sweep = self.sweep([1, 5, "fail", 2], select="max.score", subject_to="score < 3")

        assert sweep.best_iteration == 4
        assert sweep.table()["feasible"].tolist() == [True, False, None, True]
        assert "feasible" in sweep.outputs["iteration_results"].read_text().splitlines()[0].split(",")
        assert "feasible" not in self.sweep([1, 5], select="max.score").table()

    def test_constraints_that_no_child_meets_are_told_with_the_closest(self, local):
        sweep = self.sweep([1, 2, "silent"], select="max.score", subject_to="score < 0.25")

        with pytest.raises(SweepError, match=r"the closest, child 1, misses 'score < 0.25' by 0.75;"):
            sweep.result()

    def test_a_metric_that_is_never_a_number_was_reported_all_the_same(self, local, caplog):
        sweep = self.sweep([math.nan, math.nan], select="max.score", subject_to="score < 3", stop_when="score > 9")

        with pytest.raises(SweepError, match="no child succeeded with a finite score"):
            sweep.result()
        assert "speaks of" not in caplog.text

    @pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
    def test_a_constraint_without_bounds_concerns_one_child_alone(self, local, odd):
        @mlfn.function
        def bounded(x: float, ctx: mlfn.Context) -> float:
            ctx.log_metric("score", x if math.isfinite(x) else 9)
            ctx.log_constraint("memory", x if not math.isfinite(x) else -1)
            return x

        sweep = bounded.grid(x=[1.0, odd, 2.0]).with_options(select="max.score").submit()

        assert sweep.wait(30)
        assert sweep.best_iteration == (2 if odd == -math.inf else 3)

    def test_no_finite_number_is_an_error(self, local):
        sweep = self.sweep([math.nan, math.inf], select="max.score")

        with pytest.raises(SweepError, match="no child succeeded with a finite score"):
            sweep.result()
        with pytest.raises(SweepError, match="no best child"):
            _ = sweep.best

    def test_without_a_selector_there_is_no_best(self, local):
        sweep = self.sweep([1, 2])

        with pytest.raises(NotFoundError, match="select="):
            _ = sweep.best
        assert sweep.result() == [1, 2]

    def test_the_point_of_a_series_that_counts_can_be_chosen(self, local):
        @mlfn.function
        def series(points: list[float], ctx: mlfn.Context) -> None:
            for step, point in enumerate(points):
                ctx.log_metric("loss", point, step=step)

        grid = series.grid(points=[[1.0, 9.0], [5.0, 4.0], [8.0, 3.0, 7.0]])
        best = {
            text: grid.with_options(select=text).submit()
            for text in ("min.loss", "min.loss@best", "min.loss@max", "max.loss@min")
        }

        assert {text: (run.wait(30), run.best_iteration)[1] for text, run in best.items()} == {
            "min.loss": 2,
            "min.loss@best": 1,
            "min.loss@max": 2,
            "max.loss@min": 2,
        }

    def test_a_constraint_that_is_violated_keeps_a_child_from_winning(self, local):
        @mlfn.function
        def fit(x: float, ctx: mlfn.Context) -> None:
            ctx.log_metric("score", x)
            ctx.log_metric("mem_gb", 2 * x)
            ctx.log_constraint("small", x - 4)

        logged = fit.grid(x=[1.0, 4.0, 5.0, 9.0]).with_options(select="max.score").submit()
        asked = fit.grid(x=[1.0, 3.0, 4.0]).with_options(select="max.score", subject_to="mem_gb <= 6").submit()

        assert (logged.wait(30), logged.best_iteration) == (True, 2)
        assert (asked.wait(30), asked.best_iteration) == (True, 2)

    def test_several_selectors_have_a_front(self, local):
        @mlfn.function
        def fit(x: int, ctx: mlfn.Context) -> None:
            ctx.log_metric("accuracy", [0, 5, 5, 9, 2][x])
            ctx.log_metric("latency", [9, 5, 6, 8, 1][x])

        sweep = fit.grid(x=range(5)).with_options(select=["max.accuracy", "min.latency"]).submit()
        sweep.wait(30)

        assert [child.iteration for child in sweep.pareto] == [2, 4, 5]
        assert sweep.best_iteration == 4

    def test_a_truth_counts_as_one_and_an_untruth_as_nought(self, local):
        @mlfn.function
        def check(x: int, ctx: mlfn.Context) -> bool:
            ctx.log_result("ok", x > 1)
            return x == 3

        sweep = check.grid(x=[1, 2, 3]).with_options(select=["max.ok", "max.return"], subject_to="ok >= 1").submit()

        assert (sweep.result(30), sweep.best_iteration) == (False, 2)
        assert [child.iteration for child in sweep.pareto] == [3]
        assert sweep.table()[["ok", "return"]].to_dict("list") == {"ok": [0.0, 1.0, 1.0], "return": [0.0, 0.0, 1.0]}
        assert sweep.children[1].outputs["ok"] is False


class TestWhatEndsIt:
    def test_a_failed_child_fails_alone(self, local):
        sweep = told.grid(x=["fail", 2, 1]).with_options(select="max.score").submit()

        assert sweep.result(30) == 2
        assert states(sweep) == ["failed", "succeeded", "succeeded"]
        assert sweep.table()["error"].tolist()[0] == "ValueError: as it was told"

    def test_all_children_failed(self, local):
        sweep = told.grid(x=["fail", "fail"]).with_options(select="max.score").submit()

        with pytest.raises(
            SweepError, match=r"all 2 children failed.*child 1, ended with ValueError: as it was told; `mlfn show"
        ) as seen:
            sweep.result(30)
        assert isinstance(seen.value.__cause__, ValueError) and "in told" in str(seen.value.__cause__.__cause__)

    def test_each_distinct_error_is_logged_once_with_its_count(self, local, caplog):
        sweep = mixed.grid(x=[1, -1, -2, 0]).submit()
        sweep.wait(30)

        runs, begins = [child.id[:8] for child in sweep.children], f"sweep mixed ({sweep.id[:8]}):"
        assert caplog.messages == [
            f"{begins} 2 of 4 children failed with ValueError: negative; `mlfn show {runs[1]}` shows the first, child 2",
            f"{begins} 1 of 4 children failed with ZeroDivisionError: zero; `mlfn show {runs[3]}` shows child 4",
        ]

    @pytest.mark.parametrize(("most", "failures"), [(0, 1), (1, 1), (2, 2)])
    @pytest.mark.parametrize("parallel", [1, 2])
    def test_max_failures_is_exact(self, local, most, failures, parallel):
        values = ["fail", 1, "fail", "fail", 2, 3]

        sweep = told.grid(x=values).with_options(max_failures=most, parallel=parallel, select="max.score").submit()

        with pytest.raises(SweepError, match=rf"{failures} of \d+ children failed \(max_failures={most}\)"):
            sweep.result(30)
        ended = states(sweep)
        assert failures <= ended.count("failed") <= failures + parallel - 1
        third = [child.record for child in sweep.children if child.state is RunState.FAILED][failures - 1]
        later = [child for child in sweep.children if child.record.created > third.ended + 0.2]
        assert later == []
        if parallel == 1:
            assert ended == values_as_states(values)[: values_as_states(values).index("failed") + 1 + 2 * (most == 2)]

    def test_a_place_that_comes_free_is_taken_while_all_others_last(self, local, tmp_path):
        """Four at a time, three of which wait for the sixth: each that ends lets the next one begin."""
        written = tmp_path / "sixth"

        @mlfn.function
        def fit(x: int, until: str) -> int:
            import pathlib
            import time

            if x == 6:
                pathlib.Path(until).touch()
            while x <= 3 and not pathlib.Path(until).exists():
                time.sleep(0.005)
            return x

        sweep = fit.grid(x=[1, 2, 3, 4, 5, 6]).with_options(parallel=4).submit(until=str(written))

        assert sweep.result(30) == [1, 2, 3, 4, 5, 6]

    def test_more_failures_than_allowed_keep_what_succeeded(self, local):
        sweep = told.grid(x=[1, "fail", 3]).with_options(max_failures=1, parallel=1, select="max.score").submit()
        sweep.wait(30)

        assert str(sweep.state) == "failed"
        assert (sweep.best_iteration, len(sweep.children)) == (1, 2)
        assert sweep.stop_reason == "1 of 2 children failed (max_failures=1)"

    def test_a_condition_ends_it_at_the_first_child(self, local):
        sweep = told.grid(x=[5, 6, 7]).with_options(select="max.score", stop_when="score > 4", parallel=1).submit()

        assert sweep.result(30) == 5
        assert states(sweep) == ["succeeded"]
        assert sweep.stop_reason == "score > 4 held after child 1"

    def test_a_condition_may_speak_of_the_sweep(self, local):
        sweep = told.grid(x=[9, 1, 1, 1, 1, 1]).with_options(select="max.score", parallel=1)

        stagnating = sweep.with_options(stop_when="stagnation >= 2").submit()
        counting = sweep.with_options(stop_when="finished == 4 and best > 8").submit()

        assert (stagnating.wait(30), len(stagnating.children)) == (True, 3)
        assert (counting.wait(30), len(counting.children)) == (True, 4)

    def test_a_timeout_ends_it_with_what_it_has(self, local, tmp_path):
        lasting = some_last.grid(x=[1, 2, 3]).with_options(timeout=4, parallel=3)
        sweep = lasting.submit(until=str(tmp_path / "never"))
        best = lasting.with_options(select="max.score").submit(until=str(tmp_path / "never"))

        assert sweep.wait(30) and best.wait(30)
        assert (str(sweep.state), states(sweep)) == ("succeeded", ["succeeded", "cancelled", "succeeded"])
        assert sweep.stop_reason == "its timeout of 4 s was over after 2 children"
        assert sweep.result() == [1, 3]
        assert best.result() == 3

    def test_a_timeout_before_any_child_succeeded_is_a_failure(self, local, tmp_path):
        waiting = waits.grid(x=[1, 2]).with_options(timeout=0.5)
        for select in (None, "max.return"):
            sweep = waiting.with_options(select=select).submit(until=str(tmp_path / "never"))

            with pytest.raises(
                SweepError, match=r"timeout of 0\.5 s was over after 0 children, and no child has succeeded"
            ):
                sweep.result(30)
            assert states(sweep) == ["cancelled", "cancelled"]

    def test_a_condition_on_time_holds_while_children_run(self, local, tmp_path):
        until = tmp_path / "never"
        conditions = ("elapsed > 0.5s and finished >= 2", "started >= 3", "finished >= 2")
        for condition in conditions:
            swept = some_last.map(x=[1, 3, 2, 4]).with_options(stop_when=condition, parallel=4)
            sweep = swept.submit(until=str(until))

            assert sweep.wait(30)
            assert sweep.stop_reason.startswith(f"{condition} held after "), condition
        waiting = waits.grid(x=[1, 2]).with_options(stop_when="elapsed > 0.5").submit(until=str(until))
        with pytest.raises(SweepError, match=r"elapsed > 0\.5 held after 0 children, and no child has succeeded"):
            waiting.result(30)

    @pytest.mark.parametrize("place", ["local", "inline"])
    def test_as_many_are_started_as_it_says(self, local, place):
        sweep = told.on(place).grid(x=range(20)).with_options(stop_when="started >= 3", select="score").submit()

        assert sweep.wait(30)
        assert len(sweep.children) == 3

    def test_a_map_that_is_stopped_yields_what_there_is(self, local, tmp_path):
        swept = some_last.map(x=[1, 2, 3, 4]).with_options(stop_when="finished >= 2", parallel=3)
        sweep = swept.submit(until=str(tmp_path / "never"))

        found = list(sweep)
        assert found == sweep.result()
        assert found[:2] == [1, 3] and 2 not in found

    def test_a_map_that_is_cancelled_says_so(self, local, tmp_path):
        sweep = some_last.map(x=[1, 2]).submit(until=str(tmp_path / "never"))
        items = iter(sweep)

        assert next(items) == 1
        sweep.cancel()
        with pytest.raises(RunCancelledError):
            next(items)

    def test_cancelling_ends_the_children_too(self, local, tmp_path):
        sweep = waits.grid(x=range(20)).submit(until=str(tmp_path / "never"))
        wait_until(lambda: any(child.state is RunState.RUNNING for child in sweep.children))

        assert sweep.cancel() is True
        assert set(states(sweep)) == {"cancelled"}
        with pytest.raises(RunCancelledError):
            sweep.result()

    def test_what_the_strategy_raises_ends_the_sweep(self, local):
        def broken():
            yield {"x": 1}
            raise KeyError("no more")

        sweep = told.sweep(broken()).with_options(select="score", parallel=1).submit()

        with pytest.raises(KeyError, match="no more"):
            sweep.result(30)
        assert len(sweep.children) == 1

    def test_a_point_of_a_generator_that_does_not_fit_ends_the_sweep(self, local):
        sweep = train.sweep({"depth": depth} for depth in (1, "deep")).submit()

        with pytest.raises(ParameterError, match="depth='deep'"):
            sweep.result(30)

    def test_a_part_of_a_point_of_a_generator_needs_its_whole_beside_it(self, local):
        beside = nested.sweep({"conf": Conf(1), "conf.depth": depth} for depth in (5, 6)).submit()
        alone = nested.sweep({"conf.depth": depth} for depth in (5, 6)).submit()

        assert beside.result(30) == [5, 6]
        with pytest.raises(ParameterError, match=r"nested\(\): conf.depth=5: 'conf' has no value to change"):
            alone.result(30)

    def test_a_part_that_does_not_fit_while_it_runs_names_function_and_key(self, local):
        sweep = nested.sweep({"conf": Conf(1), "conf.dpth": depth} for depth in (5, 6)).submit()

        with pytest.raises(ParameterError, match=r"^nested\(\): conf.dpth=5: 'conf' \(Conf\) has no 'dpth'"):
            sweep.result(30)


@mlfn.function
def moody(x: float, gate: str) -> float:
    if not Path(gate).exists():
        raise ValueError("not yet")
    return x


@mlfn.function
def reader(conf: Any = None, path: str = "") -> None:
    pass


class TestBadInput:
    @pytest.mark.parametrize(
        ("describe", "said"),
        [
            (lambda: train.grid(depth="abc"), "one text"),
            (lambda: train.grid(depth=[]), "empty"),
            (lambda: train.zip(depth=[1, 2], lr=[0.1]), "equally long: depth has 2, lr has 1"),
            (lambda: train.grid(dept=[1]), "did you mean 'depth'"),
            (lambda: train.grid(depth=["deep"]).submit(), "depth='deep'"),
            (lambda: train.grid(depth=[1]).submit(depth=2), "both swept and given"),
            (lambda: train.grid(depth=[1]).submit(2), "both swept and given"),
            (lambda: train.grid(lr=[0.1]).submit(), "lacks parameter 'depth'"),
            (lambda: train.grid(lr=[0.1]).submit(detph=3), "did you mean 'depth'"),
            (train.grid, "Nothing is swept"),
            (lambda: nested.grid(conf={"depth": [1, 2]}), r"a part is swept by its path, conf.depth=\[1, 2\]"),
            (
                lambda: train.search(n=1, depth=[1], first={"depth": 1}),
                r"^train.search\(\): first={'depth': 1}: a list of",
            ),
            (lambda: train.search(n=1, depth=[1], first=[1]), r"as in first=\[{'lr': 0.1}\]"),
            (lambda: train.search(n=1, depth=[1], first=3), r"first=3: a list of points"),
            (train.map, "nothing to map"),
            (lambda: train.sweep({"depth": [1]}), "an iterable of parameters"),
            (lambda: train.sweep("abc"), "an iterable of parameters"),
            (lambda: train.sweep([{"depth": 1}, 3]), r"train.sweep\(\): The parameters of child 2 are 3"),
            (
                lambda: train.sweep([{"depth": 1}, {"depth": "deep"}]).submit(),
                r"Child 2: train\(depth='deep'\) does not fit",
            ),
            (lambda: train.sweep([{"depth": 1}, {"dept": 2}]).submit(), "Child 2: .*'dept': did you mean 'depth'"),
            (lambda: train.sweep([{"depth": 1}, {"lr": 2}]).submit(), "Child 2: .*lacks parameter 'depth'"),
            (
                lambda: train.sweep([{"depth": 1}, {"depth": 1, "lr": 2}]).submit(lr=0.1),
                "Child 2: .*'lr' is both swept and given",
            ),
            (train.sweep([{"depth": 1}] * 5 + [{"depth": None}])[4:].submit, r"Child 6: train\(depth=None\)"),
            (lambda: several.sweep([{"x": 1}, {"more": {}}]).submit(), "Child 2: .*'more' takes any number"),
            (lambda: several.sweep([{"x": 1}]).submit(x=2), "Child 1: .*'x' is both swept and given"),
            (lambda: several.grid(x=[1]).submit(x=2), "'x' is both swept and given"),
            (lambda: several.grid({"x.y": [1]}).submit(), r"several\(\) has no parameter 'x'"),
            (
                lambda: nested.sweep([{"conf": {"depth": 1}}, {"conf.dpth": 2}]).submit(),
                r"Child 2: nested\(\): conf.dpth=2: 'conf' \(Conf\) has no 'dpth'",
            ),
            (
                lambda: nested.grid({"conf.dpth": [1]}).submit(),
                r"^nested\(\): conf.dpth=1: 'conf' \(Conf\) has no 'dpth'. did you mean 'depth'",
            ),
            (
                lambda: nested.grid({"conf.depth": [1, "deep"]}).submit(),
                r"^nested\(\): conf.depth='deep' does not fit Conf.depth: ",
            ),
        ],
    )
    def test_refused_before_anything_starts(self, local, describe, said):
        with pytest.raises(ParameterError, match=said):
            describe()
        assert len(mlfn.runs()) == 0

    @pytest.mark.parametrize(
        ("describe", "said"),
        [
            (lambda: train.sweep(Told()).submit(), "ask.*needs an objective.*select='max.accuracy'"),
            (lambda: train.search(n=2, depth=[1, 2]).submit(), "needs an objective.*select='max.accuracy'"),
        ],
    )
    def test_what_learns_must_know_what_from(self, local, describe, said):
        with pytest.raises(SweepError, match=said):
            describe()
        assert len(mlfn.runs()) == 0

    @pytest.mark.parametrize(
        ("option", "value", "said"),
        [
            ("select", "max.", "names no metric"),
            ("select", 3, "text"),
            ("stop_when", "accuracy >", "Expected"),
            ("parallel", 0, "1 or more"),
            ("max_failures", -1, "0 or more"),
            ("max_failure_rate", 1.5, "share"),
            ("deterministic", "yes", "True or False"),
            ("timeout", "soon", "timeout"),
            ("selct", "max.x", "did you mean 'select'"),
            ("seed", 3, "nothing is drawn"),
        ],
    )
    def test_an_option_that_does_not_fit_is_named(self, option, value, said):
        with pytest.raises(OptionError, match=said):
            train.grid(depth=[1]).with_options(**{option: value})


class TestRows:
    def test_each_child_has_its_own_keys_and_the_table_says_which_it_lacks(self, local):
        rows = train.sweep([{"depth": 4}, {"lr": 0.5, "depth": 2}, {"depth": 8}]).with_options(select="max.score")

        sweep = rows.submit(base=1.0)

        assert sweep.result(30) == pytest.approx(2.0) and sweep.best_iteration == 2
        assert [child.params for child in sweep.children] == [
            {"base": 1.0, "depth": 4, "lr": 0.1},
            {"base": 1.0, "depth": 2, "lr": 0.5},
            {"base": 1.0, "depth": 8, "lr": 0.1},
        ]
        described, ran = rows.table(), sweep.table()
        assert list(described.columns) == ["iteration", "depth", "lr"]
        for table in (described, ran):
            assert table["depth"].tolist() == [4, 2, 8] and table["depth"].dtype == "int64"
            assert table["lr"].isna().tolist() == [True, False, True] and table["lr"][1] == 0.5

    def test_a_whole_number_stays_one_beside_a_missing_one(self, local):
        rows = several.sweep([{"x": 1}, {"y": 2}])
        sweep = rows.submit()
        sweep.wait(30)

        for table in (rows.table(), sweep.table()):
            assert [str(table[key].dtype) for key in "xy"] == ["Int64", "Int64"]
            assert (table["x"][0], table["y"][1]) == (1, 2)
            assert (table["x"].isna().tolist(), table["y"].isna().tolist()) == ([False, True], [True, False])

    def test_a_slice_runs_under_the_numbers_of_the_whole(self, local):
        sweep = train.sweep([{"depth": 1}, {"depth": "deep"}, {"depth": 3}, {"depth": 4}])[2:].submit()

        assert sweep.result(30) == pytest.approx([0.3, 0.4])
        assert [child.iteration for child in sweep.children] == [3, 4]

    def test_a_row_may_change_a_part_where_another_gives_the_whole(self, local):
        sweep = nested.sweep([{"conf.depth": 5}, {"conf": Conf(7)}, {}]).submit()

        assert sweep.result(30) == [5, 7, 1]

    def test_no_rows_are_no_children(self, local):
        rows = train.sweep([])

        assert (len(rows), bool(rows), list(rows)) == (0, False, [])
        assert rows.submit().result(30) == []


class TestDescriptions:
    def test_a_list_of_rows_is_as_good_as_a_grid(self):
        listed = [{"depth": 1}, {"depth": 2, "lr": 0.3}, {"depth": 3}]
        sweep = train.sweep(listed)
        listed[0]["depth"] = 9
        listed.pop()

        assert (len(sweep), sweep.size, sweep[1], sweep[-1]) == (3, 3, {"depth": 2, "lr": 0.3}, {"depth": 3})
        assert list(sweep) == [{"depth": 1}, {"depth": 2, "lr": 0.3}, {"depth": 3}]
        assert sweep[1:].table().to_dict("list")["iteration"] == [2, 3]
        assert list(sweep[::2].table().columns) == ["iteration", "depth"]
        assert (
            repr(sweep)
            == "<mlfn.Sweep of train: 3 children, Rows([{'depth': 1}, {'depth': 2, 'lr': 0.3}, {'depth': 3}])>"
        )

    def test_a_description_is_lazy_and_immutable(self):
        sweep = train.grid(depth=range(10**9), lr=[0.1, 0.2])

        assert sweep.size == len(sweep) == 2 * 10**9
        assert sweep[10**9 + 5] == {"depth": 5, "lr": 0.2}
        assert sweep.with_options(select="score") is not sweep
        assert list(sweep[2:4]) == [{"depth": 2, "lr": 0.1}, {"depth": 3, "lr": 0.1}]

    def test_its_table_is_there_before_anything_ran(self):
        table = train.grid(depth=[4, 8], lr=[0.3, 0.1]).table()

        assert table.to_dict("list") == {"iteration": [1, 2, 3, 4], "depth": [4, 8, 4, 8], "lr": [0.3, 0.3, 0.1, 0.1]}
        assert table["depth"].dtype == "int64"

    @pytest.mark.parametrize(
        ("describe", "shown"),
        [
            (lambda: train.grid(depth=[4]), "1 child, Grid(depth=[4])"),
            (
                lambda: train.search(n=3, depth=[4, 8], lr=mlfn.uniform(0, 1)),
                "3 children, chosen by tpe (depth=choice([4, 8]), lr=uniform(0.0, 1.0))",
            ),
            (lambda: train.sweep(iter([])), "some children, chosen while it runs"),
        ],
    )
    def test_it_shows_how_many_children_and_where_they_come_from(self, describe, shown):
        assert repr(describe()) == f"<mlfn.Sweep of train: {shown}>"

    def test_its_table_keeps_types_beside_none(self):
        table = train.grid(depth=[4, None], lr=[1, 0.5]).table()

        assert table["depth"].dtype == "Int64"
        assert [type(value) for value in table["lr"]] == [int, int, float, float]

    def test_a_slice_that_gets_another_seed_stays_a_slice(self):
        whole = train.random(n=9, seed=7, depth=mlfn.randint(2, 32))

        assert list(whole[3:5].with_options(seed=8)) == list(whole.with_options(seed=8))[3:5]

    def test_a_random_sweep_is_the_same_by_its_seed(self):
        one = train.random(n=5, seed=7, depth=mlfn.randint(2, 32), lr=mlfn.loguniform(1e-4, 1))

        assert list(one) == list(
            train.random(n=5, depth=mlfn.randint(2, 32), lr=mlfn.loguniform(1e-4, 1)).with_options(seed=7)
        )
        assert list(one) != list(one.with_options(seed=8))


def values_as_states(values: list[Any]) -> list[str]:
    return ["failed" if value == "fail" else "succeeded" for value in values]


class TestWhatBreaks:
    def test_a_table_that_cannot_be_made_costs_a_sweep_nothing_but_itself(self, local, monkeypatch, caplog):
        from mlfn.sweep.controller import completion as ending

        def broken(*_: Any) -> None:
            raise RuntimeError("no table today")

        monkeypatch.setattr(ending, "make_table", broken)
        sweep = train.grid(depth=[1, 2]).with_options(select="max.score").submit()

        assert sweep.result(30) == pytest.approx(0.2)
        assert "iteration_results" not in sweep.outputs
        assert "ends without iteration_results: RuntimeError: no table today" in caplog.text

    def test_a_best_one_that_cannot_be_found_out_ends_it_in_its_own_words(self, local, monkeypatch):
        from mlfn.sweep.controller import completion as ending

        def broken(*_: Any) -> None:
            raise RuntimeError("no best today")

        monkeypatch.setattr(ending, "_best", broken)
        sweep = train.grid(depth=[1, 2]).with_options(select="max.score").submit()

        with pytest.raises(RuntimeError, match="no best today"):
            sweep.result(30)
        assert states(sweep) == ["succeeded", "succeeded"]

    def test_a_metric_that_the_first_child_lacks_is_told_at_once(self, local, caplog):
        options = {"select": "max.scoer", "stop_when": "socre > 1", "subject_to": "mem < 3", "strict": False}
        told.grid(x=[1, 2]).with_options(parallel=1, **options).submit().wait(30)

        said = [record.message for record in caplog.records if "speaks of" in record.message]
        assert [text.partition(" of told")[0] for text in said] == [
            "select='max.scoer' speaks of 'scoer', which child 1",
            "subject_to='mem < 3' speaks of 'mem', which child 1",
            "stop_when='socre > 1' speaks of 'socre', which child 1",
        ]
        assert "Did you mean 'score'?" in said[0]

    def test_a_script_that_ends_at_once_ends_its_sweep_in_order(self, tmp_path):
        script = """
import sys, mlfn

@mlfn.function(name="f")
@mlfn.handler(outputs=["y"])
def f(x: int, ledger: str) -> int:
    return x

f.grid(x=[1, 2]).with_options(select="max.y").submit(ledger=sys.argv[1])
"""
        stage = Stage(tmp_path, script)

        process = stage.start()
        out, err = process.communicate(timeout=60)

        assert (process.returncode, out) == (0, "")
        assert set(err.splitlines()) <= {"mlfn: waiting for 1 run to end (ctrl-C cancels)"}  # where it takes a while
        assert stage.query("SELECT state FROM runs WHERE sweep = 1") == [("succeeded",)]
        keys = {key for (key,) in stage.query("SELECT key FROM outputs JOIN runs ON runs.seq = run WHERE sweep = 1")}
        assert keys >= {"y", "best_iteration", "iteration_results", "iteration_results_parquet"}


class TestNamed:
    """Under a name, `submit` goes on with a sweep that was described alike, and begins another in place of one that was not."""

    @pytest.mark.parametrize(
        ("describe", "one", "other"),
        [
            (lambda value: reader.grid(conf=[value]).with_options(name="it").submit(), {"path": "a"}, {"path": "b"}),
            (lambda value: reader.sweep([{"conf": value}]).with_options(name="it").submit(), {"path": 1}, {"path": 2}),
            (lambda value: reader.grid(path=[value]).with_options(name="it").submit(), "a", "b"),
        ],
    )
    def test_a_path_that_is_swept_tells_children_apart(self, local, describe, one, other, caplog):
        first = describe(one)
        assert describe(one) == first

        assert describe(other) != first
        assert "begins it anew: other children: " in caplog.text

    @pytest.mark.parametrize(
        "describe",
        [
            lambda **more: train.random(n=3, depth=mlfn.randint(1, 99), **more),
            lambda **more: train.search(n=3, depth=mlfn.randint(1, 99), **more),
        ],
        ids=["random", "search"],
    )
    def test_what_was_drawn_without_a_seed_is_drawn_by_the_same_again(self, local, describe, caplog):
        def named(**more: int) -> Any:
            return describe(**more).with_options(name="it", select="max.score", parallel=1).submit()

        first = named()
        assert named() == first
        first.wait(30)
        assert named() == first

        assert named(seed=5) != first
        assert " (now 5); `mlfn show" in caplog.text

    def test_one_that_failed_is_begun_again_with_what_it_had_drawn(self, local, tmp_path):
        def named() -> Any:
            drawn = moody.random(n=4, x=mlfn.uniform(0, 1)).with_options(name="it", max_failures=1, parallel=1)
            return drawn.submit(gate=str(tmp_path / "gate"))

        failed = named()
        failed.wait(30)
        (tmp_path / "gate").touch()
        again = named()

        assert again.id != failed.id
        assert again.wait(30)
        assert again.children[1].params["x"] == failed.children[1].params["x"]

    def test_so_does_one_that_they_share(self, local, caplog):
        named = reader.grid(conf=[1]).with_options(name="it")
        first = named.submit(path="a")
        first.wait(30)

        assert named.submit(path="b") != first
        assert "begins it anew: other parameters for all children: path='a' (now 'b'); `mlfn show" in caplog.text

    def test_it_says_which_sweep_it_returns(self, local, caplog):
        named = train.grid(depth=[1, 2]).with_options(name="it")
        first = named.submit()
        first.wait(30)

        assert named.submit() == first
        assert caplog.messages == [f"returns it ({first.id[:8]}): 2 of 2 done; again='new' begins it anew"]

    def test_a_changed_grid_begins_another_and_says_what_differs(self, local, caplog):
        first = train.grid(depth=[1, 2]).with_options(name="it").submit()
        first.wait(30)

        second = train.grid(depth=[1, 3]).with_options(name="it").submit()

        assert second != first and second.result(30) == pytest.approx([0.1, 0.3])
        assert caplog.messages == [
            f"begins it anew: other children: depth=[1, 2] (now [1, 3]); `mlfn show {first.id[:8]}` shows the earlier one"
        ]
        assert train.grid(depth=[1, 3]).with_options(name="it").submit() == second

    def test_a_changed_function_begins_another_and_says_what_differs(self, local, caplog):
        def named(factor: int) -> Any:
            @mlfn.function(name="f")
            def f(x: int) -> int:
                return x * factor

            return f.grid(x=[1, 2]).with_options(name="it").submit()

        named(2).wait(30)

        assert named(3).result(30) == [3, 6]
        assert "begins it anew: another version of f: code: " in caplog.text

    def test_the_order_of_the_keys_makes_other_children(self, local, caplog):
        train.grid(depth=[1, 2], lr=[0.1]).with_options(name="it").submit().wait(30)

        train.grid(lr=[0.1], depth=[1, 2]).with_options(name="it").submit()

        assert "other children: in another order" in caplog.text

    def test_one_that_still_runs_can_be_begun_anew(self, local, caplog, tmp_path):
        named = waits.grid(x=[1]).with_options(name="it")
        first = named.submit(until=str(tmp_path / "gate"))

        second = named.with_options(again="new").submit(until=str(tmp_path / "gate"))
        Path(tmp_path, "gate").touch()

        assert second != first and first.result(30) == second.result(30) == [1]
        assert caplog.messages == [
            f"begins it anew: again='new'; the earlier one still runs, and `mlfn cancel {first.id[:8]}` ends it"
        ]
        with pytest.raises(OptionError, match="again='old': 'new' is allowed"):
            named.with_options(again="old")

    def test_another_select_begins_another_that_takes_over_what_succeeded(self, local):
        named = train.grid(depth=[1, 2]).with_options(name="it", select="max.score")
        first = named.submit()
        first.wait(30)

        second = named.with_options(select="min.score").submit()

        assert second.wait(30) and second.best_iteration == 1
        assert [child.reused for child in second.children] == [child.id for child in first.children]
