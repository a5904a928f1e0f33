"""`Run` and what finds, lists and waits for runs."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mlfn
from mlfn.errors import (
    InputNotFoundError,
    NotFoundError,
    OptionError,
    ParameterError,
    ParentFailedError,
    ResultTimeoutError,
    RunCancelledError,
    UnpicklableError,
)
from mlfn.ui import notebook

ROOT = Path(__file__).resolve().parents[3]


@mlfn.function
def double(x: int) -> int:
    return 2 * x


@mlfn.function
def fail(text: str = "no") -> None:
    raise ValueError(text)


@mlfn.function
def wait_for(path: str) -> str:
    while not os.path.exists(path):
        time.sleep(0.01)
    return path


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file for which a run waits."""
    return tmp_path / "gate"


@dataclass
class Config:
    lr: float = 0.1


@mlfn.function
def tune(x: int, rate: float = 0.5, config: Config = Config(0.2), *rest: int, **more: int) -> None: ...  # noqa: B008


def test_params_have_the_defaults_of_what_was_not_given() -> None:
    run = tune.on("inline").submit(1)

    assert run.params == {"x": 1, "rate": 0.5, "config": Config(0.2)}
    assert run.rerun(rate=2.0).params == {"x": 1, "rate": 2.0, "config": Config(0.2)}


def test_a_default_that_was_changed_since_is_known_as_it_was() -> None:
    def first(n: int = 30) -> int:
        return n

    def second(n: int = 31) -> int:
        return n

    before = mlfn.function(name="edited")(first).on("inline").submit()
    mlfn.function(name="edited")(second).on("inline").submit()

    assert mlfn.run(before.id).params == {"n": 30}


def test_an_artifact_that_is_not_there_is_named_with_the_nearest() -> None:
    @mlfn.function
    def logs_one(ctx: mlfn.Context) -> int:
        ctx.log_artifact("report", "text")
        return 1

    run = logs_one.on("inline").submit()

    assert list(run.artifacts) == ["report"] and run.artifacts.get("x") is None
    with pytest.raises(NotFoundError, match=r"logs_one \(.*\) has no file called 'raport': did you mean 'report'"):
        run.artifacts["raport"]
    with pytest.raises(KeyError, match=r"it is a value in the store; use run.outputs\['return'\]"):
        run.artifacts["return"]


# -- one run -----------------------------------------------------------------------------------------------------------


def test_a_run_tells_what_it_is(gate: Path) -> None:
    run = wait_for.submit(str(gate))

    assert len(run.id) == 32 and run.name == "wait_for" and run.params == {"path": str(gate)}
    assert run.url.startswith("file://") and run.url.endswith(run.id)
    assert not run.done() and run.state in ("pending", "running")
    assert run.wait(0.05) is False
    assert repr(run) in (f"<mlfn.Run {run.id[:8]} wait_for {state}>" for state in ("pending", "running"))
    with pytest.raises(ResultTimeoutError, match=r"wait_for.*is still .* after 0.05 s; it goes on") as late:
        run.result(timeout=0.05)
    assert isinstance(late.value, TimeoutError)
    with pytest.raises(ResultTimeoutError):
        run.exception(timeout=0)

    gate.touch()

    assert run.result(timeout=60) == str(gate)
    assert run.done() and run.wait(0) and run.exception() is None and run.error is None
    assert repr(run) == f"<mlfn.Run {run.id[:8]} wait_for succeeded>"
    (attempt,) = run.attempts
    assert attempt.attempt == 1 and attempt.state == "succeeded" and attempt.started is not None


def test_a_repr_does_not_fail_with_the_store() -> None:
    run = double.on("inline").submit(1)
    pending = mlfn.Run(run.record, session=run._session)
    object.__setattr__(
        pending, "_record", run.record.__class__(**{**vars(run.record), "state": type(run.state).PENDING})
    )
    run._session.store.remove_runs([run.id])

    assert repr(pending) == f"<mlfn.Run {run.id[:8]} double pending>"


