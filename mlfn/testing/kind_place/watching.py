"""What is seen of a run from outside."""

from __future__ import annotations

import re

from mlfn.testing.kind_place.marks import CannotBeAttemptedError
from mlfn.testing.kind_place.pair import Pair


class WatchingCases(Pair):
    """State, metrics, progress and logs."""

    def test_waits_as_pending_with_words(self) -> None:
        for _ in range(self.width):
            self.begin(self.placed("endless"), str(self.shared))
        self.wait_until(lambda: len(self.notes("start")) == self.width, "there is no room left")

        run = self.begin(self.placed("endless"), str(self.shared))

        assert run.state == "pending"
        self.wait_until(
            lambda: re.search(rf"waits for .*{self.waits_for}", self.command("show", run.id)),
            "what it waits for is shown",
        )

    def test_metrics_arrive_once_in_order(self) -> None:
        count = 2500
        run = self.placed("log_steps").submit(count)

        assert run.wait(self.patience)
        assert run.metrics.history("loss") == [(step, step / 8) for step in range(count)]
        assert run.metrics.history("rate") == [(None, -step) for step in range(count)]
        assert (run.metrics["loss"], run.metrics["rate"]) == ((count - 1) / 8, 1 - count)
        [child] = run.children
        assert child.metrics.history("loss") == [(None, step) for step in range(count)]

    def test_progress_is_seen_live(self) -> None:
        run = self.begin_staged()

        progress = self.wait_until(
            lambda: run.progress if (run.progress or {}).get("done") == 1 else None, "one is done"
        )
        assert (progress["total"], run.state) == (3, "running")
        assert run.metrics.history("loss") == [(0, 0.0), (1, 0.125)]

        self.go()
        assert run.wait(self.patience)
        assert (run.progress or {})["done"] == 3

    def test_log_followed_live_equals_log_after(self) -> None:
        run = self.begin_staged()
        chunks: list[str] = []
        following = self.in_thread(lambda: chunks.extend(run.logs(follow=True)))

        self.wait_until(lambda: "step 1\n" in "".join(chunks), "the second step is in the log")
        self.wait_until(lambda: run.state == "running", "the run is shown as running")
        assert "step 2" not in "".join(chunks)
        assert self.of_rank_0(self.command("logs", run.id)) == "step 0\nstep 1\n"
        self.go()
        following.join(self.patience)

        assert "".join(chunks) == run.logs()
        assert run.logs(rank=0) == "step 0\nstep 1\nstep 2\n"
        assert self.command("logs", run.id) == run.logs()

    def test_parallel_logs_never_mix(self) -> None:
        names = {"one": "two", "two": "one"}

        runs = {
            name: self.begin(self.placed("chatter"), str(self.shared), *pair)
            for pair in names.items()
            for name in pair[:1]
        }

        for name, run in runs.items():
            assert run.wait(self.patience) and run.state == "succeeded"
            assert run.logs(rank=0).splitlines() == [f"{name} {line}" for line in range(200)]
            assert self.command("logs", run.id) == run.logs()

    def test_log_of_each_rank(self) -> None:
        if self.ranks == 1:
            raise CannotBeAttemptedError("ranks is 1: a run has the log of one rank.")

        run = self.placed("print_rank").submit()

        assert run.wait(self.patience)
        assert sorted(run.logs().splitlines()) == [f"[{rank}] rank {rank}" for rank in range(self.ranks)]
        assert [run.logs(rank=rank) for rank in range(self.ranks)] == [f"rank {rank}\n" for rank in range(self.ranks)]
