"""Adaptive search, pruning, reuse and resuming, over real worker processes."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

import mlfn
from mlfn.errors import OptionError, RunPrunedError, SweepError
from tests.ledger import Stage, wait_until


@mlfn.function
@mlfn.handler(outputs=["score"])
def peak(x: float, k: int = 0) -> float:
    return -((x - 0.3) ** 2) - k


@mlfn.function
def learns(rate: float, ctx: mlfn.Context, steps: int = 8, deaf: bool = False) -> float:
    loss = 10.0
    for step in range(steps):
        loss -= rate
        try:
            ctx.log_metric("loss", loss, step=step)
        except mlfn.Pruned:
            if not deaf:
                raise
            while True:
                try:
                    time.sleep(0.01)
                except BaseException:  # noqa: BLE001 - that is its vice
                    ctx.logger.info("not yet")
    return loss


@mlfn.function
def steps(x: float, ctx: mlfn.Context) -> None:
    for step in range(4):
        ctx.log_metric("loss", x, step=-1 if x == 2 else step)


class Broken:
    """As a pruner of the user's own with a mistake in it."""

    def prune(self, study: Any, trial: Any) -> bool:
        raise ZeroDivisionError("a mistake in a pruner")


def broken_pruner() -> Any:
    import optuna

    return type("BrokenPruner", (Broken, optuna.pruners.BasePruner), {})()


def points(sweep: Any) -> list[dict[str, Any]]:
    return [child.params for child in sweep.children]


class TestSearch:
    def test_it_finds_better_ones(self, local):
        sweep = peak.search(n=40, seed=3, x=mlfn.uniform(-1, 1)).with_options(select="max.score", parallel=2).submit()

        assert sweep.result(150) > -0.01
        assert len(sweep.children) == 40
        assert abs(sweep.best.params["x"] - 0.3) < 0.1

    def test_its_params_are_those_of_its_seed_whatever_ends_first(self, local):
        search = peak.search(n=25, seed=5, x=mlfn.uniform(-1, 1), k=[0, 1, 2])
        rounds = search.with_options(select="max.score", parallel=2, deterministic=True)

        one, other = rounds.submit(), rounds.submit()
        one.wait(60), other.wait(60)

        assert points(one) == points(other)
        assert points(one) != points(rounds.with_options(seed=6).submit())

    def test_its_rounds_are_the_same_in_every_place(self, local):
        chosen = []
        for place in ("inline", "local"):
            search = peak.on(place).search(n=18, seed=5, x=mlfn.uniform(-1, 1), k=[0, 1, 2])
            sweep = search.with_options(select="max.score", parallel=3, deterministic=True).submit()
            sweep.wait(60)
            chosen.append(points(sweep))

        assert chosen[0] == chosen[1]

    def test_rounds_have_a_size_that_no_machine_decides(self, local):
        search = peak.search(n=3, seed=5, x=mlfn.uniform(-1, 1))

        with pytest.raises(OptionError, match=r"give parallel=, as in with_options\(deterministic=True, parallel=4\)"):
            search.with_options(select="max.score", deterministic=True).submit()
        grid = peak.grid(x=[0.1, 0.2]).with_options(select="max.score", deterministic=True)
        assert grid.submit().result(30) == grid.submit().result(30)

    def test_it_must_know_what_to_look_for(self, local):
        with pytest.raises(SweepError, match=r"select='max\.accuracy'"):
            peak.search(n=3, x=mlfn.uniform(0, 1)).submit()

    def test_first_points_come_first(self, local):
        first = [{"x": 0.25}, {"x": -0.5}]

        sweep = peak.search(n=4, x=mlfn.uniform(-1, 1), first=first).with_options(select="score").submit()
        sweep.wait(30)

        assert [params["x"] for params in points(sweep)[:2]] == [0.25, -0.5]

    def test_a_failed_child_does_not_hold_it_up(self, local):
        @mlfn.function
        def shaky(x: float) -> float:
            if x < 0:
                raise ValueError("below")
            return x

        sweep = shaky.search(n=20, seed=1, x=mlfn.uniform(-1, 1)).with_options(select="max.return").submit()

        assert sweep.result(60) > 0.5
        assert {str(child.state) for child in sweep.children} == {"succeeded", "failed"}

    def test_a_conditional_parameter_is_there_where_its_condition_holds(self, local):
        @mlfn.function
        def fit(opt: str, momentum: float = -1.0) -> float:
            return momentum

        space = {"opt": ["adam", "sgd"], "momentum": mlfn.uniform(0, 1).when(opt="sgd")}
        sweep = fit.search(n=15, seed=2, **space).with_options(select="max.return").submit()
        sweep.wait(60)

        for child in sweep.children:
            assert ("momentum" in child.record.params) is (child.params["opt"] == "sgd")
        assert sweep.table()["momentum"].isna().any()

    def test_several_objectives_have_a_front_and_no_pruner(self, local):
        @mlfn.function
        def both(x: float, ctx: mlfn.Context) -> None:
            ctx.log_metric("good", x)
            ctx.log_metric("cost", x * x)

        search = both.search(n=12, seed=2, sampler="nsga2", x=mlfn.uniform(0, 1))
        sweep = search.with_options(select=["max.good", "min.cost"]).submit()
        sweep.wait(60)

        assert len(sweep.pareto) == 12  # each is better in one
        with pytest.raises(OptionError, match="pruner"):
            both.search(n=3, pruner="median", x=mlfn.uniform(0, 1)).with_options(select=["good", "min.cost"]).submit()


