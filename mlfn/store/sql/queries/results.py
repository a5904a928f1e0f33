"""Queries about attempts and what they logged: outputs, metrics, scores, events."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any

from mlfn.spec.record import Attempt, Output
from mlfn.store.rows import Fault, checked, warn_skipped
from mlfn.store.sql import shapes
from mlfn.store.sql.connection import Connected
from mlfn.store.sql.queries.runs import OF_RUN, among

Event = tuple[float, int, str, str | None]  # time, attempt, what, detail
_OF_METRIC = f"{OF_RUN} AND attempt = ? AND name = ?"
_time_of = itemgetter(0)
_LAST_PARSERS: Mapping[str, Callable[[Any], Any]] = {"failure": shapes.parse_failure}


class ResultQueries(Connected):
    """Attempts, outputs, metrics, events."""

    def attempts(self, run: str) -> list[Attempt]:
        found = {attempt.attempt: attempt for attempt in self._earlier_attempts(run)}
        last = self._last(run)
        if last is not None and last["claimed"] is not None and last["attempt"] not in found:
            found[last["attempt"]] = _last_attempt(run, last)
        return list(found.values())

    def _earlier_attempts(self, run: str) -> list[Attempt]:
        """Return the attempts that another followed, and of runs that an earlier version stored the last one too."""
        return [Attempt(run, attempt, *rest) for attempt, _, *rest in self._attempt_rows(run)]

    def _attempt_rows(self, run: str) -> list[tuple[Any, ...]]:
        columns = ", ".join(shapes.ATTEMPT.columns)
        rows = self.connection.read(f"SELECT {columns} FROM attempts WHERE {OF_RUN} ORDER BY attempt", (run,))
        return _fitting(rows, shapes.ATTEMPT, run)

    def _last(self, run: str) -> dict[str, Any] | None:
        """Return the columns of a run that its last attempt and its events are made of."""
        columns = ", ".join(shapes.LAST_ATTEMPT.columns)
        rows = self.connection.read(f"SELECT {columns} FROM runs WHERE id = ?", (run,))
        found = [checked(shapes.parse_row(shapes.LAST_ATTEMPT, row, run, _LAST_PARSERS)) for row in rows]
        return found[0] if found else None

    def attempt_started(self, run: str, attempt: int) -> float | None:
        rows = self.connection.read(
            f"SELECT begun FROM runs WHERE id = ? AND attempt = ? AND claimed IS NOT NULL UNION ALL "
            f"SELECT started FROM attempts WHERE {OF_RUN} AND attempt = ?",
            (run, attempt, run, attempt),
        )
        return next((started for (started,) in rows if type(started) in shapes.NUMBER), None)

    def events(self, run: str) -> list[tuple[float, int, str, str | None]]:
        last = self._last(run)
        if last is None:
            return []
        rows = self.connection.read(f"SELECT time, what, detail FROM events WHERE {OF_RUN} ORDER BY seq", (run,))
        beside = [(time, 0, what, detail) for time, what, detail in _fitting(rows, shapes.EVENT, run)]
        story = list(_story(last, self._attempt_rows(run)))
        return [*heapq.merge(story, beside, key=_time_of), *_end(last)]

    def outputs(self, run: str, attempt: int) -> list[Output]:
        rows = self.connection.read(
            "SELECT key, role, packer, type, inline, path, sha256, size FROM outputs "
            f"WHERE {OF_RUN} AND attempt = ? ORDER BY key",
            (run, attempt),
        )
        return [checked(output_of(row, run)) for row in rows]

    def metric_names(self, run: str, attempt: int) -> list[str]:
        rows = self.connection.read(
            f"SELECT DISTINCT name FROM metrics WHERE {OF_RUN} AND attempt = ? ORDER BY name", (run, attempt)
        )
        return [row[0] for row in rows]

    def series(self, run: str, attempt: int, name: str) -> list[tuple[int | None, float, float]]:
        rows = self.connection.read(
            f"SELECT step, value, time FROM metrics WHERE {_OF_METRIC} ORDER BY number", (run, attempt, name)
        )
        _fitting(rows, shapes.POINT, run, f"metric {name!r}")
        return [(step, math.nan if value is None else value, time) for step, value, time in rows]

    def thinned_series(self, run: str, attempt: int, name: str, *, most: int) -> tuple[int, list[float]]:
        key = (run, attempt, name)
        count = int(self.connection.read(f"SELECT count(*) FROM metrics WHERE {_OF_METRIC}", key)[0][0])
        every = max(1, -(-count // most))
        rows = self.connection.read(
            "SELECT step, value, time FROM (SELECT step, value, time, row_number() OVER (ORDER BY number) AS place "
            f"FROM metrics WHERE {_OF_METRIC}) AS numbered WHERE (? - place) % ? = 0 ORDER BY place",
            (*key, count, every),
        )
        _fitting(rows, shapes.POINT, run, f"metric {name!r}")
        return count, [math.nan if value is None else value for _, value, _ in rows]

    def scores(self, run: str) -> dict[str, float]:
        rows = self.connection.read(f"SELECT name, value FROM scores WHERE {OF_RUN} ORDER BY name", (run,))
        return dict(_fitting(rows, shapes.SCORE, run))

    def scores_among(self, runs: Sequence[str]) -> dict[str, dict[str, float]]:
        sql = "SELECT runs.id, scores.name, value FROM runs JOIN scores ON scores.run = runs.seq WHERE runs.id IN ({})"
        return by_run(among(self.connection, sql, runs))


def _last_attempt(run: str, last: Mapping[str, Any]) -> Attempt:
    """Return the current or last attempt of a run from the run's own row."""
    failure = last["failure"]
    return Attempt(
        run,
        last["attempt"],
        last["execution"],
        last["begun"],
        last["ended"],
        "pending" if last["queued"] else last["state"],
        last["reason"] if last["ended"] is not None else None,
        failure=failure.first_line if failure is not None and last["ended"] is not None else None,
        unit=last["unit"],
    )