def test_runs_are_equal_by_their_id() -> None:
    run = double.on("inline").submit(1)

    assert mlfn.run(run.id) == run and hash(mlfn.run(run.id)) == hash(run)
    assert run != run.id and {run, mlfn.run(run.id)} == {run}


def test_a_failed_run_raises_from_result_only() -> None:
    run = fail.on("inline").submit("mine")

    assert run.state == "failed" and run.done()
    assert isinstance(run.exception(), ValueError)
    assert "in fail" in str(run.error) and "ValueError: mine" in str(run.error)
    with pytest.raises(ValueError, match="mine"):
        run.result()


def test_callbacks_are_called_once_with_the_run(gate: Path) -> None:
    called: list[Any] = []
    over = threading.Event()
    run = wait_for.submit(str(gate))
    run.add_done_callback(called.append)
    run.add_done_callback(lambda _: 1 / 0)  # another's failure is not ours
    run.add_done_callback(lambda _: over.set())

    gate.touch()

    assert over.wait(60)
    assert called == [run] and called[0].state == "succeeded"
    run.add_done_callback(called.append)
    assert called == [run, run]


def test_a_callback_on_a_handle_without_a_ticket_is_called_too(gate: Path) -> None:
    over = threading.Event()
    run = wait_for.submit(str(gate))

    mlfn.run(run.id).add_done_callback(lambda found: over.set() if found == run else None)
    gate.touch()

    assert over.wait(60)


def test_a_run_can_be_awaited(gate: Path) -> None:
    async def both() -> Any:
        waiting, failing = wait_for.submit(str(gate)), fail.submit("mine")
        asyncio.get_running_loop().call_later(0.05, gate.touch)
        return await asyncio.gather(waiting, failing, return_exceptions=True)

    value, error = asyncio.run(both())

    assert value == str(gate) and isinstance(error, ValueError)


def test_waiting_in_vain_leaves_the_run_alone(gate: Path) -> None:
    run = wait_for.submit(str(gate))

    async def briefly() -> None:
        await asyncio.wait_for(_result(run), 0.05)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(briefly())
    gate.touch()
    assert run.result(timeout=60) == str(gate)


async def _result(run: Any) -> Any:
    return await run


def test_outputs_name_what_is_there(tmp_path: Path) -> None:
    run = double.on("inline").submit(2)

    assert dict(run.outputs) == {"return": 4}
    reference = getattr(run.outputs, "return")
    assert reference.value == 4 and reference.type == "builtins.int" and "'return'" in repr(reference)
    with pytest.raises(NotFoundError, match=r"has no output 'retrun': did you mean 'return'"):
        run.outputs["retrun"]
    with pytest.raises(NotFoundError, match=r"has no file: use run.outputs\['return'\]"):
        reference.path  # noqa: B018
    with pytest.raises(NotFoundError, match="logged no metric 'loss'"):
        run.metrics["loss"]
    assert run.metrics == {} and len(run.metrics) == 0
    with pytest.raises(AttributeError):
        run.outputs._private  # noqa: B018


def test_an_output_of_a_failed_run_raises_its_failure() -> None:
    run = fail.on("inline").submit("mine")

    with pytest.raises(ValueError, match="mine"):
        run.outputs["return"]


def test_logs_follow_a_run_to_its_end(gate: Path) -> None:
    @mlfn.function
    def talk(path: str) -> None:
        print("first", flush=True)
        while not os.path.exists(path):
            time.sleep(0.01)
        print("last", end="")

    run = talk.submit(str(gate))
    heard = ""
    for chunk in run.logs(follow=True):
        heard += chunk
        if "first" in heard:
            gate.touch()

    assert heard == "first\nlast" == run.logs()
    assert run.log_path() is not None and run.log_path(attempt=7) is None


