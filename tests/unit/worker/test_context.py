"""`Context`: results, artifacts, metrics, progress, secrets and a logger, in a run and outside any."""

from __future__ import annotations

import logging
import math
import re
import threading
from contextvars import copy_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mlfn
from mlfn.errors import OutputError, ParameterError, SecretNotFoundError
from mlfn.worker.context import Context, Reporter, call_within

PLACES = ["inline", "local"]


def test_a_context_outside_a_run_keeps_logs() -> None:
    ctx = mlfn.context()

    ctx.log_metric("loss", 0.5, step=1)
    ctx.log_metric("loss", np.float32(0.25))
    ctx.log_result("accuracy", 0)
    ctx.log_artifact("report", "text")
    ctx.log_model("model", {"w": 1}, framework="own")

    assert ctx.reporter.metrics == {"loss": [(1, 0.5), (None, 0.25)]}
    assert ctx.reporter.results == {"accuracy": 0}
    assert ctx.reporter.artifacts == {"report": "text", "model": {"w": 1}}
    assert (ctx.run_id, ctx.name, ctx.attempt, ctx.iteration, ctx.rank, ctx.params) == ("", "local", 1, 0, 0, {})
    with pytest.raises(SecretNotFoundError, match=r"secrets=\['S3_KEY'\].*a plain call has no secrets"):
        ctx.secret("S3_KEY")


def test_each_local_context_is_new() -> None:
    assert mlfn.context() is not mlfn.context()


def test_within_a_run_there_is_one_context() -> None:
    ctx = Context(name="mine")

    assert call_within(ctx, mlfn.context) is ctx
    assert mlfn.context() is not ctx


def test_a_thread_with_the_context_is_inside() -> None:
    found: list[str] = []
    ctx = Context(name="mine")

    def in_threads() -> None:
        inside = threading.Thread(target=copy_context().run, args=(lambda: found.append(mlfn.context().name),))
        outside = threading.Thread(target=lambda: found.append(mlfn.context().name))
        for thread in (inside, outside):
            thread.start()
            thread.join()

    call_within(ctx, in_threads)

    assert found == ["mine", "local"]


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 129, None, 3, "a b/../c", "a b", ".hidden", "prüf ung", "<b>"])
def test_a_name_that_is_none_is_refused(name: Any) -> None:
    ctx = mlfn.context()

    for log in (ctx.log_result, ctx.log_artifact, ctx.log_model):
        with pytest.raises(
            ParameterError, match=f"^{re.escape(repr(name))} is no name for an output: letters and digits of any script"
        ):
            log(name, 1)  # type: ignore[operator]
    for log in (ctx.log_metric, ctx.log_constraint):
        with pytest.raises(ParameterError, match=f"^{re.escape(repr(name))} is no name for a metric or constraint: "):
            log(name, 1)
    assert not ctx.reporter.results and not ctx.reporter.artifacts and not ctx.reporter.metrics


def test_a_refused_name_comes_with_a_suggestion() -> None:
    with pytest.raises(ParameterError, match=r"'_' or '-', as in 'val_loss_mean'\.$"):
        mlfn.context().log_metric("val loss (mean", 1)
    with pytest.raises(ParameterError, match=r"'_' or '-', as in 'val_loss'\.$"):
        mlfn.context().log_result("val/loss", 1)


@pytest.mark.parametrize(
    "name", ["loss", "val.loss", "val/loss", "recall@10", "f1-macro", "a:b", "x+y", "0", "x" * 128]
)
def test_a_series_may_be_called_as_is_usual(name: str) -> None:
    ctx = mlfn.context()

    ctx.log_metric(name, 1)
    ctx.log_constraint(name, 1)

    assert list(ctx.reporter.metrics) == list(ctx.reporter.constraints) == [name]


def test_return_is_no_name_for_an_output() -> None:
    ctx = mlfn.context()

    for log in (ctx.log_result, ctx.log_artifact, ctx.log_model):
        with pytest.raises(ParameterError, match=r"'return' is the function's own return value: .*another name"):
            log("return", 5)  # type: ignore[operator]