def _story(last: Mapping[str, Any], earlier: Sequence[tuple[Any, ...]]) -> Iterator[Event]:
    """Yield what happened to a run up to its end, as its row and those of its attempts say it."""
    yield last["created"], 0, "submitted", None
    for attempt, claimed, _, _, ended, _, reason, *_ in earlier:
        if attempt != last["attempt"] or last["claimed"] is None:
            yield claimed, attempt, "claimed", None
            yield ended, attempt, "requeued", reason
    if last["claimed"] is not None:
        yield last["claimed"], last["attempt"], "claimed", None


def _end(last: Mapping[str, Any]) -> Iterator[Event]:
    """Yield how a run ended, if it has."""
    if last["ended"] is None:
        return
    if last["reused"] is not None:
        yield last["ended"], last["attempt"], "reused", last["reused"]
    else:
        yield last["ended"], last["attempt"] if last["claimed"] is not None else 0, last["state"], last["reason"]


def output_of(row: tuple[Any, ...], run: str) -> Output | Fault:
    """Return the output of a row, or why the row cannot be read."""
    item = f"output {row[0]!r}"
    values = shapes.parse_row(shapes.OUTPUT, row, run, {"inline": shapes.parse_json_or_none})
    if isinstance(values, Fault):
        return replace(values, item=item)
    if row[4] is None and values["path"] is None:
        return Fault("outputs", run, "inline", "there is neither a value nor a file", item)
    return Output(**values)


def by_run(rows: Iterable[tuple[Any, ...]]) -> dict[str, dict[str, float]]:
    """Return (run, name, value) as values by name by run, without those that are no numbers."""
    found: dict[str, dict[str, float]] = {}
    for run, name, value in rows:
        own = found.setdefault(run, {})
        if type(value) in shapes.NUMBER:
            own[name] = value
        else:
            why = f"{shapes.excerpt(value)} is not a number"
            warn_skipped(Fault("scores", run, "value", why, f"score {name!r}"))
    return found


def _fitting(rows: list[tuple[Any, ...]], shape: shapes.Shape, run: str, item: str = "") -> list[tuple[Any, ...]]:
    """Return the rows of one run, all of which must have this shape."""
    misfit_of = shape.misfit
    for row in rows:
        if (misfit := misfit_of(row)) is not None:
            raise Fault(shape.table, run, *misfit, item).error()
    return rows
