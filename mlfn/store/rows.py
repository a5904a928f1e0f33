"""What a row must be like to become a record: which types, which JSON; and what is said of one that is not.

A row that cannot be read hurts whoever asks for that very run. Whoever asks for many passes over it, with a word in the
log.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlfn.errors import StoreCorruptError
from mlfn.spec.record import RemoteFailure

logger = logging.getLogger(__name__)
_MOST_TOLD = 20  # rows of which one process speaks
_SHOWN = 40  # characters of a value
_EARLIEST, _LATEST = -6e10, 2.5e11  # seconds since the epoch of which a calendar knows the day: years 69 to 9892
_decode = json.JSONDecoder().decode  # as `json.loads`, without looking for what a column cannot hold
_told: set[str] = set()

TEXT = frozenset({str})
WHOLE = frozenset({int})
NUMBER = frozenset({int, float})
NO = frozenset({type(None)})
_NAMES = {str: "text", int: "a whole number", float: "a number", type(None): "NULL"}


@dataclass(frozen=True)
class Fault:
    """A row that cannot be read: of which table and run, and what is wrong in which column."""

    table: str
    run: str
    column: str
    why: str
    item: str = ""
    """Which of a run's rows in that table it is, in words."""

    def error(self) -> StoreCorruptError:
        """Return it as an exception."""
        return StoreCorruptError(str(self))

    def __str__(self) -> str:
        row = f"The {self.item}" if self.item else "The row"
        return (
            f"{row} of run {self.run!r} cannot be read ({self.table}.{self.column}: {self.why}); restore the store from a "
            f"copy, or remove that run and its files: mlfn gc --broken {self.run}"
        )


class Shape:
    """Which types the columns of a row may have."""

    def __init__(self, table: str, /, **columns: frozenset[type]) -> None:
        self.table = table
        self.columns = tuple(columns)
        self._allowed = tuple(columns.values())
        self._good: set[tuple[type, ...]] = set()  # combinations that were looked at and fit: there are few

    def misfit(self, row: Sequence[Any]) -> tuple[str, str] | None:
        """Return the first column whose value does not fit, and why."""
        kinds = tuple(map(type, row))
        if kinds in self._good:
            return None
        for name, allowed, value in zip(self.columns, self._allowed, row, strict=True):
            if type(value) not in allowed:
                wanted = " or ".join(sorted(_NAMES[kind] for kind in allowed if not (kind is int and float in allowed)))
                return name, f"{shown(value)} is not {wanted}"
        self._good.add(kinds)
        return None


RUN = Shape(
    "runs",
    seq=WHOLE, id=TEXT, name=TEXT, project=TEXT, function=TEXT, plan=TEXT, place=TEXT, state=TEXT, reason=TEXT | NO,
    attempt=WHOLE, owner=TEXT | NO, worker=TEXT | NO, params=TEXT, created=NUMBER, started=NUMBER | NO, ended=NUMBER | NO,
    not_before=NUMBER | NO, cancel_requested=WHOLE, failure=TEXT | NO, returns=TEXT | NO, progress=TEXT | NO, labels=TEXT,
    parent=TEXT | NO, sweep=WHOLE, iteration=WHOLE, point=TEXT | NO, reused=TEXT | NO, part_of=TEXT | NO,
)  # fmt: skip
CHILD = Shape(
    "runs",
    id=TEXT, iteration=WHOLE, state=TEXT, reason=TEXT | NO, attempt=WHOLE, owner=TEXT | NO, point=TEXT | NO,
    started=NUMBER | NO, ended=NUMBER | NO, failure=TEXT | NO, reused=TEXT | NO,
)  # fmt: skip
OUTPUT = Shape(
    "outputs",
    key=TEXT, role=TEXT, packer=TEXT, type=TEXT, inline=TEXT | NO, path=TEXT | NO, sha256=TEXT | NO, size=WHOLE,
)  # fmt: skip
ATTEMPT = Shape(
    "attempts",
    run=TEXT, attempt=WHOLE, worker=TEXT | NO, started=NUMBER | NO, ended=NUMBER | NO, state=TEXT, reason=TEXT | NO,
    log=TEXT | NO, failure=TEXT | NO,
)  # fmt: skip
EVENT = Shape("events", time=NUMBER, attempt=WHOLE, what=TEXT, detail=TEXT | NO)
POINT = Shape("metrics", step=WHOLE | NO, value=NUMBER | NO, time=NUMBER)
SCORE = Shape("scores", name=TEXT, value=NUMBER)
CLIENT = Shape("clients", id=TEXT, host=TEXT, pid=WHOLE, started=TEXT, beat=NUMBER)
WORKER = Shape("workers", id=TEXT, client=TEXT, host=TEXT, pid=WHOLE, started=TEXT, folder=TEXT, consumed=WHOLE)