def test_logs_of_an_attempt_that_was_not_made_are_refused(gate: Path) -> None:
    run = wait_for.submit(str(gate))

    early = run.logs(attempt=1)  # it may yet begin
    with pytest.raises(NotFoundError, match=r"wait_for \(.*\) has no attempt 7: it has had [01] so far"):
        run.logs(attempt=7)
    gate.touch()
    run.result(timeout=60)

    assert early == "" == run.logs(attempt=1)
    for follow in (False, True):
        with pytest.raises(NotFoundError, match=r"has no attempt 2: it has had 1; leave attempt= out"):
            run.logs(attempt=2, follow=follow)  # type: ignore[call-overload]
    for wrong in (0, "1", True):
        with pytest.raises(ParameterError, match=rf"logs\(attempt={wrong!r}\)"):
            run.logs(attempt=wrong)  # type: ignore[call-overload]


@pytest.mark.parametrize("wrong", [3, None, b"3f"])
def test_what_is_no_id_or_name_is_refused(wrong: Any) -> None:
    with pytest.raises(ParameterError, match=rf"run\({wrong!r}\): a text is allowed"):
        mlfn.run(wrong)
    with pytest.raises(ParameterError, match=rf"get_function\({wrong!r}\): 'project/name:tag'"):
        mlfn.get_function(wrong)


def test_a_silent_run_has_an_empty_log() -> None:
    run = double.submit(1)
    run.result(timeout=60)

    assert run.logs() == "" and list(run.logs(follow=True)) == []


def test_a_cancelled_run_says_so(gate: Path) -> None:
    run = wait_for.submit(str(gate))

    assert run.cancel() is True
    assert run.state == "cancelled"
    with pytest.raises(RunCancelledError, match=r"wait_for \(.*\) was cancelled"):
        run.result()
    assert isinstance(run.exception(), RunCancelledError)
    assert run.cancel() is True and run.error is None


def test_a_run_inside_a_thread_cannot_be_asked_to_end(gate: Path) -> None:
    thread = threading.Thread(target=wait_for.on("inline").submit, args=(str(gate),))
    thread.start()
    try:
        while not mlfn.runs(state="running"):
            time.sleep(0.01)
        with pytest.raises(ParameterError, match=r"wait_for .* in a thread of this process .* press ctrl-C there"):
            mlfn.runs()[0].cancel()
    finally:
        gate.touch()
        thread.join()
    assert mlfn.runs()[0].cancel() is False