class TestExport:
    def test_a_sweep_becomes_a_study_in_a_storage_of_optunas(self, local, tmp_path):
        import optuna

        from mlfn.sweep.optuna.study import close_storage

        search = peak.search(n=6, seed=3, x=mlfn.uniform(-1, 1)).with_options(select="max.score").submit()
        grid = peak.grid(x=[0.1, 0.3], k=[0, 1]).with_options(select="max.score").submit()
        search.wait(60), grid.wait(60)
        storage = f"sqlite:///{tmp_path / 'studies.db'}"

        names = [search.to_optuna(storage), grid.to_optuna(storage, name="mine")]

        studies = [optuna.load_study(study_name=name, storage=storage) for name in names]
        assert names == [f"peak-{search.id[:8]}", "mine"]
        assert [study.best_value for study in studies] == pytest.approx([search.result(), grid.result()])
        assert [trial.params["x"] for trial in studies[0].trials] == [child.params["x"] for child in search.children]
        for study in studies:
            close_storage(study._storage)


class TestPruning:
    # The children that learn fast come first, so that the median is known to those that do not.
    RATES = (1.0, 0.9, 0.8, 0.7, 0.95, 0.01, 0.02)

    def sweep(self, **fixed: Any) -> Any:
        first = [{"rate": rate} for rate in self.RATES]
        search = learns.search(n=len(first), rate=mlfn.uniform(0, 1), first=first, pruner="median")
        sweep = search.with_options(select="min.loss", parallel=1).submit(**fixed)
        assert sweep.wait(60)
        return sweep

    def test_a_child_that_will_not_win_is_stopped_by_its_report(self, local):
        sweep = self.sweep()

        states = [str(child.state) for child in sweep.children]
        assert states[:5] == ["succeeded"] * 5
        assert states[5:] == ["pruned", "pruned"]
        pruned = sweep.children[6]
        assert len(pruned.metrics.history("loss")) < 8
        assert sweep.best_iteration == 1
        with pytest.raises(RunPrunedError):
            pruned.result()
        assert "2 pruned" in sweep.progress["text"]

    def test_one_that_does_not_listen_is_ended_after_a_grace_time(self, local, monkeypatch):
        monkeypatch.setenv("MLFN_GRACE", "0.5")

        sweep = self.sweep(deaf=True)

        assert [str(child.state) for child in sweep.children][5:] == ["pruned", "pruned"]

    def test_inline_children_are_answered_too(self, local):
        first = [{"rate": rate} for rate in self.RATES]
        search = learns.on("inline").search(n=len(first), rate=mlfn.uniform(0, 1), first=first, pruner="median")

        sweep = search.with_options(select="min.loss").submit()

        assert [str(child.state) for child in sweep.children][5:] == ["pruned", "pruned"]