def pass_over(what: Fault | StoreCorruptError) -> None:
    """Say of a row that it is left out; of each once in a process."""
    text = str(what)
    if text in _told or len(_told) > _MOST_TOLD:
        return
    _told.add(text)
    if len(_told) > _MOST_TOLD:
        logger.warning("more rows than %d cannot be read and are left out; `mlfn doctor` counts them", _MOST_TOLD)
    else:
        logger.warning("left out: %s", text)


def first_fault(table: str, run: object, readers: Iterable[tuple[str, Callable[[Any], Any], Any]]) -> Fault:
    """Return the fault of a row of which one column, as (name, how it is read, value), cannot be read."""
    for column, read, value in readers:
        try:
            read(value)
        except (ValueError, TypeError, RecursionError) as error:
            return Fault(table, str(run), column, str(error))
    raise AssertionError(f"nothing is wrong in {table} of {run!r}")


def shown(value: object) -> str:
    """Return a value as a message shows it."""
    text = repr(value)
    return "NULL" if value is None else text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def loaded(text: str) -> Any:
    """Return what a JSON text means; raise ValueError where it is none."""
    try:
        return _decode(text)
    except RecursionError:
        raise ValueError(f"{shown(text)} is nested too deeply") from None


def mapping(text: str) -> dict[str, Any]:
    """Return a JSON object; raise ValueError where it is none."""
    value = loaded(text)
    if type(value) is not dict:
        raise ValueError(f"{shown(text)} is not a JSON object")
    return value


def maybe_mapping(text: str | None) -> dict[str, Any] | None:
    """Return the same, or None for a column that is not set."""
    return mapping(text) if text else None


def params_of(text: str) -> dict[str, Any]:
    """Return parameters: names and how their values are stored."""
    found = mapping(text)
    for name, value in found.items():
        if type(value) is not dict or not ("packer" in value or "input" in value or _is_reference(value)):
            raise ValueError(f"{name!r} is {shown(value)}, which is not a stored value")
    return found


def _is_reference(value: Mapping[str, Any]) -> bool:
    output = value.get("output")
    return isinstance(output, dict) and isinstance(output.get("run"), str) and isinstance(output.get("key"), str)


def returns_of(text: str | None) -> dict[str, Any] | None:
    """Return what a run returned, by the keys of its outputs."""
    found = maybe_mapping(text)
    if found is not None and not isinstance(found.get("keys"), list):
        raise ValueError(f"{shown(text)} does not name outputs")
    return found


def labels_of(text: str) -> dict[str, str]:
    """Return labels: texts by names."""
    if text == "{}":
        return {}
    found = mapping(text)
    if not all(type(value) is str for value in found.values()):
        raise ValueError(f"{shown(text)} has a value that is not text")
    return found


def failure_of(text: str | None) -> RemoteFailure | None:
    """Return what a run failed with."""
    if not text:
        return None
    failure = RemoteFailure.from_json(mapping(text))
    texts = (failure.type, failure.message, failure.traceback, failure.pickle or "", *failure.bases)
    codes = (failure.exit_code or 0, failure.signal or 0)
    if not all(isinstance(item, str) for item in texts) or not all(isinstance(code, int) for code in codes):
        raise ValueError(f"{shown(text)} does not describe a failure")
    return failure


def check_moments(created: float, started: float | None, ended: float | None) -> None:
    """Raise ValueError where no calendar has one of these times."""
    if not (
        _EARLIEST < created < _LATEST
        and (started is None or _EARLIEST < started < _LATEST)
        and (ended is None or _EARLIEST < ended < _LATEST)
    ):
        raise ValueError("not a time")


def moment(value: float | None) -> float | None:
    """Return a time; raise ValueError where no calendar has it."""
    if value is not None and not _EARLIEST < value < _LATEST:
        raise ValueError(f"{shown(value)} is not a time")
    return value