def test_another_process_cannot_ask_an_inline_run_to_end(gate: Path) -> None:
    thread = threading.Thread(target=wait_for.on("inline").submit, args=(str(gate),))
    thread.start()
    try:
        while not mlfn.runs(state="running"):
            time.sleep(0.01)
        done = subprocess.run(
            [sys.executable, "-c", "import mlfn; mlfn.runs()[0].cancel()"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    finally:
        gate.touch()
        thread.join()

    assert "in a thread of another process (on='inline')" in done.stderr


def test_cancelling_what_has_ended_changes_nothing() -> None:
    run = double.on("inline").submit(1)

    assert run.cancel() is False
    assert run.state == "succeeded"


def test_a_rerun_takes_the_same_code_and_other_params() -> None:
    run = double.submit(2)
    run.result(timeout=60)

    again, other = run.rerun(), mlfn.run(run.id).rerun(x=5)

    assert (again.result(timeout=60), other.result(timeout=60)) == (4, 10)
    assert again != run and other.params == {"x": 5} and again.record.function == run.record.function


def test_a_rerun_inline_runs_inline() -> None:
    assert double.on("inline").submit(2).rerun(x=4).result() == 8


def test_what_a_place_lacks_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    @mlfn.function(image="python:3.11", timeout=60, mem="1Gi")
    def modest() -> int:
        return 1

    for _ in range(2):
        assert modest.on("inline").submit().result() == 1

    (said,) = [record.getMessage() for record in caplog.records if record.name == "mlfn"]
    assert said == ("modest asks for image='python:3.11', mem=1073741824, timeout=60.0: on='inline' runs it without")


def test_an_option_that_a_place_cannot_honour_is_refused() -> None:
    @mlfn.function(requirements=["pytest", "not-at-all-there"])
    def demanding() -> int:
        return 1

    says = (
        r"demanding asks for requirements=\['pytest', 'not-at-all-there'\], which on='inline' cannot honour: it runs in the "
        r"caller's own process, which lacks them: install them here, or use on='local'"
    )
    with pytest.raises(OptionError, match=says):
        demanding.on("inline").submit()


def test_what_is_there_anyway_is_not_called_lacking(caplog: pytest.LogCaptureFixture) -> None:
    @mlfn.function(requirements=["pytest"])
    def content() -> int:
        return 1

    assert content.on("inline").submit().result() == 1
    assert caplog.records == []


def test_a_rerun_refuses_what_is_no_parameter() -> None:
    run = double.on("inline").submit(2)

    with pytest.raises(ParameterError, match=r"double\(\) has no parameter 'y'"):
        run.rerun(y=1)


def test_a_rerun_checks_values_as_submit_does() -> None:
    run = double.on("inline").submit(2)

    with pytest.raises(ParameterError, match=r"double\(x='3'\) does not fit int: Input should be a valid integer"):
        run.rerun(x="3")
    assert len(mlfn.runs()) == 1


def test_a_rerun_changes_one_of_the_keywords_and_keeps_the_others() -> None:
    @mlfn.function
    def collect(*rest: int, **more: int) -> Any:
        return rest, more

    run = collect.on("inline").submit(1, a=2, b=3)

    assert run.rerun(a=4).result() == ((1,), {"a": 4, "b": 3})
    assert run.rerun(c=4, rest=(5,)).result() == ((5,), {"a": 2, "b": 3, "c": 4})
    with pytest.raises(ParameterError, match=r"collect\(c='4'\) does not fit int"):
        run.rerun(c="4")


def test_a_rerun_of_code_that_cannot_be_loaded_here_is_checked_by_names() -> None:
    run = double.on("inline").submit(2)
    (payload,) = (run._session.folder / "payloads").iterdir()
    payload.unlink()

    with pytest.raises(ParameterError, match="has no parameter 'y'"):
        run.rerun(y=1)
    again = run.rerun(x="3")

    assert again.params == {"x": "3"} and again.state == "failed"


def test_a_rerun_reads_another_input(tmp_path: Path) -> None:
    @mlfn.function
    def total(frame: pd.DataFrame) -> int:
        return int(frame["a"].sum())

    for name, rows in (("one.csv", "a\n1\n"), ("two.csv", "a\n2\n")):
        (tmp_path / name).write_text(rows)
    run = total.on("inline").submit(str(tmp_path / "one.csv"))

    assert run.result() == 1
    assert run.params == {"frame": str(tmp_path / "one.csv")}
    assert run.rerun(frame=str(tmp_path / "two.csv")).result() == 2
    with pytest.raises(InputNotFoundError, match=r"total\(frame=...\)"):
        run.rerun(frame=str(tmp_path / "three.csv"))


def test_retries_are_attempts_of_one_run(tmp_path: Path) -> None:
    @mlfn.function(retry=mlfn.Retry(3, delay=0))
    def third_time(folder: str, ctx: mlfn.Context) -> int:
        ctx.log_metric("attempt", ctx.attempt)
        if ctx.attempt < 3:
            raise ValueError(ctx.attempt)
        return ctx.attempt

    for place in ("inline", "local"):
        run = third_time.on(place).submit(str(tmp_path))
        assert run.result(timeout=60) == 3
        assert [(a.attempt, a.state) for a in run.attempts] == [(1, "failed"), (2, "failed"), (3, "succeeded")]
        assert dict(run.metrics) == {"attempt": 3.0}


# -- chains ------------------------------------------------------------------------------------------------------------


@mlfn.function
@mlfn.handler(outputs=["model", "accuracy"])
def train(w: int) -> tuple[dict[str, int], float]:
    return {"w": w}, 0.5


@mlfn.function
def use(model: dict[str, int], factor: int = 1) -> int:
    return model["w"] * factor


@pytest.mark.parametrize("place", ["inline", "local"])
def test_an_output_is_another_runs_parameter(place: str) -> None:
    first = train.on(place).submit(3)

    second = use.on(place).submit(first.outputs.model, factor=2)

    assert second.result(timeout=60) == 6
    assert repr(second.params["model"]) == f"<output 'model' of run {first.id[:8]}>"


def test_a_child_waits_for_its_parents(gate: Path) -> None:
    waiting = wait_for.submit(str(gate))
    child_of_train = use.submit(train.submit(2).outputs.model, factor=2)
    grandchild = double.submit(getattr(child_of_train.outputs, "return"))

    @mlfn.function
    def join(path: str, number: int) -> Any:
        return path, number

    child = join.submit(getattr(waiting.outputs, "return"), getattr(grandchild.outputs, "return"))
    assert child.state == "pending"
    gate.touch()

    assert child.result(timeout=60) == (str(gate), 8)


@pytest.mark.parametrize("place", ["inline", "local"])
def test_a_failed_parent_fails_the_child_by_name(place: str) -> None:
    parent = fail.on("local").submit("mine")

    child = double.on(place).submit(getattr(parent.outputs, "return"))

    with pytest.raises(
        ParentFailedError,
        match=rf"double waits for an output of fail \({parent.id[:8]}\), which failed: ValueError: mine;",
    ) as caught:
        child.result(timeout=60)
    assert child.state == "failed"
    assert isinstance(caught.value.__cause__, ValueError) and caught.value.__cause__.args == ("mine",)
    assert "raise ValueError(text)" in str(caught.value.__cause__.__cause__)  # with the user's own frames


def test_the_cause_of_a_failure_that_was_passed_on_is_the_first_one() -> None:
    grandparent = fail.on("inline").submit("first\nof all")
    parent = double.on("inline").submit(getattr(grandparent.outputs, "return"))
    child = double.on("inline").submit(getattr(parent.outputs, "return"))

    error = child.exception()

    assert str(error) == (
        f"double waits for an output of double ({parent.id[:8]}), which failed because fail ({grandparent.id[:8]}) did: "
        f"ValueError: first; `mlfn show {grandparent.id[:8]}` says more."
    )
    assert isinstance(error, ParentFailedError) and isinstance(error.__cause__, ValueError)


@pytest.mark.parametrize("place", ["inline", "local"])
def test_an_output_that_is_not_there_fails_the_child_by_name(place: str, gate: Path) -> None:
    parent = wait_for.on("local").submit(str(gate))
    if place == "inline":
        threading.Timer(0.1, gate.touch).start()  # its submit waits for the parent

    child = use.on(place).submit(parent.outputs.table)
    gate.touch()

    with pytest.raises(NotFoundError, match=r"wait_for \(.*\) has no output 'table': Allowed: return"):
        child.result(timeout=60)


def test_an_output_that_a_run_ended_without_is_refused() -> None:
    parent = train.on("inline").submit(3)

    with pytest.raises(NotFoundError, match=r"use\(model=\.\.\.\) got output 'other' .* Allowed: accuracy, model"):
        use.submit(parent.outputs.other)
    with pytest.raises(NotFoundError, match="did you mean 'model'"):
        use.on("inline").submit(parent.outputs.model).rerun(model=parent.outputs.modle)


def test_an_output_of_a_failed_run_is_its_failure_and_no_misspelling() -> None:
    parent = fail.on("inline").submit("x")

    assert isinstance(use.on("inline").submit(parent.outputs.modle).exception(), ParentFailedError)


@mlfn.function
@mlfn.handler(outputs=["train_set", "model"])
def split(path: str) -> tuple[int, int]:
    while not os.path.exists(path):
        time.sleep(0.01)
    return 1, 2


@mlfn.function
@mlfn.handler(outputs=["accuracy", "train_x"])
def logs(path: str, ctx: mlfn.Context) -> tuple[int, int]:
    while not os.path.exists(path):
        time.sleep(0.01)
    ctx.log_result("accuracies", 3)
    return 1, 2


@pytest.mark.parametrize(
    ("parent", "key"),
    [(split, "trainset"), (split, "modle"), (split, "modek"), (logs, "Accuracy"), (logs, "trainx")],
)
def test_a_misspelt_output_of_a_run_that_goes_on_is_refused(parent: Any, key: str, gate: Path) -> None:
    running = parent.submit(str(gate))

    with pytest.raises(NotFoundError, match=f"got output '{key}' .*did you mean"):
        double.submit(getattr(running.outputs, key))
    gate.touch()


@pytest.mark.parametrize(
    ("parent", "key"),
    [(split, "model_2"), (split, "table"), (logs, "accuracies"), (logs, "test_accuracy"), (logs, "train_y")],
)
def test_an_output_that_may_still_come_is_waited_for(parent: Any, key: str, gate: Path) -> None:
    running = parent.submit(str(gate))

    child = double.submit(getattr(running.outputs, key))
    gate.touch()

    if key == "accuracies":
        assert child.result(timeout=60) == 6
    else:
        assert isinstance(child.exception(timeout=60), NotFoundError)


def test_a_whole_run_is_no_parameter() -> None:
    two = train.on("inline").submit(3)
    one = double.on("inline").submit(3)

    @mlfn.function
    def keep(anything: Any) -> None: ...

    with pytest.raises(ParameterError, match=r"use\(model=...\) got .* run.outputs.model or run.outputs.accuracy"):
        use.submit(two)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match=r'getattr\(run.outputs, "return"\), which is its only one'):
        double.submit(one)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="a whole run"):
        one.rerun(x=one)
    with pytest.raises(ParameterError, match=r"keep\(anything\[0\]=...\) got .* a whole run"):
        keep.on("inline").submit([one])
    with pytest.raises(UnpicklableError, match=r"a run does not travel: pass its id"):
        keep.on("inline").submit({one})