class TestReuse:
    def test_a_memo_takes_over_what_had_the_same_function_and_parameters(self, local, tmp_path):
        @mlfn.function
        def marks(x: int, folder: str) -> int:
            import pathlib
            import uuid

            (pathlib.Path(folder) / uuid.uuid4().hex).touch()
            return x

        (tmp_path / "marks").mkdir()
        folder = str(tmp_path / "marks")
        one = marks.grid(x=[1, 2]).with_options(memo=True).submit(folder=folder)
        one.wait(30)

        two = marks.grid(x=[2, 3]).with_options(memo=True, select="max.return").submit(folder=folder)

        assert two.result(30) == 3
        assert two.children[1].reused == one.children[2].id
        assert two.children[1].result() == 2
        assert two.children[2].reused is None
        assert len(os.listdir(folder)) == 3

    def test_another_input_file_is_another_call(self, local, tmp_path):
        @mlfn.function
        def reads(x: int, text: mlfn.DataItem | str) -> int:
            return x

        file = tmp_path / "in.txt"
        file.write_text("one")
        grid = reads.grid(x=[1]).with_options(memo=True)
        first = grid.submit(text=mlfn.data(file))
        first.wait(30)
        same = grid.submit(text=mlfn.data(file))
        same.wait(30)
        file.write_text("two")
        other = grid.submit(text=mlfn.data(file))
        other.wait(30)

        assert [sweep.children[1].reused for sweep in (first, same, other)] == [None, first.children[1].id, None]

    def test_a_cancelled_sweep_is_begun_again_and_keeps_what_succeeded(self, local, tmp_path):
        @mlfn.function
        def gated(x: int, gate: str) -> int:
            import pathlib
            import time

            while x > 2 and not pathlib.Path(gate).exists():
                time.sleep(0.01)
            return x

        gate = tmp_path / "gate"
        sweep = gated.grid(x=[1, 2, 3, 4]).with_options(select="max.return", parallel=2).submit(gate=str(gate))
        wait_until(lambda: [str(child.state) for child in sweep.children][:2] == ["succeeded"] * 2)
        sweep.cancel()
        gate.touch()

        again = sweep.resume()

        assert (again.id != sweep.id, again.result(30)) == (True, 4)
        assert [child.reused for child in again.children] == [sweep.children[1].id, sweep.children[2].id, None, None]
        assert str(sweep.state) == "cancelled"

    def test_a_sweep_that_succeeded_has_nothing_to_resume(self, local):
        sweep = peak.grid(x=[1.0]).submit()
        sweep.wait(30)

        assert sweep.resume() is sweep


NAMED = """
import sys
import time
from pathlib import Path

import mlfn

@mlfn.function(name="child")
def child(x: int, ledger: str, ctx: mlfn.Context) -> int:
    note(ledger, "start", ctx)
    while x > 2 and not Path(ledger + ".go").exists():
        time.sleep(0.01)
    note(ledger, "end", ctx)
    return x

ledger, values = sys.argv[1], [int(x) for x in sys.argv[2].split(",")]
try:
    run = child.grid(x=values).with_options(name="it", select="max.return", parallel=2).submit(ledger=ledger)
except mlfn.MlfnError as error:
    print(type(error).__name__, error)
else:
    print(run.id, flush=True)
    print(run.result(), flush=True)
"""


