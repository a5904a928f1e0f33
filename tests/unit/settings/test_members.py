"""Members of installed packages are found by entry point, and only when they are asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlfn.errors import MlfnError, UnknownNameError
from mlfn.settings import members
from tests.packages import installed

ENTRY_POINTS = """
[mlfn.places]
moon = moon_place.place:Moon
broken = moon_place.missing:Nothing
local = moon_place.place:Moon
[mlfn.kinds]
nice = moon_place.place:Nice
"""


@pytest.fixture(autouse=True)
def moon_place(tmp_path: Path) -> Iterator[None]:
    modules = {"place": "class Moon: pass\nclass Nice: pass\n"}
    with installed(tmp_path, "moon_place", ENTRY_POINTS, modules):
        yield


def test_an_installed_member_is_known_by_its_name():
    assert members.load("place", "moon").__name__ == "Moon"
    assert "nice" in members.targets("kind") and "moon" not in members.targets("kind")


def test_a_name_of_mlfn_cannot_be_taken():
    assert members.load("place", "local").__module__ == "mlfn.backends.places.local.place"


def test_a_member_that_cannot_be_imported_says_where_from():
    with pytest.raises(MlfnError, match=r"place 'broken' of the installed package 'moon_place' cannot be loaded from"):
        members.load("place", "broken")


def test_an_unknown_name_lists_installed_members():
    with pytest.raises(UnknownNameError, match=r"No place is called 'mooon': did you mean 'moon'"):
        members.load("place", "mooon")


def test_a_built_in_member_looks_at_no_package(monkeypatch):
    monkeypatch.setattr(members, "targets", lambda _: pytest.fail("looked at installed packages"))

    assert members.load("kind", "job").__name__ == "Job"


def test_finding_one_member_imports_no_other():
    members.load("kind", "job")

    assert "moon_place.place" not in sys.modules
