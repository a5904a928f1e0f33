"""View models as plain text, line by line: what `mlfn show` and its kin print."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlfn.errors import harmless
from mlfn.host.frozen import frozen
from mlfn.spec.record import RunRecord, RunState
from mlfn.spec.values import shown_bytes
from mlfn.ui.views.values import described, in_a_line, packed_shown
from mlfn.ui.wording import ago, amount, duration, from_home, moment, number, type_shown

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
_LEAST_VALUE = 20  # columns that a value has in the narrowest terminal
_ID = re.compile("[0-9a-f]{32}")


class Way(enum.Enum):
    """What a column does in a terminal that is too narrow."""

    STAYS = "stays"
    GOES = "goes"
    CUT = "is cut"


@frozen
class Column:
    """A column of a table: the texts of its rows, and shorter ones for a terminal where there are some."""

    name: str
    cells: Sequence[str]
    way: Way = Way.STAYS
    brief: Sequence[str] = ()
    colored: bool = False

    @classmethod
    def of_states(cls, states: Sequence[str]) -> Column:
        """Make the column of states, each in its colour."""
        return cls("STATE", states, colored=True)


def table_lines(columns: Sequence[Column]) -> Iterator[str]:
    """Return a table as aligned lines, of which nothing is cut."""
    rows = [[column.name for column in columns]]
    rows += [[harmless(cell) for cell in row] for row in zip(*(column.cells for column in columns), strict=True)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        if row is not rows[0]:
            for at, column in enumerate(columns):
                cells[at] = cells[at].replace(row[at], state_text(row[at]), 1) if column.colored else cells[at]
        yield "  ".join(cells).rstrip()


def heading(text: str) -> str:
    """Return a title in bold."""
    return click.style(text, bold=True)


def state_text(state: str) -> str:
    """Return a state in its colour."""
    return click.style(state, fg=STATE_COLORS.get(state))


def facts(
    pairs: Iterable[tuple[str, str]], *, indent: str = "", width: int | None = None, whole: Container[str] = ()
) -> Iterator[str]:
    """Return names and their texts, one a line; with a `width`, of at most so many columns but for those that stay `whole`."""
    pairs = list(pairs)
    wide = max((len(name) for name, _ in pairs), default=0)
    if width is not None:
        from mlfn.ui.terminal.cells import shortened  # of a terminal alone

        most = max(_LEAST_VALUE, width - len(indent) - wide - 2)
        pairs = [(name, text if name in whole else shortened(text, most)) for name, text in pairs]
    for name, text in pairs:
        yield f"{indent}{heading(name.ljust(wide))}  {text}"


def ending(run: RunView, *, width: int | None = None) -> Iterator[str]:
    """Return how a run ended, its results and where they lie."""
    whole = [("run", run.id), ("state", _state(run)), *_places(run, width)]
    yield from facts(
        [*whole[:2], *_values(run, run.outputs), *whole[2:]], whole={name for name, _ in whole}, width=width
    )


def report(run: RunView, params: Sequence[Value] | None = None, *, width: int | None = None) -> Iterator[str]:
    """Return all that is known of a run, its results first; `params` in place of its own."""
    record = run.record
    yield from facts([("run", record.id), ("name", harmless(_titled(run))), ("state", _state(run)), *_safe(_news(run))])
    yield from _section("outputs", _values(run, run.outputs), width)
    yield from _section("metrics", [(series.name, _number(series.last)) for series in run.series], width)
    yield from _section("parameters", _values(run, run.params if params is None else params, exactly=True), width)
    yield from _section("about", [*_circumstances(run), *_places(run, width)])
    if len(run.attempts) > 1:
        yield from _section("attempts", [(str(item.attempt), _attempt(run, item)) for item in run.attempts], width)
    yield from _section("events", [(moment(e.time), " ".join(filter(None, (e.what, e.detail)))) for e in run.events])
    if text := failure_text(run.record):
        yield from ("", heading("error"), text)


def _news(run: RunView) -> Iterator[tuple[str, str]]:
    """Return what is to be known of a run that has not ended."""
    if run.is_abandoned:
        yield "note", f"the process that submitted it is gone; `mlfn wait {run.id[:8]}` resumes it"
    if run.record.progress and not run.record.sweep:  # that has a line with its children's states
        yield "progress", _progress(run.record.progress)
    if run.page:
        yield "page", run.page


def _circumstances(run: RunView) -> Iterator[tuple[str, str]]:
    """Return where a run belongs, and when it was what."""
    record = run.record
    yield "project", record.project
    yield "version", record.function[:12]
    yield "place", record.place
    times = (("created", record.created), ("started", record.started), ("ended", record.ended))
    yield from ((name, moment(time)) for name, time in times if time)
    if record.parent:
        place = f", of which it is child {record.iteration}" if record.iteration else ""
        yield "parent", f"{record.parent}{place}"
    if record.reused:
        yield "reused", f"{record.reused}, whose results it took over"
    if record.labels:
        yield "labels", ", ".join(f"{key}={value}" for key, value in record.labels.items())


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


def sweep_table(sweep: SweepView, most: int) -> list[Column]:
    """Return a table of a sweep's children: the first ones, or the best where there are more."""
    children, leading = sweep.page(most), {*sweep.front, sweep.best}
    metrics = dict.fromkeys(name for child in children for name in sorted(child.metrics))
    params = [{value.name: _cell(value, sweep.run.folder) for value in child.params} for child in children]
    columns = [
        Column("", ["*" if child.iteration in leading else "" for child in children], Way.GOES),
        Column("CHILD", [str(child.iteration) for child in children]),
        Column.of_states([child.state.value for child in children]),
        *(Column(key, [cells.get(key, "-") for cells in params], Way.CUT) for key in sweep.keys),
        *(
            Column(name, [_number(child.metrics.get(name)) for child in children], _way(sweep, name))
            for name in metrics
        ),
        Column("TOOK", [_span(child.seconds) for child in children], Way.GOES),
        Column("ID", [child.run[:8] for child in children]),
        Column("ERROR", [child.error for child in children], Way.CUT),
    ]
    return columns if any(child.error for child in children) else columns[:-1]


