"""What a handler returns, logs and raises, through the same code inline and in a worker process."""

from __future__ import annotations

import math
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mlfn
from mlfn.errors import OutputError, RemoteError, SecretNotFoundError, WorkerDiedError
from mlfn.spec.call_shape import CallShape
from mlfn.worker.context import Context

PLACES = ["inline", "local"]


@mlfn.function
def same(value: Any) -> Any:
    return value


VALUES: list[Any] = [
    0,
    0.0,
    -0.0,
    False,
    None,
    "",
    b"",
    [],
    (),
    {},
    set(),
    1,
    1.0,
    True,
    2**70,
    math.inf,
    (1, 2),
    (None,),
    [(), [], {}],
    {"a": (1, {2.5: b"x"})},
    "zwölf\n",
    complex(1, -2),
    np.float32(0.5),
    np.int64(0),
    Path("not/there"),
    range(3),
    frozenset({1}),
]


def test_values_come_back_as_themselves_from_everywhere() -> None:
    for place in PLACES:
        runs = [same.on(place).submit(value) for value in VALUES]
        for value, run in zip(VALUES, runs, strict=True):
            got = run.result(timeout=60)
            assert got == value and type(got) is type(value), place
            assert repr(got) == repr(value), place
            assert run.outputs["return"] == value, place
            assert type(run.params["value"]) is type(value), place


def test_nan_comes_back() -> None:
    for place in PLACES:
        assert math.isnan(same.on(place).submit(math.nan).result(timeout=60))


def test_frames_and_arrays_come_back_exactly() -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": pd.to_datetime(["2024-01-01", None])}, index=[5, 7])
    array = np.arange(6, dtype="float32").reshape(2, 3)

    for place in PLACES:
        pd.testing.assert_frame_equal(same.on(place).submit(frame).result(timeout=60), frame)
        back = same.on(place).submit(array).result(timeout=60)
        assert back.dtype == array.dtype and (back == array).all()


# -- named outputs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_outputs_have_the_names_that_the_handler_gives(place: str) -> None:
    @mlfn.function
    @mlfn.handler(outputs=["model", "accuracy"])
    def train(x: int) -> tuple[dict[str, int], float]:
        return {"w": x}, 0.0

    run = train.on(place).submit(3)

    assert run.result(timeout=60) == ({"w": 3}, 0.0)
    assert dict(run.outputs) == {"model": {"w": 3}, "accuracy": 0.0}
    assert len(run.outputs) == 2 and "model" in repr(run.outputs)


@pytest.mark.parametrize("place", PLACES)
def test_one_name_names_the_whole_value(place: str) -> None:
    @mlfn.function
    @mlfn.handler(outputs=["pair"])
    def pair() -> tuple[int, int]:
        return 1, 2

    run = pair.on(place).submit()

    assert run.result(timeout=60) == run.outputs["pair"] == (1, 2)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("value", "says"),
    [
        ((1, 2, 3), "returned 3 values"),
        ((), "returned 0 values"),
        (7, "returned one int"),
        (None, "returned one Nonetype"),
    ],
)
def test_another_count_than_declared_fails_the_run(place: str, value: Any, says: str) -> None:
    @mlfn.function
    @mlfn.handler(outputs=["a", "b"])
    def pair(value: Any) -> Any:
        return value

    with pytest.raises(OutputError, match=f"(?i)pair declares 2 outputs \\(a, b\\) and {says}"):
        pair.on(place).submit(value).result(timeout=60)


@pytest.mark.parametrize("place", PLACES)
def test_a_list_stays_a_list(place: str) -> None:
    @mlfn.function
    @mlfn.handler(outputs=["a", "b"])
    def pair() -> list[int]:
        return [1, 2]

    assert pair.on(place).submit().result(timeout=60) == [1, 2]


@pytest.mark.parametrize("place", PLACES)
def test_an_unpackable_output_is_named(place: str) -> None:
    @mlfn.function
    @mlfn.handler(outputs=["fine", "lock"])
    def make() -> Any:
        return 1, threading.Lock()

    run = make.on(place).submit()

    with pytest.raises(OutputError, match=r"Output 'lock' \(_thread.lock\) cannot be packed"):
        run.result(timeout=60)
    assert run.state == "failed"


