"""How a run ended, in words, where it is not its own exception that is raised."""

from __future__ import annotations

import sys
from typing import Any

import pytest

import mlfn
from mlfn.dispatch.retry_policy import seconds_before_retry
from mlfn.errors import RebuildError, RemoteError, RunPrunedError, WorkerDiedError
from mlfn.spec.record import Outcome, Reason, RunState


@mlfn.function
def end(how: str) -> None:
    if how == "words":
        sys.exit("no data in /x")
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "generator":
        raise GeneratorExit
    raise mlfn.Pruned("enough")


@pytest.mark.parametrize(
    ("how", "kind", "says"),
    [
        ("words", WorkerDiedError, "ended with exit code 1: it called sys.exit('no data in /x')."),
        ("interrupt", RemoteError, "ended with KeyboardInterrupt: its code raised it, or something sent SIGINT to it"),
        ("generator", RemoteError, "ended with GeneratorExit, which has no text."),
        ("pruned", RunPrunedError, "raised mlfn.Pruned itself, and belongs to no sweep"),
    ],
)
def test_an_end_that_is_no_exception_of_the_users_is_a_sentence(how: str, kind: type[Exception], says: str) -> None:
    error = end.on("local").submit(how).exception(timeout=60)

    assert type(error) is kind and says in str(error)


class Closed:
    """Goes into a payload, and does not come out again."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


def test_a_function_that_cannot_be_rebuilt_has_a_reason_of_its_own() -> None:
    closed = Closed()

    @mlfn.function(retry=3)
    def use() -> object:
        return closed

    run = use.on("local").submit()

    error = run.exception(timeout=60)
    assert isinstance(error, RebuildError) and "use' could not be rebuilt here (ValueError" in str(error)
    assert (run.record.reason, len(run.attempts)) == ("code", 1)


def test_code_that_cannot_be_rebuilt_is_not_tried_again() -> None:
    outcome = Outcome(RunState.FAILED, Reason.CODE)

    assert seconds_before_retry(outcome, mlfn.Retry(3), used=0, free=0) is None


@mlfn.function
def without_package() -> None:
    import no_such_package  # type: ignore[import-not-found]  # noqa: F401


def test_a_package_that_is_not_there_is_named_with_what_to_do_where_that_differs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'no_such_package'$"):
        without_package.on("inline").submit().result()

    monkeypatch.setattr("mlfn.worker.failures.missing_package", "name it in requirements=")
    with pytest.raises(
        ModuleNotFoundError, match=r"^No module named 'no_such_package': name it in requirements=$"
    ) as told:
        without_package.on("inline").submit().result()
    assert told.value.name == "no_such_package"
