"""Which types and which JSON a row must have to become a record."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlfn.spec.record import RemoteFailure
from mlfn.store.rows import Fault

_SHOWN = 40  # characters of a value
_EARLIEST, _LATEST = -6e10, 2.5e11  # seconds since the epoch that a calendar can show: years 69 to 9892
_decode = json.JSONDecoder().decode  # `json.loads` without its detection of the encoding

TEXT = frozenset({str})
INTEGER = frozenset({int})
NUMBER = frozenset({int, float})
NULL = frozenset({type(None)})
_NAMES = {str: "text", int: "a whole number", float: "a number", type(None): "NULL"}


class Shape:
    """The types that the columns of a row may have."""

    def __init__(self, table: str, /, **columns: frozenset[type]) -> None:
        self.table = table
        self.allowed = columns
        self.columns = tuple(columns)
        self._fitting: set[tuple[type, ...]] = set()  # the few combinations that have been checked and fit

    def misfit(self, row: Sequence[Any]) -> tuple[str, str] | None:
        """Return the first column whose value does not fit, and why; None if all fit."""
        kinds = tuple(map(type, row))
        if kinds in self._fitting:
            return None
        for name, allowed, value in zip(self.columns, self.allowed.values(), row, strict=True):
            if type(value) not in allowed:
                wanted = " or ".join(sorted(_NAMES[kind] for kind in allowed if not (kind is int and float in allowed)))
                return name, f"{excerpt(value)} is not {wanted}"
        self._fitting.add(kinds)
        return None


RUN = Shape(
    "runs",
    seq=INTEGER, id=TEXT, name=TEXT, project=TEXT, function=TEXT, plan=TEXT, place=TEXT, state=TEXT, reason=TEXT | NULL,
    attempt=INTEGER, owner=TEXT | NULL, execution=TEXT | NULL, unit=INTEGER | NULL, queued=INTEGER, status=TEXT | NULL,
    acknowledged=INTEGER, params=TEXT, created=NUMBER, started=NUMBER | NULL,
    ended=NUMBER | NULL, not_before=NUMBER | NULL, cancel_requested=INTEGER, failure=TEXT | NULL, returns=TEXT | NULL,
    progress=TEXT | NULL, labels=TEXT, parent=TEXT | NULL, sweep=INTEGER, iteration=INTEGER, point=TEXT | NULL, reused=TEXT | NULL,
    part_of=TEXT | NULL,
)  # fmt: skip
CHILD = Shape(
    "runs",
    id=TEXT, iteration=INTEGER, state=TEXT, reason=TEXT | NULL, attempt=INTEGER, owner=TEXT | NULL, point=TEXT | NULL,
    started=NUMBER | NULL, ended=NUMBER | NULL, failure=TEXT | NULL, reused=TEXT | NULL, queued=INTEGER,
)  # fmt: skip
OUTPUT = Shape(
    "outputs",
    key=TEXT, role=TEXT, packer=TEXT, type=TEXT, inline=TEXT | NULL, path=TEXT | NULL, sha256=TEXT | NULL, size=INTEGER,
)  # fmt: skip
ATTEMPT = Shape(
    "attempts",
    attempt=INTEGER, claimed=NUMBER | NULL, execution=TEXT | NULL, started=NUMBER | NULL, ended=NUMBER | NULL,
    state=TEXT, reason=TEXT | NULL, log=TEXT | NULL, failure=TEXT | NULL, unit=INTEGER | NULL,
)  # fmt: skip
LAST_ATTEMPT = Shape(
    "runs",
    attempt=INTEGER, execution=TEXT | NULL, claimed=NUMBER | NULL, begun=NUMBER | NULL, ended=NUMBER | NULL,
    state=TEXT, reason=TEXT | NULL, failure=TEXT | NULL, unit=INTEGER | NULL, queued=INTEGER, created=NUMBER,
    reused=TEXT | NULL,
)  # fmt: skip
EVENT = Shape("events", time=NUMBER, what=TEXT, detail=TEXT | NULL)
POINT = Shape("metrics", step=INTEGER | NULL, value=NUMBER | NULL, time=NUMBER)
SCORE = Shape("scores", name=TEXT, value=NUMBER)
CLIENT = Shape("clients", id=TEXT, host=TEXT, pid=INTEGER, started=TEXT, beat=NUMBER)
EXECUTION = Shape(
    "executions",
    id=TEXT, client=TEXT, place=TEXT, target=TEXT, handle=TEXT, cursor=TEXT | NULL, units=INTEGER,
)  # fmt: skip


def parse_row(
    shape: Shape, row: Sequence[Any], run: object, parsers: Mapping[str, Callable[[Any], Any]]
) -> dict[str, Any] | Fault:
    """Return the values of a row by column, those with a parser parsed; or why the row of that run cannot be read."""
    misfit = shape.misfit(row)
    if misfit is not None:
        return Fault(shape.table, str(run), *misfit)
    values = dict(zip(shape.columns, row, strict=True))
    for column, parse in parsers.items():
        try:
            values[column] = parse(values[column])
        except (ValueError, TypeError) as error:
            return Fault(shape.table, str(run), column, str(error))
    return values


def excerpt(value: object) -> str:
    """Return a value as messages show it."""
    text = repr(value)
    return "NULL" if value is None else text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def parse_json(text: str) -> Any:
    """Return a JSON value; raise ValueError where it is none."""
    try:
        return _decode(text)
    except RecursionError:
        raise ValueError(f"{excerpt(text)} is nested too deeply") from None


def parse_json_or_none(text: str | None) -> Any:
    """Return the same, or None for an empty column."""
    return None if text is None else parse_json(text)


def parse_object(text: str) -> dict[str, Any]:
    """Return a JSON object; raise ValueError where it is none."""
    value = parse_json(text)
    if type(value) is not dict:
        raise ValueError(f"{excerpt(text)} is not a JSON object")
    return value


def parse_object_or_none(text: str | None) -> dict[str, Any] | None:
    """Return the same, or None for an empty column."""
    return parse_object(text) if text else None


def parse_params(text: str) -> dict[str, Any]:
    """Return parameters as stored values by name."""
    found = parse_object(text)
    for name, value in found.items():
        if type(value) is not dict or not ("packer" in value or "input" in value or _is_reference(value)):
            raise ValueError(f"{name!r} is {excerpt(value)}, which is not a stored value")
    return found


def _is_reference(value: Mapping[str, Any]) -> bool:
    output = value.get("output")
    return isinstance(output, dict) and isinstance(output.get("run"), str) and isinstance(output.get("key"), str)


def parse_returns(text: str | None) -> dict[str, Any] | None:
    """Return which outputs a run returned."""
    found = parse_object_or_none(text)
    if found is not None and not isinstance(found.get("keys"), list):
        raise ValueError(f"{excerpt(text)} does not name outputs")
    return found


def parse_labels(text: str) -> dict[str, str]:
    """Return labels, which are texts by name."""
    if text == "{}":
        return {}
    found = parse_object(text)
    if not all(type(value) is str for value in found.values()):
        raise ValueError(f"{excerpt(text)} has a value that is not text")
    return found


def parse_failure(text: str | None) -> RemoteFailure | None:
    """Return the failure of a run."""
    if not text:
        return None
    failure = RemoteFailure.from_json(parse_object(text))
    texts = (failure.type, failure.message, failure.traceback, failure.pickle or "", *failure.bases)
    codes = (failure.exit_code or 0, failure.signal or 0)
    if not all(isinstance(item, str) for item in texts) or not all(isinstance(code, int) for code in codes):
        raise ValueError(f"{excerpt(text)} does not describe a failure")
    return failure


def parse_time(value: float | None) -> float | None:
    """Return a time; raise ValueError where a calendar cannot show it."""
    if value is not None and not _EARLIEST < value < _LATEST:
        raise ValueError(f"{excerpt(value)} is not a time")
    return value