@pytest.mark.parametrize("place", PLACES)
def test_a_returned_file_is_copied_and_left_alone(place: str, tmp_path: Path) -> None:
    report = tmp_path / "report.txt"
    report.write_text("fine")

    run = same.on(place).submit("x")
    assert run.artifacts == {}

    @mlfn.function
    @mlfn.handler(outputs=["report"])
    def write(path: Path) -> Path:
        return path

    run = write.on(place).submit(report)

    kept = run.result(timeout=60)
    assert kept != report and kept.read_text() == "fine" and report.read_text() == "fine"
    assert run.outputs.report.path == run.artifacts["report"].path == kept
    assert run.outputs.report.size == 4


def test_numbers_are_scores_whatever_their_type() -> None:
    @mlfn.function
    @mlfn.handler(outputs=["a", "b", "c", "d", "e"])
    def numbers(x: int) -> Any:
        return x, float(x), np.float32(x), np.int64(x), bool(x)

    first, second = numbers.on("inline").submit(1), numbers.on("inline").submit(2)

    for name in "abcd":
        assert list(mlfn.runs(order=f"max.{name}")) == [second, first]
    assert set(mlfn.runs(order="max.e")) == {first, second}  # True is 1


# -- exceptions --------------------------------------------------------------------------------------------------------

USERS_MODULE = """
    import mlfn

    class Refused(Exception):
        def __init__(self, code, text):
            super().__init__(text)
            self.code = code

    class Plain(ValueError):
        pass

    def deeper(code):
        raise Refused(code, "not now")

    @mlfn.function
    def refuse(code):
        deeper(code)

    @mlfn.function
    def chained():
        try:
            {}["missing"]
        except KeyError as error:
            raise Plain("second") from error
"""


@pytest.mark.parametrize("place", PLACES)
def test_the_users_own_exception_type_comes_back(place: str, user_modules: Callable[..., ModuleType]) -> None:
    module = user_modules("pipeline", USERS_MODULE)

    run = module.refuse.on(place).submit(7)

    with pytest.raises(module.Refused, match="not now") as caught:
        run.result(timeout=60)
    assert type(caught.value) is module.Refused
    assert caught.value.code == 7
    assert run.state == "failed" and run.record.reason == "error"


@pytest.mark.parametrize("place", PLACES)
def test_the_traceback_has_the_users_frames_once(place: str, user_modules: Callable[..., ModuleType]) -> None:
    module = user_modules("pipeline", USERS_MODULE)
    run = module.refuse.on(place).submit(7)

    for _ in range(2):  # a second look adds nothing
        error = run.exception(timeout=60)
        shown = "".join(traceback.format_exception(error))
        assert error is not None and error.__cause__ is not None
        assert shown.count("in deeper") == 1 and shown.count("in refuse") == 1
        assert "mlfn/execution.py" not in shown and "user_context.py" not in shown
        assert 'raise Refused(code, "not now")' in shown
    assert "in deeper" in str(run.error) and "mlfn/" not in str(run.error)


@pytest.mark.parametrize("place", PLACES)
def test_an_error_of_mlfn_has_no_traceback(place: str) -> None:
    @mlfn.function
    @mlfn.handler(outputs=["a", "b"])
    def one() -> int:
        return 1

    run = one.on(place).submit()

    error = run.exception(timeout=60)
    assert isinstance(error, OutputError) and error.__cause__ is None
    assert run.error == f"mlfn.errors.OutputError: {error}"


@pytest.mark.parametrize("place", PLACES)
def test_an_error_of_mlfn_keeps_users_frames(place: str) -> None:
    @mlfn.function
    def ask(ctx: mlfn.Context) -> str:
        return ctx.secret("UNNAMED")

    run = ask.on(place).submit()

    assert isinstance(run.exception(timeout=60), SecretNotFoundError)
    assert 'return ctx.secret("UNNAMED")' in str(run.error) and "user_context" not in str(run.error)


@pytest.mark.parametrize("place", PLACES)
def test_a_chain_of_exceptions_is_shown(place: str, user_modules: Callable[..., ModuleType]) -> None:
    module = user_modules("pipeline", USERS_MODULE)

    error = module.chained.on(place).submit().exception(timeout=60)

    assert type(error) is module.Plain
    shown = "".join(traceback.format_exception(error))
    assert "KeyError: 'missing'" in shown and "direct cause" in shown


@pytest.mark.parametrize("place", PLACES)
def test_an_async_handler_fails_with_its_own_frames(place: str) -> None:
    @mlfn.function
    async def fail() -> None:
        raise ValueError("later")

    run = fail.on(place).submit()

    with pytest.raises(ValueError, match="later"):
        run.result(timeout=60)
    assert "in fail" in str(run.error) and "asyncio" not in str(run.error)


