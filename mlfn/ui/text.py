"""View models as plain text, line by line: what `mlfn show` and its kin print."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlfn.host.frozen import frozen
from mlfn.spec.record import RunRecord, RunState
from mlfn.ui.views.values import described, in_a_line, plain
from mlfn.ui.wording import amount, duration, harmless, moment, type_shown

if TYPE_CHECKING:
    from mlfn.ui.views.listing import ListingView
    from mlfn.ui.views.run import Branch, RunView
    from mlfn.ui.views.sweep import SweepView
    from mlfn.ui.views.values import Value

STATE_COLORS = {
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
    "pruned": "yellow",
    "running": "cyan",
    "pending": "bright_black",
}
_LONGEST_VALUE = 100
_LONGEST_CELL = 40


@frozen
class TextTable:
    """Cells by row; `state` is the column to colour."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    state: int | None = None

    @classmethod
    def of(cls, columns: Sequence[tuple[str, Sequence[str]]]) -> TextTable:
        """Make a table of names and their cells; that of STATE is the column to colour."""
        names = [name for name, _ in columns]
        return cls(names, list(zip(*(cells for _, cells in columns), strict=True)), names.index("STATE"))

    def lines(self) -> Iterator[str]:
        """Return aligned lines, of which nothing is cut."""
        rows = [self.columns, *([harmless(cell) for cell in row] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            if self.state is not None and row is not self.columns:
                name = row[self.state]
                cells[self.state] = cells[self.state].replace(name, state_text(name), 1)
            yield "  ".join(cells).rstrip()


def state_text(state: str) -> str:
    """Return a state in its colour."""
    return click.style(state, fg=STATE_COLORS.get(state))


def facts(pairs: Iterable[tuple[str, str]], *, indent: str = "") -> Iterator[str]:
    """Return names and their texts, one a line."""
    pairs = list(pairs)
    width = max((len(name) for name, _ in pairs), default=0)
    for name, text in pairs:
        yield f"{indent}{click.style(name.ljust(width), bold=True)}  {text}"


def ending(run: RunView) -> Iterator[str]:
    """Return how a run ended, its results and where they lie."""
    yield from facts([("run", run.id), ("state", _state(run)), *_safe([*_values(run, run.outputs), *_places(run)])])


def report(run: RunView, params: Sequence[Value] | None = None) -> Iterator[str]:
    """Return all that is known of a run; `params` in place of its own."""
    record = run.record
    version = f"project {record.project}, version {record.function[:12]}, on {record.place}"
    times = (("created", record.created), ("started", record.started), ("ended", record.ended))
    known = [(name, moment(time)) for name, time in times if time]
    if record.parent:
        number = f", of which it is child {record.iteration}" if record.iteration else ""
        known.append(("parent", f"{record.parent}{number}"))
    if record.reused:
        known.append(("reused", f"{record.reused}, whose results it took over"))
    known += _places(run)
    if record.labels:
        known.append(("labels", ", ".join(f"{key}={value}" for key, value in record.labels.items())))
    if run.is_abandoned:
        known.append(("note", f"its client is gone; `mlfn wait {run.id[:8]}` resumes it"))
    if record.progress:
        known.append(("progress", _progress(record.progress)))
    first = [("run", record.id), ("function", harmless(f"{record.name}  ({version})")), ("state", _state(run))]
    yield from facts([*first, *_safe(known)])
    yield from _section("parameters", _values(run, run.params if params is None else params))
    yield from _section("outputs", _values(run, run.outputs))
    yield from _section("metrics", [(series.name, str(plain(series.last))) for series in run.series])
    yield from _section("attempts", [(str(item.attempt), _attempt(item)) for item in run.attempts])
    yield from _section("events", [(moment(e.time), " ".join(filter(None, (e.what, e.detail)))) for e in run.events])
    if text := failure_text(run.record):
        yield from ("", click.style("error", bold=True), text)


def failure_text(record: RunRecord) -> str:
    """Return why a run failed, with the user's own frames; empty where it has not."""
    failure = record.failure
    if failure is None or record.state is not RunState.FAILED:
        return ""
    return harmless((failure.traceback or f"{failure.type.removeprefix('builtins.')}: {failure.message}").rstrip())


def sweep_facts(sweep: SweepView) -> Iterator[str]:
    """Return a sweep's counts and its best."""
    counts = ", ".join(f"{count} {state_text(state)}" for state, count in sweep.counts.items()) or "none yet"
    whole = f" of {sweep.total}" if sweep.total is not None else ""
    known = [("children", f"{len(sweep.children)}{whole}: {counts}")]
    if sweep.stopped:
        known.append(("stopped", harmless(sweep.stopped)))
    if (child := sweep.leader) is not None:
        which = f"child {child.iteration} ({child.run[:8]}) by {sweep.body.select[0]}"
        known.append(("best", harmless(f"{which}: {_params(child.params, sweep.run.folder)}")))
    if sweep.front:
        known.append(("front", ", ".join(f"child {number}" for number in sweep.front)))
    return facts(known)


def sweep_table(sweep: SweepView, most: int) -> TextTable:
    """Return a table of a sweep's children: the first ones, or the best where there are more."""
    children, leading = sweep.page(most), {*sweep.front, sweep.best}
    metrics = dict.fromkeys(name for child in children for name in sorted(child.metrics))
    params = [{value.name: _cell(value, sweep.run.folder) for value in child.params} for child in children]
    columns = [
        ("", ["*" if child.iteration in leading else "" for child in children]),
        ("CHILD", [str(child.iteration) for child in children]),
        ("STATE", [child.state.value for child in children]),
        *((key, [cells.get(key, "-") for cells in params]) for key in sweep.keys),
        *((name, [_number(child.metrics.get(name)) for child in children]) for name in metrics),
        ("TOOK", [_span(child.seconds) for child in children]),
        ("ID", [child.run[:8] for child in children]),
        ("ERROR", [child.error for child in children]),
    ]
    return TextTable.of(columns if any(child.error for child in children) else columns[:-1])


def tree(run: RunView) -> Iterator[str]:
    """Return the runs below a run, under its own line; nothing where there are none."""
    if run.branches:
        yield f"{run.id[:8]}  {harmless(run.record.name)}"
        yield from _branches(run.branches, run.more_branches, "")


def listing_table(listing: ListingView, *, numbered: bool) -> TextTable:
    """Return a listing as a table; `numbered` where they are the children of one run."""
    runs, records = listing.runs, [run.record for run in listing.runs]
    columns = [("ID", [run.id[:8] for run in runs])]
    if numbered:
        columns.append(("CHILD", [str(record.iteration or "") for record in records]))
    columns.append(("STATE", [run.state.value for run in runs]))
    if any(record.sweep for record in records):
        columns.append(("SWEEP", [_ended_children(record) for record in records]))
    columns += [
        ("NAME", [record.name for record in records]),
        ("PROJECT", [record.project for record in records]),
        ("CREATED", [moment(record.created) for record in records]),
        ("TOOK", [_span(record.duration) for record in records]),
    ]
    if listing.metric:
        columns.append((listing.metric, [_number(listing.scores.get(run.id)) for run in runs]))
    return TextTable.of([*columns, ("PARAMETERS", [in_a_line(run.params) for run in runs])])


def shown_value(facts: Mapping[str, Any]) -> str:
    """Return one described parameter or output in a line."""
    if "output" in facts:
        return f"output {facts['output']['key']!r} of run {facts['output']['run'][:8]}"
    if "input" in facts:
        return f"input {facts['input']}"
    if facts.get("shown"):
        return str(facts["shown"])
    kind = type_shown(str(facts.get("type") or facts.get("packer")))
    if "path" in facts:
        return f"{kind}, {'size unknown' if facts['size'] is None else amount(facts['size'])}  {facts['path']}"
    if "shown" in facts:
        return kind
    return _dotted(json.dumps(facts["value"], ensure_ascii=False), _LONGEST_VALUE)


def _cell(value: Value, folder: Path | None) -> str:
    known = described(value, folder)
    plainly = known.get("value")
    if isinstance(plainly, float):
        return f"{plainly:.6g}"
    return _dotted(plainly if isinstance(plainly, str) else shown_value(known), _LONGEST_CELL)


def _dotted(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _branches(branches: Sequence[Branch], more: int, indent: str) -> Iterator[str]:
    for number, branch in enumerate(branches, start=1):
        last = number == len(branches) and not more
        yield f"{indent}{'└─' if last else '├─'} {_in_a_line(branch.run)}"
        yield from _branches(branch.branches, branch.more, indent + ("   " if last else "│  "))
    if more:
        yield f"{indent}└─ ... {more} more; --tree shows all"


def _in_a_line(run: RunView) -> str:
    number = f"{run.record.iteration}  " if run.record.iteration else ""
    called = harmless(f"{run.record.name}  {_params(run.params, run.folder)}").rstrip()
    return f"{number}{run.id[:8]}  {state_text(run.state.value)}  {called}"


def _params(values: Iterable[Value], folder: Path | None) -> str:
    return " ".join(f"{value.name}={_cell(value, folder)}" for value in values)


def _ended_children(record: RunRecord) -> str:
    if not record.sweep:
        return ""
    progress = record.progress or {}
    total = progress.get("total")
    return f"{progress.get('done', 0)}/{'?' if total is None else total}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _span(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds, exact=True)


def _places(run: RunView) -> list[tuple[str, str]]:
    return [(name, path) for name, path in (("artifacts", run.artifacts), ("log", run.log_at)) if path]


def _state(run: RunView) -> str:
    record = run.record
    reason = f" ({record.reason})" if record.reason and record.state is RunState.FAILED else ""
    span = "" if record.duration is None else f" after {duration(record.duration, exact=True)}"
    waits = f", waits for {harmless(record.status)}" if record.status else ""
    return f"{state_text(record.state.value)}{reason}{span}{waits}"


def _values(run: RunView, values: Iterable[Value]) -> list[tuple[str, str]]:
    return [
        (value.name, shown_value(described(value, run.folder)) + ("  (default)" if value.is_default else ""))
        for value in values
    ]


def _progress(progress: Mapping[str, Any]) -> str:
    done = f"{progress.get('done')}" + (f"/{progress['total']}" if progress.get("total") else "")
    return f"{done} {progress.get('text') or ''}".strip()


def _attempt(item: Any) -> str:
    reason = f" ({item.reason})" if item.reason else ""
    failure = f"  {item.failure}" if item.failure else ""
    started, ended = ("-" if time is None else moment(time) for time in (item.started, item.ended))
    return f"{item.state}{reason}  {started} .. {ended}{failure}"


def _safe(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(harmless(name), harmless(text)) for name, text in pairs]


def _section(title: str, pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    if pairs:
        yield from ("", click.style(title, bold=True), *facts(_safe(pairs), indent="  "))
