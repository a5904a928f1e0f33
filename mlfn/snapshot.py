"""A run at one moment, in words and numbers that may be shown: bounded, and nothing in it was unpickled."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlfn.handle import Run
from mlfn.identity import now
from mlfn.packers import tagged
from mlfn.packers.briefs import left_out
from mlfn.spec.record import Attempt, Output, RunRecord, RunState
from mlfn.store.reading import RunFilter
from mlfn.store.sql import SqlStore

MOST_ITEMS = 24
MOST_BELOW = 24
MOST_SERIES = 8
MOST_POINTS = 120
LOG_LINES = 10
_LOG_BYTES = 16 * 1024
_LINE = 300
_VALUE = 80
_TRACEBACK_LINES = 40
_ABANDONED = "Its client is gone: run.wait() here, or `mlfn wait {}`, carries it on."
_DEEP = 3  # generations of runs below a run
_PARAMS = 120  # characters of all parameters in one line

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)", re.DOTALL)
# What a terminal or a browser would obey rather than show; directions of writing can make a text look like another.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True)
class Item:
    """A parameter or output: `text` is short, `whole` longer where there is more to say."""

    name: str
    text: str
    whole: str = ""
    size: int | None = None  # bytes, where it lies in a file
    is_default: bool = False


@dataclass(frozen=True)
class Series:
    """One metric: how many points, the last value, and some of the values on the way to it."""

    name: str
    count: int
    values: tuple[float, ...]

    @property
    def last(self) -> float:
        """The last value."""
        return self.values[-1] if self.values else math.nan


@dataclass(frozen=True)
class Progress:
    """How far the handler says it is."""

    done: float
    total: float | None
    text: str

    @property
    def fraction(self) -> float | None:
        """0 to 1, where the whole is known."""
        return min(1.0, max(0.0, self.done / self.total)) if self.total else None


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment; `notice` says what could not be read, `advice` what its reader can do."""

    id: str
    name: str
    project: str
    place: str
    state: RunState
    taken: float
    created: float
    started: float | None = None
    ended: float | None = None
    reason: str = ""
    attempt: int = 1
    progress: Progress | None = None
    params: tuple[Item, ...] = ()
    outputs: tuple[Item, ...] = ()
    series: tuple[Series, ...] = ()
    more_series: int = 0
    below: tuple[Below, ...] = ()
    more_below: int = 0
    attempts: tuple[Attempt, ...] = ()
    log: tuple[str, ...] = ()
    log_size: int = 0
    failure: str = ""
    traceback: str = ""
    notice: str = ""
    advice: str = ""

    @property
    def elapsed(self) -> float:
        """Seconds that it has run or, before, has waited."""
        begun = self.started if self.started is not None else self.created
        end = self.ended if self.ended is not None else self.taken
        return max(0.0, end - begun)


@dataclass(frozen=True)
class Below:
    """A run below another: `depth` is 1 for a child, 2 for a child's child; `number` its place among its siblings."""

    depth: int
    number: int | None
    run: Snapshot
    scores: tuple[tuple[str, float], ...]


def look(run: Run[Any]) -> Snapshot:
    """Return what the store says about a run; where it cannot be read, what is known here. Never raises."""
    try:
        record = run.record
    except Exception as error:  # noqa: BLE001 - a store can be gone in any way; a repr still shows what it has
        return _with_notice(from_record(run._record), error)
    try:
        return _whole(run, record)
    except Exception as error:  # noqa: BLE001 - as above
        return _with_notice(from_record(record), error)


def look_briefly(run: Run[Any]) -> Snapshot:
    """Return what the row of a run alone says; otherwise as `look`."""
    try:
        return from_record(run._look())  # on a line that vanishes: nobody has asked how it ended
    except Exception as error:  # noqa: BLE001 - as above
        return _with_notice(from_record(run._record), error)


def from_record(record: RunRecord) -> Snapshot:
    """Return what one row says."""
    failure = record.failure
    return Snapshot(
        id=record.id,
        name=clean(record.name),
        project=clean(record.project),
        place=clean(record.place),
        state=record.state,
        taken=now(),
        created=record.created,
        started=record.started,
        ended=record.ended,
        reason=str(record.reason or ""),
        attempt=record.attempt,
        progress=_progress(record.progress),
        params=tuple(parameter(name, value) for name, value in record.params.items()),
        failure=clean(f"{failure.type.removeprefix('builtins.')}: {failure.message}") if failure else "",
        traceback=_last_lines(failure.traceback, _TRACEBACK_LINES) if failure else "",
    )


def parameter(name: str, value: Any) -> Item:
    """Return a stored parameter in words."""
    name = clean(name)
    try:
        if "output" in value:
            return Item(name, clean(f"output {value['output']['key']} of {value['output']['run'][:8]}"))
        if "input" in value:
            return Item(name, _shortened(clean(str(value["input"])), keep_end=True), clean(str(value["input"])))
        size = int(value["size"]) if value.get("path") is not None else None
        if value.get("shown"):
            return Item(name, _shortened(clean(value["shown"])), clean(value["shown"][:1000]), size)
        if size is not None:
            return Item(name, type_shown(value.get("type", value["packer"])), size=size)
        return Item(name, *_inline(value["packer"], value.get("inline"), value.get("type", "")))
    except Exception:  # noqa: BLE001 - whatever a row holds, the others are still to be shown
        return Item(name, "(cannot be read)")


def in_a_line(params: Iterable[Item]) -> str:
    """Return parameters in one line, cut."""
    text = ", ".join(f"{item.name}={item.text}" for item in params)
    return text if len(text) <= _PARAMS else f"{text[: _PARAMS - 1]}…"