def test_an_output_within_another_value_is_refused_with_a_way_out() -> None:
    @mlfn.function
    def note(model: set[Any]) -> None: ...

    parent = train.on("inline").submit(3)

    with pytest.raises(UnpicklableError, match=r"note\(model=\.\.\.\).*inside another value pass its .value"):
        note.on("inline").submit({parent.outputs.model})


def test_a_parameter_that_cannot_travel_is_named() -> None:
    @mlfn.function
    def take(lock: Any) -> None: ...

    with pytest.raises(UnpicklableError, match=r"take\(lock=\.\.\.\) got a lock that cannot travel"):
        take.submit(threading.Lock())
    assert len(mlfn.runs()) == 0


# -- finding and listing -----------------------------------------------------------------------------------------------


def test_a_run_is_found_by_a_prefix_from_another_process(home: Path) -> None:
    run = train.submit(3)
    run.result(timeout=60)
    script = textwrap.dedent(
        f"""
        import mlfn
        run = mlfn.run({run.id[:8]!r})
        print(run.name, run.state, run.result(), run.params, dict(run.outputs), [r.id for r in mlfn.runs()] == [run.id])
        """
    )

    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )

    assert done.stdout.strip() == (
        "train succeeded ({'w': 3}, 0.5) {'w': 3} {'accuracy': 0.5, 'model': {'w': 3}} True"
    ), done.stderr