@pytest.mark.parametrize("place", PLACES)
def test_an_unpicklable_exception_arrives_as_text(place: str) -> None:
    class Held(Exception):
        def __reduce__(self) -> Any:
            raise TypeError("it does not travel")

    @mlfn.function
    def fail() -> None:
        raise Held("held")

    with pytest.raises(RemoteError, match=r"fail .* ended with .*Held: held") as caught:
        fail.on(place).submit().result(timeout=60)
    assert "in fail" in str(caught.value.__cause__)


@pytest.mark.parametrize("place", PLACES)
def test_sys_exit_is_a_failure_with_its_code(place: str) -> None:
    @mlfn.function
    def leave(code: Any) -> None:
        sys.exit(code)

    for code, shown in ((3, 3), (0, 0), ("gone", 1), (None, 0)):
        run = leave.on(place).submit(code)
        words = (
            r"exit code 0: it called sys.exit\(\), and a run has succeeded only when"
            if shown == 0
            else f"exit code {shown}."
        )
        with pytest.raises(WorkerDiedError, match=words):
            run.result(timeout=60)
        assert run.state == "failed"


def test_a_base_exception_becomes_a_remote_error() -> None:
    @mlfn.function
    def fail() -> None:
        raise KeyboardInterrupt

    with pytest.raises(RemoteError, match="KeyboardInterrupt"):
        fail.on("local").submit().result(timeout=60)


def test_ctrl_c_cancels_an_inline_run_and_propagates() -> None:
    @mlfn.function
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted.on("inline").submit()

    assert [run.state for run in mlfn.runs()] == ["cancelled"]


@pytest.mark.parametrize("place", PLACES)
def test_an_exception_with_broken_text_fails_normally(place: str) -> None:
    @mlfn.function
    def fail() -> None:
        class Broken(Exception):
            def __str__(self) -> str:
                raise RuntimeError

        raise Broken

    run = fail.on(place).submit()

    assert run.wait(60) and run.state == "failed"
    assert "cannot be shown" in run.record.failure.message


@pytest.mark.parametrize("place", PLACES)
def test_a_long_traceback_is_cut_in_its_middle(place: str) -> None:
    @mlfn.function
    def fail() -> None:
        raise ValueError("x" * 500_000)

    run = fail.on(place).submit()

    assert run.wait(60)
    assert len(str(run.error)) < 70_000 and "characters left out" in str(run.error)


NOTES_AND_GROUPS = """
    import mlfn

    class Mine(Exception):
        pass

    @mlfn.function
    def noted():
        error = Mine("first")
        error.add_note("look at the log")
        raise error

    @mlfn.function
    def several():
        raise ExceptionGroup("two went wrong", [Mine("a"), ValueError("b")])
"""


def test_notes_and_exception_groups_come_back(user_modules: Callable[..., ModuleType]) -> None:
    module = user_modules("newer", NOTES_AND_GROUPS)

    noted = module.noted.on("local").submit().exception(timeout=60)
    several = module.several.on("local").submit().exception(timeout=60)

    if sys.version_info >= (3, 11):
        assert noted.__notes__ == ["look at the log"]
        assert [type(error) for error in several.exceptions] == [module.Mine, ValueError]
        assert "look at the log" in str(noted.__cause__) and "ValueError: b" in str(several.__cause__)
    else:
        assert isinstance(noted, AttributeError) and isinstance(several, NameError)


# -- calls -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "params", "args", "kwargs"),
    [
        (CallShape(), {"a": 1}, [], {"a": 1}),
        (CallShape(("a", "b")), {"a": 1, "b": 2, "c": 3}, [1, 2], {"c": 3}),
        (CallShape(("a", "b"), "rest"), {"a": 1, "b": 2, "rest": (3, 4)}, [1, 2, 3, 4], {}),
        (CallShape(("a", "b"), "rest"), {"b": 2}, [], {"b": 2}),
        (CallShape((), None, "more"), {"a": 1, "more": {"b": 2}}, [], {"a": 1, "b": 2}),
        (CallShape((), None, "more"), {"b": 2}, [], {"b": 2}),
    ],
)
def test_parameters_go_by_position_only_where_they_must(
    shape: CallShape, params: dict[str, Any], args: list[Any], kwargs: dict[str, Any]
) -> None:
    assert shape.arguments(params, Context()) == (args, kwargs)