def _way(sweep: SweepView, metric: str) -> Way:
    """Return what the column of a metric does: where some are selected, the others may go."""
    return Way.STAYS if metric in {selector.name for selector in sweep.select} or not sweep.select else Way.GOES


def tree(run: RunView) -> Iterator[str]:
    """Return the runs below a run, under its own line; nothing where there are none."""
    if run.branches:
        yield f"{run.id[:8]}  {harmless(run.record.name)}"
        yield from _branches(run.branches, run.more_branches, "")


def listing_table(listing: ListingView, *, numbered: bool) -> list[Column]:
    """Return a listing as a table; `numbered` where they are the children of one run."""
    runs, records = listing.runs, [run.record for run in listing.runs]
    columns = [Column("ID", [run.id[:8] for run in runs])]
    if numbered:
        columns.append(Column("CHILD", [str(record.iteration or "") for record in records]))
    columns.append(Column.of_states([run.state.value for run in runs]))
    if any(record.sweep for record in records):
        columns.append(Column("SWEEP", [_ended_children(record) for record in records], Way.GOES))
    columns += [
        Column("NAME", [_titled(run) for run in runs], Way.CUT),
        Column("PROJECT", [record.project for record in records], Way.GOES),
        Column(
            "CREATED",
            [moment(record.created) for record in records],
            Way.GOES,
            brief=[ago(run.record.created, taken=run.taken) for run in runs],
        ),
        Column("TOOK", [_span(record.duration) for record in records], Way.GOES),
    ]
    if listing.metric:
        columns.append(Column(listing.metric, [_number(listing.scores.get(run.id)) for run in runs]))
    return [*columns, Column("PARAMETERS", [in_a_line(run.params) for run in runs], Way.CUT)]


def _titled(run: RunView) -> str:
    """Return a function's name, and that of its sweep."""
    return f"{run.record.name}: {run.sweep_name}" if run.sweep_name else run.record.name


def shown_value(facts: Mapping[str, Any], *, own: str | None = None, exactly: bool = False) -> str:
    """Return one described parameter or output in a line; `own` is the folder that need not be named."""
    if "output" in facts:
        return f"output {facts['output']['key']!r} of run {facts['output']['run'][:8]}"
    if "input" in facts:
        return f"input {facts['input']}"
    if facts.get("shown"):
        return str(facts["shown"])
    if "path" in facts:
        size = "size unknown" if facts["size"] is None else amount(facts["size"])
        return f"{packed_shown(facts)}, {size}{_elsewhere(facts['path'], own)}"
    if "shown" in facts:
        return type_shown(str(facts.get("type") or facts.get("packer")))
    value = facts["value"]
    if isinstance(value, float) and not exactly:
        return number(value)
    return _dotted(json.dumps(value, ensure_ascii=False), _LONGEST_VALUE)


