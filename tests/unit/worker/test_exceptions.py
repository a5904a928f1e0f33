"""Exceptions come back whole: groups with their members, what a builtin base knows, causes and notes."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

import mlfn

PLACES = ["inline", "local"]

MODULE = """
    import sys

    import mlfn

    class Two(Exception):
        def __init__(self, code, text):
            super().__init__(f"{code}: {text}")
            self.code = code

    class Again(Exception):
        def __init__(self, text, ending="!"):
            super().__init__(text + ending)

    class NoRoom(OSError):
        def __init__(self, path, wanted, free=0):
            super().__init__(28, f"no room for {wanted}", path)
            self.wanted = wanted

    class Named(Exception):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def __reduce__(self):
            return Named, (self.name,)

    class Slotted(Exception):
        __slots__ = ("code",)

        def __init__(self, code):
            self.code = code

    class Holding(Exception):
        def __init__(self, known, generator):
            super().__init__("held", generator)
            self.known, self.generator = known, generator

    if sys.version_info >= (3, 11):
        class Several(ExceptionGroup):
            def __new__(cls, members):
                return super().__new__(cls, "several", members)

            def derive(self, members):
                return Several(members)

    @mlfn.function
    def fail(what):
        if what == "two":
            raise Two(7, "bad")
        if what == "again":
            raise Again("once")
        if what == "os":
            raise NoRoom("/full", 12)
        if what == "named":
            raise Named("it")
        if what == "group":
            inner = ExceptionGroup("inner", [NoRoom("/full", 12)])
            raise ExceptionGroup("outer", [Two(7, "bad"), inner, ValueError("plain")])
        if what == "own group":
            raise Several([Two(7, "bad")])
        if what == "cause":
            try:
                raise Two(1, "first")
            except Two as first:
                raise ValueError("second") from first
        if what == "cycle":
            error = ValueError("round")
            error.__cause__ = KeyError("a")
            error.__cause__.__cause__ = error
            error.itself = error
            raise error
        if what == "slots":
            raise Slotted(3)
        if what == "missing module":
            import not_there
        if what == "missing attribute":
            what.not_there
        if what == "held":
            raise Holding({"a": 1}, (x for x in ()))
        if what == "cause that does not travel":
            cause = ValueError("held")
            cause.generator = (x for x in ())
            raise Two(2, "kept") from cause
"""


@pytest.fixture
def failed(user_modules: Callable[..., ModuleType]) -> Callable[[str, str], Any]:
    module = user_modules("failing", MODULE)
    return lambda place, what: module.fail.on(place).submit(what).exception(timeout=60)


@pytest.mark.parametrize("place", PLACES)
def test_an_own_init_runs_once_and_its_work_arrives(place: str, failed: Callable[[str, str], Any]) -> None:
    two, again = failed(place, "two"), failed(place, "again")

    assert (type(two).__name__, str(two), two.code, two.args) == ("Two", "7: bad", 7, ("7: bad",))
    assert str(again) == "once!"


@pytest.mark.parametrize("place", PLACES)
def test_a_subclass_of_os_error_keeps_what_that_knows(place: str, failed: Callable[[str, str], Any]) -> None:
    error = failed(place, "os")

    assert (error.errno, error.strerror, error.filename) == (errno.ENOSPC, "no room for 12", "/full")
    assert str(error) == "[Errno 28] no room for 12: '/full'"
    assert error.wanted == 12


@pytest.mark.parametrize("place", PLACES)
def test_a_reduce_of_its_own_is_used(place: str, failed: Callable[[str, str], Any]) -> None:
    assert failed(place, "named").name == "it"


@pytest.mark.parametrize("place", PLACES)
def test_a_group_comes_back_with_its_members(place: str, failed: Callable[[str, str], Any]) -> None:
    group, own = failed(place, "group"), failed(place, "own group")

    if sys.version_info >= (3, 11):
        two, inner, plain = group.exceptions
        assert (two.code, inner.exceptions[0].errno, str(plain)) == (7, errno.ENOSPC, "plain")
        assert group.subgroup(OSError).exceptions[0].exceptions[0].wanted == 12  # as `except*` does
        assert (type(own).__name__, str(own.exceptions[0])) == ("Several", "7: bad")
    else:
        assert isinstance(group, NameError) and isinstance(own, NameError)


@pytest.mark.parametrize("place", PLACES)
def test_what_is_in_no_dict_comes_back(place: str, failed: Callable[[str, str], Any]) -> None:
    assert failed(place, "slots").code == 3
    assert failed(place, "missing module").name == "not_there"
    assert failed(place, "missing attribute").name == "not_there"


@pytest.mark.parametrize("place", PLACES)
def test_what_an_exception_holds_may_stay_behind(place: str, failed: Callable[[str, str], Any]) -> None:
    error = failed(place, "held")

    assert (type(error).__name__, error.known, error.args[0]) == ("Holding", {"a": 1}, "held")
    assert place == "inline" or "<generator object" in error.args[1]
    assert place == "inline" or not hasattr(error, "generator")


@pytest.mark.parametrize("place", PLACES)
def test_a_cause_stays_the_cause(place: str, failed: Callable[[str, str], Any]) -> None:
    error = failed(place, "cause")

    assert type(error) is ValueError
    assert error.__cause__.code == 1
    assert "in fail" in str(error.__cause__.__cause__)  # the traceback of the run, below what its code has linked


@pytest.mark.parametrize("place", PLACES)
def test_links_in_a_circle_end(place: str, failed: Callable[[str, str], Any]) -> None:
    error = failed(place, "cycle")

    assert type(error) is ValueError and type(error.__cause__) is KeyError


@pytest.mark.parametrize("place", PLACES)
def test_a_cause_that_does_not_travel_stays_behind(place: str, failed: Callable[[str, str], Any]) -> None:
    error = failed(place, "cause that does not travel")

    assert (type(error).__name__, error.code) == ("Two", 2)
    assert "ValueError: held" in str(error.__cause__)


def test_a_secret_within_a_group_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cr3t-value")

    @mlfn.function(secrets=["TOKEN"])
    def leak(ctx: mlfn.Context) -> None:
        raise OSError(5, "refused", "/api/" + ctx.secret("TOKEN"))

    error = leak.submit().exception(timeout=60)

    assert isinstance(error, OSError) and (error.errno, error.filename) == (5, "/api/***")
