"""What comes back from a run and what is seen of it, for each kind at each place; the rest is tests/integration's.

And the suite itself: what a mark does, that each case is there, and that the documentation shows what the marks say.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mlfn.testing import kind_place
from mlfn.testing.kind_place import (
    CHAPTERS,
    CannotBeAttemptedError,
    KindPlaceContract,
    Pair,
    ResultCases,
    WatchingCases,
    never,
    notimpl,
)
from mlfn.testing.kind_place.table import pairs_of, table, with_table
from tests import kind_places
from tests.architecture.source import ROOT
from tests.kind_places import JobInline, JobOnLocal, NuclioOnLocal

PAGE = ROOT / "docs" / "kinds-and-places.md"


class TestResultOfJobOnLocal(JobOnLocal, ResultCases): ...


class TestWatchingJobOnLocal(JobOnLocal, WatchingCases): ...


class TestResultOfJobInline(JobInline, ResultCases): ...


class TestWatchingJobInline(JobInline, WatchingCases): ...


class TestResultOfNuclioOnLocal(NuclioOnLocal, ResultCases): ...


class TestWatchingNuclioOnLocal(NuclioOnLocal, WatchingCases): ...


CASE = "log_of_each_rank"


class OneCase(Pair):
    def test_log_of_each_rank(self) -> None:
        """Do what the subclass says."""


class Failing(OneCase):
    def test_log_of_each_rank(self) -> None:
        raise AssertionError("as ever")


class Unattempted(OneCase):
    def test_log_of_each_rank(self) -> None:
        raise CannotBeAttemptedError("no rank")


def marked(base: type[Pair], expected: Mapping[str, Any], *, on: str = "local") -> Any:
    """Return a subclass with these marks."""
    return type("Marked", (base,), {"EXPECTED": expected, "on": on})


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_each_case_is_a_method_of_its_chapter(chapter: str) -> None:
    cases = getattr(kind_place, f"{chapter}Cases")

    assert [name for name in vars(cases) if name.startswith("test_")] == [f"test_{case}" for case in CHAPTERS[chapter]]
    assert issubclass(KindPlaceContract, cases)


def test_a_marked_case_that_passes_fails() -> None:
    pair = marked(OneCase, {CASE: never("It has one rank.")})

    with pytest.raises(AssertionError, match=r"'log_of_each_rank' passed: take its mark away \(never: It has one rank"):
        pair().test_log_of_each_rank()


@pytest.mark.parametrize("cases", [Failing, Unattempted])
def test_a_marked_case_that_fails_passes(cases: type[OneCase]) -> None:
    pair = marked(cases, {CASE: notimpl("It has one rank.")})

    pair().test_log_of_each_rank()


def test_an_unmarked_case_without_an_attempt_fails() -> None:
    with pytest.raises(CannotBeAttemptedError):
        Unattempted().test_log_of_each_rank()


def test_a_subclass_may_take_a_mark_away() -> None:
    pair = marked(Failing, {CASE: never("It has one rank.")})

    with pytest.raises(AssertionError, match="as ever"):
        marked(pair, {})().test_log_of_each_rank()


def test_marked_cases_wait_less_long() -> None:
    pair = marked(Failing, {CASE: never("It has one rank.")})

    case = pair()
    case.test_log_of_each_rank()

    assert case.patience < Failing.patience


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ({"log_of_every_rank": never("x")}, "'log_of_every_rank', which is no case: did you mean 'log_of_each_rank'"),
        ({CASE: "never"}, "'log_of_each_rank' as 'never': notimpl"),
    ],
)
def test_an_unknown_case_or_mark_is_refused(expected: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        marked(Pair, expected)


def test_a_mark_without_a_reason_is_refused() -> None:
    with pytest.raises(ValueError, match="a reason in one sentence"):
        never(" ")


def test_the_page_shows_what_the_marks_say() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert page == with_table(page, pairs_of(kind_places)), (
        "run `python -m mlfn.testing.kind_place tests.kind_places docs/kinds-and-places.md`"
    )


def test_a_command_writes_the_table(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Mine\n<!-- table -->\nold\n<!-- end of table -->\nmore\n")

    command = [sys.executable, "-m", "mlfn.testing.kind_place", "tests.kind_places", str(page)]
    subprocess.run(command, cwd=ROOT, check=True)

    assert page.read_text().startswith("# Mine\n<!-- table -->\n\n| case | `job` on `local` |")
    assert page.read_text().endswith("\n\n<!-- end of table -->\nmore\n")


def test_equal_reasons_share_one_note() -> None:
    first = marked(Pair, {CASE: never("One rank."), "grid_is_one_object": never("No objects.")})
    second = marked(Pair, {CASE: notimpl("One rank.")}, on="inline")

    lines = table([first, second]).splitlines()

    assert lines[0] == "| case | `job` on `local` | `job` on `inline` |"
    assert "| log_of_each_rank | never (1) | notimpl (1) |" in lines
    assert "| grid_is_one_object | never (2) | ✓ |" in lines
    assert lines[-2:] == ["1. One rank.", "2. No objects."]


def test_a_page_without_table_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="no line '<!-- table -->'"):
        with_table("# Kinds\n", [])
