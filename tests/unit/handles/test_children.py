"""Children that a handler opens: runs of their own, recorded under it, that end within its attempt."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import mlfn
from mlfn.dispatch.session import current_session
from mlfn.errors import NotFoundError, ParameterError, RunLostError
from mlfn.handles.version import tagged
from mlfn.worker.context import current_run

PLACES = ["inline", "local"]


@mlfn.function(labels={"team": "risk"}, project="fraud")
@mlfn.handler(outputs=["count"])
def depths(ctx: mlfn.Context, depths: tuple[int, ...] = (4, 8), best: int = 8) -> int:
    for depth in depths:
        with ctx.child(depth=depth, name="tree") as child:
            for step in child.progress(range(2), text="steps"):
                child.log_metric("loss", 1 / (depth + step), step=step)
            child.log_result("accuracy", depth / 10)
            child.log_artifact("report", f"depth {depth}")
            if depth == best:
                child.mark_best()
    return len(depths)


@pytest.mark.parametrize("place", PLACES)
def test_children_are_runs_under_their_run(place: str) -> None:
    run = depths.on(place).submit()
    assert run.result(timeout=60) == 2

    first, second = run.children
    assert (first.state, first.iteration, first.parent) == ("succeeded", 1, run.id)
    assert (second.iteration, second.params) == (2, {"depth": 8, "name": "tree"})
    assert (second.name, second.project, second.labels) == ("depths", "fraud", {"team": "risk"})
    assert (second.record.function, second.record.place) == (run.record.function, place)
    assert second.record.point == second.record.params
    assert first.metrics.history("loss") == [(0, 1 / 4), (1, 1 / 5)]
    assert dict(first.outputs) == {"accuracy": 0.4, "report": "depth 4"}
    assert first.progress == {"done": 2, "total": 2, "text": "steps"}
    assert first.result() is None and first.children[:] == []
    assert first.logs() == ""
    assert [item.state for item in first.attempts] == ["succeeded"]


@pytest.mark.parametrize("place", PLACES)
def test_the_parent_carries_what_the_best_one_came_to(place: str) -> None:
    run = depths.on(place).submit(best=4)
    run.result(timeout=60)

    assert dict(run.outputs) == {"accuracy": 0.4, "best_iteration": 1, "count": 2, "report": "depth 4"}
    assert run.outputs.report.path == run.children[1].outputs.report.path
    assert dict(depths.on(place).submit(best=0).outputs) == {"count": 2}
    assert list(mlfn.runs(order="max.accuracy")) == [run]
    assert list(mlfn.runs(order="max.accuracy", parent=run)) == [run.children[2], run.children[1]]


def test_children_are_listed_by_their_parent_alone() -> None:
    run = depths.on("inline").submit()

    assert list(mlfn.runs()) == [run]
    assert list(mlfn.runs(parent=run)) == [run.children[2], run.children[1]]
    assert mlfn.run(run.children[1].id) == run.children[1]
    assert repr(run.children) == "<2 children: 2 succeeded>"
    with pytest.raises(NotFoundError, match=r"depths has no child 3: numbers go from 1 to 2 so far"):
        run.children[3]
    with pytest.raises(NotFoundError, match=r"has no child 1: it has none so far"):
        run.children[1].children[1]


@pytest.mark.parametrize("place", PLACES)
def test_an_exception_fails_its_child_and_goes_on_to_the_handler(place: str) -> None:
    @mlfn.function
    def risky(ctx: mlfn.Context, catch: bool) -> None:
        def deeper() -> None:
            raise ValueError("too deep")

        try:
            with ctx.child(depth=4) as child:
                child.log_metric("loss", 1.0)
                child.mark_best()
                deeper()
        except ValueError:
            if not catch:
                raise
        with ctx.child(depth=8):
            pass

    run = risky.on(place).submit(catch=True)
    run.result(timeout=60)
    failed, other = run.children
    assert (failed.state, other.state) == ("failed", "succeeded")
    said = str(failed.error)
    assert "in deeper" in said and "in risky" in said and os.path.dirname(mlfn.__file__) not in said
    assert isinstance(failed.exception(), ValueError)
    assert failed.metrics["loss"] == 1.0
    assert dict(run.outputs) == {"return": None}, "one that failed is never the best"

    run = risky.on(place).submit(catch=False)
    assert isinstance(run.exception(timeout=60), ValueError)
    assert [child.state for child in run.children] == ["failed"]


@pytest.mark.parametrize("place", PLACES)
def test_a_secret_is_masked_in_a_childs_failure(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "sesame-sesame")

    @mlfn.function(secrets=["TOKEN"])
    def leak(ctx: mlfn.Context) -> None:
        with ctx.child() as child:
            raise ValueError(child.secret("TOKEN"))

    run = leak.on(place).submit()
    run.wait(60)

    assert "***" in str(run.children[1].error) and "sesame" not in str(run.children[1].error)


@pytest.mark.parametrize("place", PLACES)
def test_several_are_open_at_once_and_nest(place: str) -> None:
    @mlfn.function
    def folds(ctx: mlfn.Context) -> list[Any]:
        found: list[Any] = []

        def fold(child: Any, number: int) -> None:
            with child.child(fold=number) as grandchild:
                grandchild.log_result("score", number)
                if number == 2:
                    grandchild.mark_best()  # be it the first or the second that was opened

        with ExitStack() as stack:
            children = [stack.enter_context(ctx.child(depth=depth)) for depth in (4, 8)]
            threads = [threading.Thread(target=fold, args=(child, number)) for child in children for number in (1, 2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            found += [child.iteration for child in children]
        children[1].mark_best()
        return found

    run = folds.on(place).submit()
    assert run.result(timeout=60) == [1, 2]

    for child in run.children:
        assert child.state == "succeeded"
        assert sorted(part.outputs["score"] for part in child.children) == [1, 2]
        assert [part.iteration for part in child.children] == [1, 2]
        best = child.children[child.outputs["best_iteration"]]
        assert child.outputs["score"] == best.outputs["score"] == 2
        assert {part.record.part_of for part in child.children} == {run.id}
    assert (run.outputs["best_iteration"], run.outputs["score"]) == (2, 2)


@pytest.mark.parametrize("place", PLACES)
def test_a_retried_attempt_counts_on(place: str) -> None:
    @mlfn.function(retry=mlfn.Retry(1, delay=0))
    def twice(ctx: mlfn.Context) -> list[int]:
        numbers = []
        for depth in (4, 8):
            with ctx.child(depth=depth, attempt=ctx.attempt) as child:
                numbers.append(child.iteration)
                child.log_result("a" if ctx.attempt == 1 else "b", depth)
            if ctx.attempt == 1:
                child.mark_best()
        if ctx.attempt == 1:
            raise ValueError("once more")
        return numbers

    run = twice.on(place).submit()

    assert run.result(timeout=60) == [3, 4]
    assert [(child.iteration, child.params["attempt"]) for child in run.children] == [(1, 1), (2, 1), (3, 2), (4, 2)]
    assert set(run.outputs) == {"return"}, "what an earlier attempt took for the best is none of this one's"


@pytest.mark.parametrize("place", PLACES)
def test_the_current_context_is_the_child_within_its_block(place: str) -> None:
    @mlfn.function
    def inner(x: int) -> str | None:
        return current_run()

    @mlfn.function
    def outer(ctx: mlfn.Context) -> list[Any]:
        found = []
        with ctx.child() as child:
            found.append(mlfn.context() is child and current_run() == child.run_id)
            part = inner.on("inline").submit(1) if ctx.name == "outer" else None
        found.append(mlfn.context() is ctx)
        first, second = ctx.child(), ctx.child()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        found.append(mlfn.context() is second)
        second.__exit__(None, None, None)
        found.append(mlfn.context() is ctx)
        return [*found, part is not None and part.parent == child.run_id]

    assert outer.on(place).submit().result(timeout=60) == [True] * 5


def test_a_task_that_outlives_a_block_is_in_the_run_around_it() -> None:
    @mlfn.function
    async def outer(ctx: mlfn.Context) -> list[bool]:
        go = asyncio.Event()

        async def look() -> list[bool]:
            before = mlfn.context() is child
            await go.wait()
            return [before, mlfn.context() is ctx]

        with ctx.child() as child:
            task = asyncio.create_task(look())
            await asyncio.sleep(0)
        go.set()
        return await task

    assert outer.on("inline").submit().result() == [True, True]


@pytest.mark.parametrize("place", PLACES)
def test_one_that_is_left_open_ends_with_its_run(place: str) -> None:
    @mlfn.function
    def leaves(ctx: mlfn.Context, how: str) -> None:
        child = ctx.child(depth=4)
        child.__enter__()
        child.child(fold=1).__enter__()
        if how == "fail":
            raise ValueError
        if how == "prune":
            raise mlfn.Pruned

    for how, says in (("end", "ended: open it by `with`"), ("fail", r"failed \(error\)"), ("prune", "was pruned")):
        run = leaves.on(place).submit(how)
        run.wait(60)
        [child] = run.children
        assert (child.state, child.record.reason, child.children[1].state) == ("failed", "lost", "failed")
        with pytest.raises(RunLostError, match=f"Child 1 of leaves .{run.id[:8]}. was still open when its run {says}"):
            child.result()


def test_ctrl_c_cancels_the_open_children_too() -> None:
    @mlfn.function
    def interrupted(ctx: mlfn.Context) -> None:
        with ctx.child():
            ctx.child().__enter__()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted.on("inline").submit()

    [run] = mlfn.runs()
    assert [item.state for item in (run, *run.children)] == ["cancelled"] * 3


def test_a_reused_run_has_the_outputs_of_the_best_child() -> None:
    for _ in range(2):
        sweep = depths.on("inline").grid(best=[4, 8]).with_options(select="max.accuracy", memo=True).submit()

    assert [child.reused is not None for child in sweep.children] == [True, True]
    assert sweep.best.iteration == sweep.outputs["best_iteration"] == 2
    assert sweep.outputs["accuracy"] == 0.8 and sweep.outputs["report"] == "depth 8"


# -- what cannot be ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ctx_of", ["local", "run"])
def test_a_child_takes_reports_within_its_block_alone(ctx_of: str) -> None:
    def handler(ctx: mlfn.Context) -> None:
        child = ctx.child(depth=4)
        with pytest.raises(ParameterError, match=r"child\(depth=...\) of \w+ is not open: report within `with"):
            child.log_metric("loss", 1.0)
        with pytest.raises(ParameterError, match=r"did not succeed"):
            child.mark_best()
        with child:
            child.log_metric("loss", 1.0)
            with pytest.raises(ParameterError, match=r"Child 1 of \w+ is opened once"), child:
                pass
        for report in (lambda: child.log_result("x", 1), lambda: child.child().__enter__()):
            with pytest.raises(ParameterError, match=r"Child 1 of \w+ has ended"):
                report()
        with pytest.raises(ZeroDivisionError), ctx.child() as failed:
            1 / 0  # noqa: B018
        with pytest.raises(ParameterError, match=r"Child 2 of \w+ did not succeed: mark one that did"):
            failed.mark_best()

    if ctx_of == "local":
        handler(mlfn.context())
    else:
        assert mlfn.function(handler).on("inline").submit().error is None


def test_a_value_that_cannot_travel_is_refused_by_its_name() -> None:
    @mlfn.function
    def opens(ctx: mlfn.Context) -> None:
        with ctx.child(lock=threading.Lock()):
            pass

    run = opens.on("inline").submit()

    assert "'lock'" in str(run.error) and len(run.children) == 0


def test_a_child_is_no_run_that_could_be_started_or_ended_alone() -> None:
    run = depths.on("inline").submit()
    child = run.children[1]

    with pytest.raises(ParameterError, match=rf"child 1 of {run.id[:8]}.*cannot be submitted again alone"):
        child.rerun()
    with pytest.raises(ParameterError, match="cannot be promoted alone"):
        child.promote("best")
    assert child.cancel() is False
    run.promote("best")
    assert tagged(current_session(), "fraud/depths:best").run == run.id


# -- outside a run -------------------------------------------------------------------------------------------------------


def test_a_plain_call_keeps_what_its_children_are_told(tmp_path: Path) -> None:
    ctx = mlfn.context()
    for depth in (4, 8):
        with ctx.child(depth=depth) as child:
            child.log_metric("loss", 1 / depth)
            child.log_artifact("folder", tmp_path)
            assert (child.iteration, child.params) == (depth // 4, {"depth": depth})
            assert mlfn.context() is child and current_run() is None
            if depth == 4:
                child.mark_best()

    first, second = ctx.reporter.children
    assert (first.metrics, second.metrics) == ({"loss": [(None, 1 / 4)]}, {"loss": [(None, 1 / 8)]})
    assert ctx.reporter.best is first and first.artifacts == {"folder": tmp_path}
    assert depths() == 2
