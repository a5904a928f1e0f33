"""Rows that cannot be read: what is wrong with them, and the warning about those that are left out.

A caller that asks for one run gets an error if its row cannot be read. A caller that asks for many gets the others, and
the log has a warning.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import field
from typing import Any, TypeVar

from mlfn.errors import StoreCorruptError
from mlfn.host.frozen import frozen

T = TypeVar("T")
logger = logging.getLogger(__name__)
_MOST_WARNINGS = 20  # in one process
_RUN_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
_warned: set[str] = set()


@frozen
class Fault:
    """Why a row cannot be read: its table and run, the column, and what is wrong there."""

    table: str
    run: str
    column: str
    why: str
    item: str = ""
    """Which of the run's rows in that table it is, in words."""

    def error(self) -> StoreCorruptError:
        """Return it as an exception."""
        return StoreCorruptError(str(self))

    def __str__(self) -> str:
        row = f"The {self.item}" if self.item else "The row"
        return (
            f"{row} of run {self.run!r} cannot be read ({self.table}.{self.column}: {self.why}); restore the store from a "
            f"copy, or remove that run and its files: mlfn gc --broken {self.run}"
        )


@frozen
class Unreadable:
    """A run whose row cannot be read, with the row as it is stored."""

    fault: Fault
    row: tuple[Any, ...] = field(repr=False)

    @property
    def id(self) -> str:
        """The run's id."""
        return self.fault.run

    def mentioned(self) -> set[str]:
        """Return the ids of other runs that occur anywhere in the row."""
        return {run for value in self.row for run in ids_in(str(value))} - {self.id}


def ids_in(text: str) -> set[str]:
    """Return what stands in a text and may be the id of a run."""
    return set(_RUN_ID.findall(text))


@frozen
class Survey:
    """The result of a check of a store."""

    runs: int
    """How many runs were checked: the newest, and all that are not over."""
    whole: int
    """How many of them were checked with their outputs, metrics, attempts and events."""
    faults: tuple[Fault, ...]


def warn_skipped(what: Fault | StoreCorruptError) -> None:
    """Warn that a row is left out, once per process for each row and for 20 rows at most."""
    text = str(what)
    if text in _warned or len(_warned) > _MOST_WARNINGS:
        return
    _warned.add(text)
    if len(_warned) > _MOST_WARNINGS:
        logger.warning("more rows than %d cannot be read and are left out; `mlfn doctor` counts them", _MOST_WARNINGS)
    else:
        logger.warning("left out: %s", text)


def checked(made: T | Fault) -> T:
    """Return what a row was made into; raise StoreCorruptError for one that cannot be read."""
    if isinstance(made, Fault):
        raise made.error()
    return made


def readable(made: Iterable[T | Fault]) -> list[T]:
    """Return what rows were made into, without those that cannot be read, of which the log has a warning."""
    found: list[T] = []
    for one in made:
        if isinstance(one, Fault):
            warn_skipped(one)
        else:
            found.append(one)
    return found
