"""Names of kinds and places become classes in one place."""

from __future__ import annotations

import pytest

import mlfn
from mlfn.backends.registry import capabilities, changed_options, kind_options, place_class
from mlfn.errors import OptionError, UnknownNameError


def test_a_kind_is_a_name_or_its_options() -> None:
    assert kind_options(None) == kind_options("job") == ("job", mlfn.Job())
    assert kind_options(mlfn.Job(fresh=True)) == ("job", mlfn.Job(fresh=True))


def test_only_what_differs_from_the_defaults_is_told() -> None:
    assert changed_options(mlfn.Job()) == {}
    assert changed_options(mlfn.Job(fresh=True)) == {"fresh": True}


def test_a_place_is_known_by_its_name() -> None:
    assert capabilities("inline").in_caller and not capabilities("local").in_caller


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UnknownNameError, match=r"No place is called 'moon': Allowed: inline, kubernetes, local\."):
        place_class("moon")
    with pytest.raises(UnknownNameError, match="No kind is called 'dsk'"):
        kind_options("dsk")
    with pytest.raises(OptionError, match="kind=3 is no kind: a name"):
        kind_options(3)
