"""Many runs of one function."""

from __future__ import annotations

import mlfn
from mlfn import errors
from mlfn.testing.kind_place.pair import Pair

SWEEP = """
placed("score", retry=mlfn.Retry(1, delay=0)).grid(x=[1, 2, 100, 4]).with_options(
    select="max.return", parallel=1
).submit(shared=SHARED).wait()
"""


class SweepsCases(Pair):
    """Which children there are, how each ends, and what comes of the whole."""

    def sweep(self, *values: int, **options: object) -> mlfn.SweepRun[int]:
        """Submit a sweep over these values, and return it when it is there."""
        grid = self.placed("score").grid(x=list(values)).with_options(select="max.return", **options)
        found = self.begin(grid, shared=str(self.shared))
        assert isinstance(found, mlfn.SweepRun)
        return found

    def states(self, sweep: mlfn.SweepRun[int]) -> list[str]:
        """Return how its children are, by their numbers."""
        return [str(child.state) for child in sweep.children]

    def test_grid_selects_best(self) -> None:
        sweep = self.sweep(1, 3, 2)

        assert sweep.result(self.patience) == 3
        assert (sweep.best_iteration, sweep.best.params["x"]) == (2, 3)
        assert [child.params["x"] for child in sweep.children] == [1, 3, 2]

    def test_grid_is_one_object(self) -> None:
        sweep = self.sweep(1, 3, 2)

        assert sweep.wait(self.patience)
        assert self.count_objects(sweep) == 1

    def test_stopping_one_unit_leaves_others(self) -> None:
        sweep = self.sweep(100, 200, parallel=2)
        self.wait_until(lambda: self.notes("start:100") and self.notes("start:200"), "both children have begun")

        assert sweep.children[1].cancel()
        self.wait_until(lambda: str(sweep.children[2].state) == "running", "the other child is shown as running")
        self.go()

        assert sweep.result(self.patience) == 200
        assert self.states(sweep) == ["cancelled", "succeeded"]

    def test_failed_unit_fails_alone(self) -> None:
        sweep = self.sweep(1, -1, 2)

        assert sweep.result(self.patience) == 2
        assert self.states(sweep) == ["succeeded", "failed", "succeeded"]
        assert isinstance(sweep.children[2].exception(), ValueError)

    def test_max_failures_exact(self) -> None:
        sweep = self.sweep(5, -1, -2, -3, -4, 6, max_failures=2, parallel=1)

        error = sweep.exception(self.patience)

        assert isinstance(error, errors.SweepError) and "max_failures=2" in str(error)
        begun, left = self.states(sweep)[:3], self.states(sweep)[3:]
        assert begun == ["succeeded", "failed", "failed"] and set(left) <= {"cancelled"}
        assert not self.notes("start:-3"), "a child has begun after the last failure that was allowed"
        assert (sweep.state, sweep.children[1].result()) == ("failed", 5)

    def test_stop_when_ends_unstarted(self) -> None:
        sweep = self.sweep(1, 2, 3, 4, 5, 6, stop_when="score >= 2", parallel=1)

        assert sweep.result(self.patience) == 2
        assert sorted({note.what for note in self.notes()}) == ["end:1", "end:2", "start:1", "start:2"]
        assert "score >= 2" in str(sweep.stop_reason)

    def test_resume_runs_only_the_missing(self) -> None:
        client = self.client(SWEEP)
        self.wait_until(lambda: self.notes("start:100"), "the third child has begun")
        self.kill(client)
        self.go()

        [sweep] = mlfn.runs()
        assert isinstance(sweep, mlfn.SweepRun)
        assert sweep.resume().result(self.patience) == 100

        assert self.states(sweep) == ["succeeded"] * 4
        assert [len(self.notes(f"start:{x}")) for x in (1, 2, 4)] == [1, 1, 1]

    def test_pruned_child_is_pruned(self) -> None:
        search = self.placed("report_once").search(
            n=2, sampler="random", pruner="threshold", first=[{"x": 0}, {"x": 1}], x=mlfn.randint(0, 1)
        )

        sweep = self.begin(search.with_options(select="max.score", parallel=1))

        assert sweep.result(self.patience) == 1
        assert [str(child.state) for child in sweep.children] == ["pruned", "succeeded"]
        assert isinstance(sweep.children[1].exception(), errors.RunPrunedError)
