"""Cases that a pair does not pass yet, or never will: they are run, and must fail."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mlfn.errors import nearest
from mlfn.testing.kind_place.cases import CASES

logger = logging.getLogger(__name__)
Method = Callable[[Any], None]
_PATIENCE = 5.0  # seconds: a case that must fail by waiting in vain is not to wait as long as one that must not


@dataclass(frozen=True)
class Mark:
    """Why a case is expected to fail: one of three words, and a reason in a sentence."""

    word: str
    reason: str

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise ValueError(f"{self.word}({self.reason!r}): a reason in one sentence is needed.")


def notimpl(reason: str) -> Mark:
    """Mark a case that mlfn has not built yet."""
    return Mark("notimpl", reason)


def notyet(reason: str) -> Mark:
    """Mark a case that the engine cannot do yet."""
    return Mark("notyet", reason)


def never(reason: str) -> Mark:
    """Mark a case that cannot hold, by the nature of the kind or place."""
    return Mark("never", reason)


class CannotBeAttemptedError(Exception):
    """Raised by a case that has nothing to try here: a failure, unless the pair marks the case."""


def check_marks(expected: Mapping[str, Mark], *, where: str) -> None:
    """Raise TypeError for an unknown case, or for what is no mark."""
    for case, mark in expected.items():
        if case not in CASES:
            raise TypeError(f"{where} marks {case!r}, which is no case: {nearest(case, CASES)}")
        if not isinstance(mark, Mark):
            raise TypeError(f"{where} marks {case!r} as {mark!r}: notimpl(...), notyet(...) or never(...) is allowed.")


def apply_marks(cls: type, expected: Mapping[str, Mark]) -> None:
    """Replace the methods of marked cases in `cls`, and put back those that only a base class marks."""
    for name in dir(cls):
        case = name.removeprefix("test_")
        if case == name or case not in CASES:
            continue
        method = getattr(cls, name)
        original = getattr(method, "unmarked", method)
        wanted = _must_fail(original, case, expected[case]) if case in expected else original
        if wanted is not method:
            setattr(cls, name, wanted)


def _must_fail(method: Method, case: str, mark: Mark) -> Method:
    @functools.wraps(method)
    def marked(self: Any) -> None:
        self.patience = min(self.patience, _PATIENCE)
        try:
            method(self)
        except Exception as error:  # noqa: BLE001 - however it fails, that is what the mark says
            logger.info("%s failed, as %s says: %r", case, mark.word, error)
            return
        raise AssertionError(f"{case!r} passed: take its mark away ({mark.word}: {mark.reason})")

    marked.unmarked = method  # type: ignore[attr-defined]
    return marked