def test_a_metric_is_kept_as_a_float() -> None:
    @mlfn.function
    def f(ctx: mlfn.Context) -> None:
        ctx.log_metric("n", 2**53 + 1)
        ctx.log_result("n", 2**53 + 1)

    run = f.on("inline").submit()

    assert run.metrics["n"] == 2.0**53
    assert run.outputs["n"] == 2**53 + 1
    with pytest.raises(ParameterError, match="a whole number that no float holds; log_result"):
        mlfn.context().log_metric("n", 10**400)


@pytest.mark.parametrize("value", ["0.5", None, [1], {"a": 1}, object()])
def test_a_metric_that_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(ParameterError, match="log_result"):
        mlfn.context().log_metric("loss", value)


def test_a_reporter_that_says_stop_prunes() -> None:
    class Stopping(Reporter):
        def metric(self, name: str, step: int | None, value: float) -> str | None:
            return "the median is below" if step == 2 else None

    ctx = Context(reporter=Stopping())

    ctx.log_metric("loss", 1.0, step=1)
    with pytest.raises(mlfn.Pruned, match=r"loss=1.0 at step 2: the median is below"):
        ctx.log_metric("loss", 1.0, step=2)


class Counting(Reporter):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, int | None, str]] = []

    def progress(self, done: int, total: int | None, text: str) -> None:
        self.seen.append((done, total, text))


def test_progress_reports_first_and_last() -> None:
    reporter = Counting()
    ctx = Context(reporter=reporter)

    assert list(ctx.progress("abc", text="letters")) == ["a", "b", "c"]
    assert reporter.seen[0] == (0, 3, "letters") and reporter.seen[-1] == (3, 3, "letters")
    reporter.seen.clear()
    assert list(ctx.progress(iter("ab"))) == ["a", "b"]
    assert reporter.seen[-1] == (2, None, "")
    reporter.seen.clear()
    list(ctx.progress(iter("ab"), total=5))
    assert reporter.seen[0] == (0, 5, "")


def test_progress_knows_its_length_where_that_is_known() -> None:
    ctx = Context(reporter=Counting())

    assert len(ctx.progress("abc")) == 3  # type: ignore[arg-type]
    assert len(ctx.progress(iter("ab"), total=5)) == 5  # type: ignore[arg-type]
    assert not hasattr(ctx.progress(iter("ab")), "__len__")


def test_progress_is_reported_ten_times_a_second() -> None:
    reporter = Counting()

    for _ in Context(reporter=reporter).progress(range(10_000)):
        pass

    assert len(reporter.seen) < 100


# -- in a run ----------------------------------------------------------------------------------------------------------


@mlfn.function(labels={"team": "risk"}, project="fraud")
def everything(ctx: mlfn.Context, epochs: int = 3) -> dict[str, Any]:
    for epoch in ctx.progress(range(epochs), text="epochs"):
        ctx.log_metric("loss", 1 / (epoch + 1), step=epoch)
    ctx.log_metric("odd", math.nan)
    ctx.log_metric("odd", math.inf)
    ctx.log_result("accuracy", np.float64(0.5))
    ctx.log_result("accuracy", np.float64(0.75))
    ctx.log_result("falsy", 0)
    ctx.log_artifact("report", "fine")
    ctx.log_model("model", {"w": 1}, framework="own")
    return {
        "name": ctx.name,
        "project": ctx.project,
        "attempt": ctx.attempt,
        "params": dict(ctx.params),
        "labels": dict(ctx.labels),
        "run": ctx.run_id,
        "same": mlfn.context() is ctx,
    }