def _elsewhere(path: str, own: str | None) -> str:
    """Return where a file lies, unless that is the run's own folder: of another run's, which."""
    if own is not None and path.startswith(f"{own}/"):
        return ""
    parts = path.split("/")
    return (
        f"  of run {parts[-3][:8]}" if own is not None and len(parts) > 3 and _ID.fullmatch(parts[-3]) else f"  {path}"
    )


def _cell(value: Value, folder: Path | None) -> str:
    known = described(value, folder)
    plainly = known.get("value")
    if isinstance(plainly, float):
        return number(plainly)
    return _dotted(plainly if isinstance(plainly, str) else shown_value(known), _LONGEST_CELL)


def _dotted(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _branches(branches: Sequence[Branch], more: int, indent: str) -> Iterator[str]:
    for place, branch in enumerate(branches, start=1):
        last = place == len(branches) and not more
        yield f"{indent}{'└─' if last else '├─'} {_in_a_line(branch.run)}"
        yield from _branches(branch.branches, branch.more, indent + ("   " if last else "│  "))
    if more:
        yield f"{indent}└─ ... {more} more; --tree shows all"


def _in_a_line(run: RunView) -> str:
    place = f"{run.record.iteration}  " if run.record.iteration else ""
    called = harmless(f"{run.record.name}  {_params(run.params, run.folder)}").rstrip()
    return f"{place}{run.id[:8]}  {state_text(run.state.value)}  {called}"


def _params(values: Iterable[Value], folder: Path | None) -> str:
    return " ".join(f"{value.name}={_cell(value, folder)}" for value in values)


def _ended_children(record: RunRecord) -> str:
    if not record.sweep:
        return ""
    progress = record.progress or {}
    total = progress.get("total")
    return f"{progress.get('done', 0)}/{'?' if total is None else total}"


def _number(value: float | None) -> str:
    return "-" if value is None else number(value)


def _span(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds, exact=True)


def _places(run: RunView, width: int | None) -> list[tuple[str, str]]:
    """Return where its files lie; in a terminal as short as a shell takes it."""
    found = (("artifacts", run.artifacts), ("log", run.log_at))
    return [(name, harmless(path if width is None else from_home(path))) for name, path in found if path]


def _state(run: RunView) -> str:
    record = run.record
    reason = f" ({record.reason})" if record.reason and record.state is RunState.FAILED else ""
    span = "" if record.duration is None else f" after {duration(record.duration, exact=True)}"
    waits = f", waits for {harmless(run.waits_for)}" if run.waits_for else ""
    return f"{state_text(record.state.value)}{reason}{span}{waits}"


def _values(run: RunView, values: Iterable[Value], *, exactly: bool = False) -> list[tuple[str, str]]:
    found = []
    for value in values:
        text = shown_value(described(value, run.folder), own=run.artifacts, exactly=exactly)
        found.append((harmless(value.name), harmless(text) + ("  (default)" if value.is_default else "")))
    return found


def _progress(progress: Mapping[str, Any]) -> str:
    done = f"{progress.get('done')}" + (f"/{progress['total']}" if progress.get("total") else "")
    return f"{done} {progress.get('text') or ''}".strip()


def _attempt(run: RunView, item: Any) -> str:
    reason = f" ({item.reason})" if item.reason else ""
    asked = f"  mem={shown_bytes(run.asked[item.attempt])}" if item.attempt in run.asked else ""
    failure = f"  {item.failure}" if item.failure else ""
    started, ended = ("-" if time is None else moment(time) for time in (item.started, item.ended))
    return f"{item.state}{reason}  {started} .. {ended}{asked}{failure}"


def _safe(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(harmless(name), harmless(text)) for name, text in pairs]


def _section(title: str, pairs: Iterable[tuple[str, str]], width: int | None = None) -> Iterator[str]:
    if pairs := list(pairs):
        yield from ("", heading(title), *facts(_safe(pairs), indent="  ", width=width))