def test_another_process_waits_cancels_and_reads_logs(gate: Path) -> None:
    run = wait_for.submit(str(gate))
    script = f"import mlfn; run = mlfn.run({run.id!r}); print(run.wait(0.2), run.cancel(), run.state)"

    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )

    assert done.stdout.split() == ["False", "True", "cancelled"], done.stderr
    assert run.wait(60) and run.state == "cancelled"


def test_a_run_that_is_not_there_says_so() -> None:
    double.on("inline").submit(1)

    with pytest.raises(NotFoundError, match="zzzz"):
        mlfn.run("zzzz")
    with pytest.raises(NotFoundError):
        mlfn.run("")


def test_runs_are_listed_newest_first_and_filtered() -> None:
    risk = double.with_options(labels={"team": "risk", "tier": "1"}, project="fraud").on("inline")
    other = double.with_options(labels={"team": "ads"}).on("inline")
    runs = [risk.submit(1), other.submit(2), risk.submit(3), fail.on("inline").submit()]

    assert list(mlfn.runs()) == runs[::-1]
    assert list(mlfn.runs(order="oldest")) == runs
    assert list(mlfn.runs(limit=2)) == runs[:1:-1]
    assert list(mlfn.runs(limit=2, before=runs[2])) == runs[1::-1]
    assert list(mlfn.runs(project="fraud")) == [runs[2], runs[0]]
    assert list(mlfn.runs(name="fail")) == [runs[3]]
    assert list(mlfn.runs(state="failed")) == list(mlfn.runs(state=["failed", "pending"])) == [runs[3]]
    assert list(mlfn.runs(label={"team": "risk", "tier": "1"})) == [runs[2], runs[0]]
    assert list(mlfn.runs(label={"team": "ads", "tier": "1"})) == []
    assert list(mlfn.runs(order="max.return")) == [runs[2], runs[1], runs[0]]
    assert list(mlfn.runs(order="min.return", project="fraud")) == [runs[0], runs[2]]
    since = runs[2].record.created
    assert list(mlfn.runs(since=since)) == runs[:1:-1]
    assert len(mlfn.runs(since="1d")) == len(mlfn.runs(since="2020-01-31 12:30")) == len(mlfn.runs())
    assert len(mlfn.runs(since="0.000001s")) == len(mlfn.runs(since="9999-01-01")) == 0
    assert list(mlfn.runs(since=datetime.fromtimestamp(since + 3600, tz=timezone.utc))) == []