@pytest.mark.parametrize("place", PLACES)
def test_a_run_keeps_what_its_handler_logs(place: str) -> None:
    run = everything.on(place).submit(epochs=2)

    assert run.result(timeout=60) == {
        "name": "everything",
        "project": "fraud",
        "attempt": 1,
        "params": {"epochs": 2},
        "labels": {"team": "risk"},
        "run": run.id,
        "same": True,
    }
    assert run.metrics.history("loss") == [(0, 1.0), (1, 0.5)]
    assert run.metrics["loss"] == 0.5
    assert math.isnan(run.metrics.history("odd")[0][1]) and run.metrics["odd"] == math.inf
    assert set(run.metrics) == {"loss", "odd"}
    assert run.outputs["accuracy"] == 0.75 and isinstance(run.outputs["accuracy"], np.float64)
    assert run.outputs["falsy"] == 0
    assert run.outputs["report"] == "fine" and run.outputs.report.path.read_text() == "fine"
    assert set(run.artifacts) == {"report", "model"}
    assert run.outputs["model"] == {"w": 1}
    assert run.progress == {"done": 2, "total": 2, "text": "epochs"}
    assert run.labels == {"team": "risk"} and run.project == "fraud"


@pytest.mark.parametrize("place", PLACES)
def test_what_was_logged_before_a_failure_is_kept(place: str) -> None:
    @mlfn.function
    def fail(ctx: mlfn.Context) -> None:
        ctx.log_metric("loss", 1.0)
        ctx.log_result("half", 0.5)
        raise ValueError("later")

    run = fail.on(place).submit()

    assert isinstance(run.exception(timeout=60), ValueError)
    assert dict(run.metrics) == {"loss": 1.0} and dict(run.outputs) == {"half": 0.5}


@pytest.mark.parametrize("place", PLACES)
def test_a_pruned_run_ends_as_pruned(place: str) -> None:
    @mlfn.function
    def stop(ctx: mlfn.Context) -> None:
        raise mlfn.Pruned("enough")

    run = stop.on(place).submit()

    assert run.wait(60)
    assert run.state == "pruned"


def test_prints_and_log_lines_reach_the_log() -> None:
    @mlfn.function
    def talk(ctx: mlfn.Context) -> None:
        print("printed", end="")
        ctx.logger.info("from %s", ctx.name)
        ctx.logger.debug("unseen")

    run = talk.submit()
    run.result(timeout=60)

    # Whole, as soon as the end is known.
    shown = run.logs()
    assert isinstance(shown, str)
    assert "printed" in shown and "INFO from talk" in shown and "unseen" not in shown


def test_a_handler_may_set_up_logging() -> None:
    @mlfn.function(kind=mlfn.Job(fresh=True))
    def talk(ctx: mlfn.Context) -> None:
        logging.basicConfig(format="own: %(message)s", level=logging.INFO)
        ctx.logger.info("hello")

    run = talk.submit()
    run.result(timeout=60)

    assert run.logs() == "own: hello\n"


def test_a_logged_path_is_the_file_there(tmp_path: Path) -> None:
    @mlfn.function
    def write(folder: str, ctx: mlfn.Context) -> None:
        path = Path(folder) / "a.txt"
        path.write_text("text")
        ctx.log_artifact("file", path)
        ctx.log_artifact("folder", path.parent)

    run = write.on("inline").submit(str(tmp_path))

    assert run.outputs.file.path.read_text() == "text"
    assert (run.outputs.folder.path / "a.txt").read_text() == "text"


@pytest.mark.parametrize("path", ["model.pkl", "none/model.pkl", "/dev/null", "a\0b", "model.bin/inner"])
def test_a_logged_path_must_exist(path: str, home: Path) -> None:
    Path("model.bin").write_bytes(b"1")
    ctx = mlfn.context()

    for log in (ctx.log_artifact, ctx.log_model):
        with pytest.raises(OutputError) as caught:
            log("model", Path(path))  # type: ignore[operator]
        assert str(caught.value).startswith(f"{log.__name__}('model', {Path(path)!r}): no file or folder is there.")  # type: ignore[attr-defined]
    assert ("Did you mean 'model.bin'?" in str(caught.value)) is (path == "model.pkl")
    assert ctx.reporter.artifacts == {}


def test_a_path_as_result_need_not_exist() -> None:
    @mlfn.function
    def f(ctx: mlfn.Context) -> Path:
        ctx.log_result("later", Path("yet/to/come"))
        return Path("yet/to/come")

    run = f.on("inline").submit()

    assert run.result() == run.outputs["later"] == Path("yet/to/come")