class TestNames:
    def test_a_second_driver_is_told_who_has_the_sweep_and_a_killed_one_is_followed(self, tmp_path):
        stage = Stage(tmp_path, NAMED, heartbeat=0.2)
        first = stage.start("1,2,3,4")
        id_ = first.stdout.readline().strip()
        wait_until(lambda: stage.query("SELECT 1 FROM runs WHERE iteration = 4"))

        said = stage.run("1,2,3,4")
        assert said.startswith("SweepHeldError") and f"driven by process {first.pid} on this machine" in said
        stage.kill(first)
        (tmp_path / "ledger.go").touch()
        carried_on = stage.run("1,2,3,4")
        finished = stage.run("1,2,3,4")

        assert carried_on.split() == finished.split() == [id_, "4"]
        assert [what for what, *_ in stage.entries()].count("end") == 4

    def test_another_description_under_the_same_name_begins_another_sweep(self, tmp_path):
        stage = Stage(tmp_path, NAMED, heartbeat=0.2)
        first, best = stage.run("1,2").split()

        second, other_best = stage.run("1,2,0").split()

        assert first != second
        assert (best, other_best) == ("2", "2")

    def test_whoever_waits_carries_it_on(self, tmp_path, monkeypatch):
        stage = Stage(tmp_path, NAMED, heartbeat=0.2)
        first = stage.start("1,2,3,4,5")
        id_ = first.stdout.readline().strip()
        wait_until(lambda: stage.query("SELECT 1 FROM runs WHERE iteration = 4"))
        stage.kill(first)
        (tmp_path / "ledger.go").touch()
        monkeypatch.setenv("MLFN_DATA", str(stage.data))
        monkeypatch.setenv("MLFN_HEARTBEAT", "0.2")

        sweep = mlfn.run(id_[:8])

        assert sweep.resume() is sweep
        assert sweep.result(30) == 5
        assert len(sweep.children) == 5


class TestNesting:
    def test_a_handler_may_run_a_sweep_of_its_own(self, local):
        @mlfn.function
        def fold(k: int, depth: int) -> float:
            return depth - k / 10

        @mlfn.function
        def validate(depth: int) -> float:
            scores = fold.on("inline").grid(k=[0, 1, 2]).submit(depth=depth).result()
            return sum(scores) / len(scores)

        sweep = validate.grid(depth=[1, 2]).with_options(select="max.return").submit()

        assert sweep.result(60) == pytest.approx(1.9)
        [inner] = mlfn.runs(parent=sweep.children[1])
        assert [child.params["k"] for child in inner.children] == [0, 1, 2]
        assert [run.id for run in mlfn.runs()] == [sweep.id]

    def test_a_sweep_in_a_sweeps_thread_does_not_mix_with_it(self, local):
        one, two = peak.grid(x=[0.1, 0.2]).submit(), peak.grid(x=[0.3]).submit()

        assert one.wait(30) and two.wait(30)
        assert [len(one.children), len(two.children)] == [2, 1]


@pytest.mark.parametrize("place", ["local", "inline"])
class TestVerdictsThatCannotBeGiven:
    def test_a_pruner_that_raises_ends_the_sweep_and_no_child_hears_of_it(self, local, place):
        search = steps.on(place).search(n=12, seed=1, pruner=broken_pruner(), x=[0.0, 1.0])
        sweep = search.with_options(select="min.loss", parallel=2).submit()

        with pytest.raises(ZeroDivisionError, match="a mistake in a pruner"):
            sweep.result(30)
        assert str(sweep.state) == "failed"
        assert {str(child.state) for child in sweep.children} <= {"succeeded", "cancelled"}

    def test_points_at_steps_that_no_pruner_counts_are_kept_and_not_judged(self, local, place, caplog):
        search = steps.on(place).search(
            n=8, pruner="median", first=[{"x": 2.0}, {"x": 2.0}, {"x": 1.0}], x=[0.0, 1.0, 2.0]
        )
        sweep = search.with_options(select="min.loss", parallel=2).submit()

        assert sweep.wait(30)
        assert (str(sweep.state), len(sweep.children)) == ("succeeded", 8)
        assert [str(sweep.children[number].state) for number in (1, 2)] == ["succeeded", "succeeded"]
        assert sweep.children[1].metrics.history("loss") == [(-1, 2.0)] * 4
        said = [
            record.getMessage() for record in caplog.records if "is not pruned by such points" in record.getMessage()
        ]
        assert "step=-1: a pruner counts whole steps from 0" in said[0]
        assert len(said) == sum(child.params["x"] == 2 for child in sweep.children)


def test_a_sampler_with_nothing_left_to_try_says_so(local):
    import optuna

    sampler = optuna.samplers.GridSampler({"x": [0.25, 0.5]}, seed=1)
    sweep = (
        peak.search(n=9, sampler=sampler, x=mlfn.uniform(0, 1)).with_options(select="max.score", parallel=1).submit()
    )

    assert sweep.result(30) < 0
    assert sweep.stop_reason == f"nothing was left to try after {len(sweep.children)} of 9 children"