def test_a_listing_can_be_sliced_and_shown() -> None:
    runs = [double.on("inline").submit(x) for x in range(3)][::-1]
    listing = mlfn.runs()

    assert len(listing) == 3 and listing[0] == runs[0] and listing[-1] == runs[2]
    assert isinstance(listing[1:], mlfn.Runs) and list(listing[1:]) == runs[1:]
    assert list(listing[::-1]) == runs[::-1] and runs[1] in listing
    assert repr(listing).startswith("3 runs\n") and repr(listing[:1]).startswith("1 run\n")
    assert all(run.id[:8] in repr(listing) for run in runs)
    assert repr(listing[:0]).startswith("0 runs")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"state": "done"}, "state='done'.*Allowed: cancelled, failed"),
        ({"limit": 0}, "limit=0"),
        ({"limit": True}, "limit=True"),
        ({"order": "best"}, "order='best'.*'max.NAME'"),
        ({"order": "max."}, "order='max.'"),
        ({"label": "team"}, "label='team'"),
        ({"since": "yesterday"}, "since='yesterday'"),
        ({"since": True}, "since=True"),
        ({"foo": 3}, r"runs\(\) has no option 'foo' \(value 3\): Allowed: before, label"),
        ({"sate": "failed"}, r"runs\(\) has no option 'sate' \(value 'failed'\): did you mean 'state'"),
        ({"project": 3}, r"runs\(project=3\): a text"),
        ({"order": 3}, r"runs\(order=3\): a text"),
        ({"state": 3}, r"runs\(state=3\): Allowed: cancelled"),
        ({"label": {1: "a"}}, r"runs\(label=\{1: 'a'\}\)"),
        ({"before": 3}, r"runs\(before=3\): a run"),
        ({"parent": "3f2a"}, r"runs\(parent='3f2a'\): a run is allowed, as mlfn\.run\(id\)"),
    ],
)
def test_a_listing_refuses_what_it_does_not_know(wrong: Any, says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        mlfn.runs(**wrong)


def test_an_empty_listing_of_an_unknown_project_names_those_there_are() -> None:
    assert repr(mlfn.runs(project="nope")) == "0 runs: no project is called 'nope', and none has a run yet."
    for project in ("apples", "fraud", "zebra"):
        double.with_options(project=project).on("inline").submit(1)

    for order in ("newest", "max.loss"):
        listing = mlfn.runs(project="fruad", order=order)
        assert repr(listing) == (
            "0 runs: no project is called 'fruad': did you mean 'fraud'? There are: fraud, apples, zebra."
        )
        assert "There are: fraud, apples, zebra." in notebook.runs_html(listing)
    assert mlfn.runs(project="nope").note == "no project is called 'nope'. There are: apples, fraud, zebra."
    assert repr(mlfn.runs(project="fraud", name="other")) == repr(mlfn.runs(name="other")) == "0 runs"
    assert mlfn.runs(project="fraud").note == ""


def test_the_options_of_a_listing_are_those_of_its_signature() -> None:
    named = [p.name for p in inspect.signature(mlfn.runs).parameters.values() if p.kind is p.KEYWORD_ONLY]

    with pytest.raises(ParameterError, match=f"Allowed: {', '.join(sorted(named))}"):
        mlfn.runs(foo=1)  # type: ignore[arg-type]


# -- waiting for several -----------------------------------------------------------------------------------------------


def test_wait_tells_done_from_not_done(gate: Path) -> None:
    quick, slow = double.submit(1), wait_for.submit(str(gate))
    quick.result(timeout=60)

    assert mlfn.wait([slow, quick], timeout=0.05) == ([quick], [slow])
    gate.touch()
    assert mlfn.wait([slow, quick]) == ([slow, quick], [])
    assert mlfn.wait([]) == ([], [])


@pytest.mark.parametrize("call", [mlfn.wait, mlfn.as_completed])
def test_what_is_no_list_of_runs_is_not_waited_for(call: Any) -> None:
    run = double.on("inline").submit(1)
    name = call.__name__

    for wrong, says in [
        (run, rf"{name}\(<mlfn.Run {run.id[:8]} .*\): several runs are allowed, as in mlfn.{name}\(\[run\]\)"),
        ([run, 3], rf"{name}\(\.\.\.\) got 3 at 1: a run is allowed"),
        ([run.id], rf"{name}\(\.\.\.\) got '{run.id}' at 0: .*mlfn\.run\('{run.id}'\)"),
        (run.id, rf"{name}\('{run.id}'\): a list of runs"),
        (3, rf"{name}\(3\): a list of runs"),
    ]:
        with pytest.raises(ParameterError, match=says):
            call(wrong)
    with pytest.raises(ParameterError, match=rf"{name}\(timeout='a'\): a number of seconds"):
        call([run], timeout="a")


@pytest.mark.parametrize("call", ["wait", "result", "exception"])
def test_a_timeout_that_is_no_number_is_refused_whether_it_is_needed_or_not(call: str) -> None:
    run = double.on("inline").submit(1)

    for wrong in ("a", True, float("nan"), [1]):
        with pytest.raises(ParameterError, match=rf"{call}\(timeout={re.escape(repr(wrong))}\): a number of seconds"):
            getattr(run, call)(wrong)
    assert run.result(float("inf")) == run.result(np.int64(1)) == run.result(-1) == 2


def test_a_wait_without_end_may_be_an_infinite_one(gate: Path) -> None:
    run = wait_for.submit(str(gate))
    gate.touch()

    assert run.wait(float("inf")) and run.state == "succeeded"


def test_as_completed_yields_in_the_order_of_ending(gate: Path) -> None:
    slow, quick = wait_for.submit(str(gate)), double.submit(1)

    seen = []
    for run in mlfn.as_completed([slow, quick, quick]):
        seen.append(run)
        gate.touch()

    assert seen == [quick, slow]


def test_as_completed_gives_up_by_name(gate: Path) -> None:
    slow = wait_for.submit(str(gate))

    with pytest.raises(ResultTimeoutError, match=r"1 run had not ended after 0.1 s, .*wait_for"):
        list(mlfn.as_completed([slow], timeout=0.1))
    gate.touch()
    assert slow.result(timeout=60)


def test_many_threads_submit_at_once() -> None:
    def one(x: int) -> int:
        return double.submit(x).result(timeout=60)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(40))) == [2 * x for x in range(40)]
    assert len(mlfn.runs()) == 40


def test_a_users_class_travels_both_ways(user_modules: Callable[..., Any]) -> None:
    module = user_modules(
        "shapes",
        """
        import mlfn
        from dataclasses import dataclass

        @dataclass
        class Point:
            x: int

        @mlfn.function
        def moved(point: Point) -> Point:
            return Point(point.x + 1)
        """,
    )

    got = module.moved.submit(module.Point(1)).result(timeout=60)

    assert got == module.Point(2) and type(got) is module.Point