def clean(text: str) -> str:
    """Return text that is only to be read: no escape sequences, no control or direction characters."""
    return _OBEYED.sub("\N{REPLACEMENT CHARACTER}", _ESCAPES.sub("", text))


def type_shown(name: str) -> str:
    """Return a type's name without the modules that only its authors care for."""
    first, _, rest = clean(name).partition(".")
    last = rest.rpartition(".")[2]
    if not rest:
        return first
    return last if first in ("builtins", "__main__") else f"{first}.{last}"


def tail(path: Path, lines: int = LOG_LINES) -> tuple[tuple[str, ...], int]:
    """Return the last lines of a file as they would stand in a terminal, and its size; reads its end alone."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _LOG_BYTES))
        text = file.read(_LOG_BYTES).decode("utf-8", "replace")
    whole = text.rstrip("\n").split("\n")
    if size > _LOG_BYTES and len(whole) > 1:
        whole = whole[1:]  # the first one may have lost its beginning
    return tuple(_as_in_terminal(line) for line in whole[-lines:]) if text else (), size


def _whole(run: Run[Any], record: RunRecord) -> Snapshot:
    store = run._client.store
    names = store.metric_names(record.id, record.attempt)
    attempts = store.attempts(record.id)
    log, size = _log(run)
    known = from_record(record)
    below = [] if record.sweep else _below(store, record.id, 1, MOST_BELOW)  # a sweep has a table of its own
    defaults = left_out(store.plan(record.plan), record)
    return replace(
        known,
        params=(*known.params, *(replace(parameter(*item), is_default=True) for item in defaults.items())),
        outputs=tuple(_output(item) for item in store.outputs(record.id, record.attempt)),
        series=tuple(
            Series(clean(name), *_thinned(store.thinned_series(record.id, record.attempt, name, most=MOST_POINTS)))
            for name in names[:MOST_SERIES]
        ),
        more_series=max(0, len(names) - MOST_SERIES),
        below=tuple(below),
        more_below=_beyond(store, record.id, below),
        attempts=tuple(attempts),
        log=log,
        log_size=size,
        advice=_ABANDONED.format(record.id[:8]) if run._client.is_abandoned(record) else "",
    )


def _below(store: SqlStore, run: str, depth: int, most: int) -> list[Below]:
    """Return the first runs below a run, each before what is below it."""
    children = store.list_runs(RunFilter(parent=run), limit=most, newest=False)
    scores = store.scores_among([child.id for child in children]) if children else {}
    found: list[Below] = []
    for child in children:
        if len(found) >= most:
            break
        own = tuple((clean(name), value) for name, value in sorted(scores.get(child.id, {}).items()))
        found.append(Below(depth, child.iteration or None, from_record(child), own))
        if depth < _DEEP:
            found += _below(store, child.id, depth + 1, most - len(found))
    return found


def _beyond(store: SqlStore, run: str, below: Sequence[Below]) -> int:
    """Return how many children of a run are not among what is shown below it."""
    if len(below) < MOST_BELOW:
        return 0
    return store.count_runs(RunFilter(parent=run)) - sum(one.depth == 1 for one in below)


def _thinned(found: tuple[int, Sequence[float]]) -> tuple[int, tuple[float, ...]]:
    return found[0], tuple(found[1])


def _log(run: Run[Any]) -> tuple[tuple[str, ...], int]:
    path = run.log_path()
    if path is None:
        return (), 0
    try:
        return tail(path)
    except OSError:  # nothing was written, or it lies on another machine
        return (), 0


def _output(item: Output) -> Item:
    name = clean(item.key)
    if item.path is not None:
        return Item(name, type_shown(item.type), size=item.size)
    try:
        return Item(name, *_inline(item.packer, item.inline, item.type))
    except Exception:  # noqa: BLE001 - as with parameters
        return Item(name, "(cannot be read)")


def _inline(packer: str, inline: Any, kind: str) -> tuple[str, str]:
    if packer != "json":
        return type_shown(kind or packer), ""
    value = tagged.decode(inline)
    whole = clean(repr(value))
    text = f"{value:.6g}" if type(value) is float and len(whole) > 8 else _shortened(whole)
    return text, whole[:1000] if whole != text else ""


def _progress(said: Mapping[str, Any] | None) -> Progress | None:
    said = said or {}
    done, total = _number(said.get("done")), _number(said.get("total"))
    return None if done is None else Progress(done, total, _shortened(clean(str(said.get("text", "")))))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _as_in_terminal(line: str) -> str:
    """Return what stays of a line on which a progress bar was drawn again and again."""
    shown = line.rstrip("\r").rpartition("\r")[2]
    return clean(shown[: _LINE - 1] + "…" if len(shown) > _LINE else shown)


def _last_lines(text: str, most: int) -> str:
    lines = clean(text).rstrip().split("\n")
    if len(lines) > most:
        lines = [lines[0], f"  … {len(lines) - most} lines left out …", *lines[len(lines) - most + 2 :]]
    return "\n".join(_cut(lines))


def _cut(lines: Iterable[str]) -> list[str]:
    return [line if len(line) <= _LINE else f"{line[: _LINE - 1]}…" for line in lines]


def _shortened(text: str, *, keep_end: bool = False) -> str:
    if len(text) <= _VALUE:
        return text
    return f"…{text[1 - _VALUE :]}" if keep_end else f"{text[: _VALUE - 1]}…"


def _with_notice(known: Snapshot, error: Exception) -> Snapshot:
    said = clean(f"{type(error).__name__}: {error}")
    return replace(known, notice=f"The store cannot be read, this is what was known before. {said[:_LINE]}")
