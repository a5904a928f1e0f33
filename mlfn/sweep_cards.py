"""Cards of sweeps and of their descriptions, in the manner of `mlfn.cards`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import islice
from typing import TYPE_CHECKING, Any

from mlfn import cards
from mlfn.cards import _and_more, _card, _error, _head, _hover, _items, _part, _table, _text, duration, sparkline
from mlfn.snapshot import Item, in_a_line
from mlfn.spec.record import RunState
from mlfn.sweep.picture import STYLE as LINES_STYLE
from mlfn.sweep.scales import text_of
from mlfn.sweep_snapshot import Row, SweepSnapshot

if TYPE_CHECKING:
    from mlfn.sweep.description import Sweep

MOST_COLUMNS = 6  # of parameters; more of them share one
MOST_CELLS = 10

_STYLE = (
    ".mlfn-card .mlfn-stack{display:flex}.mlfn-card .mlfn-stack div{border-radius:0;min-width:1px}"
    ".mlfn-card.mlfn-card svg.mlfn-lines{max-width:none;color:inherit}"
    ".mlfn-card .mlfn-lines text{fill:var(--ink);stroke:var(--paper)}"
    ".mlfn-card .mlfn-spark{display:flex;align-items:center;gap:14px}"
    ".mlfn-card .mlfn-spark svg{flex:none}"
    ".mlfn-card.mlfn-card table tr.mlfn-first td{font-weight:600}"
)
_ORDER = (RunState.SUCCEEDED, RunState.PRUNED, RunState.FAILED, RunState.CANCELLED)


def sweep_card(sweep: SweepSnapshot) -> str:
    """Return a sweep's card."""
    run = sweep.run
    style = f"<style>{_STYLE}{LINES_STYLE if sweep.picture is not None else ''}</style>"
    title = f"The best {len(sweep.rows)}" if sweep.select else f"The last {len(sweep.rows)}"
    body = "".join(
        (
            style,
            _head(run),
            _bar(sweep),
            f'<div class="mlfn-soft">{_text(count_text(sweep))}</div>',
            f'<div class="mlfn-soft">Ended early: {_text(sweep.stopped)}.</div>' if sweep.stopped else "",
            f'<div class="mlfn-soft">{_text(run.notice)}</div>' if run.notice else "",
            f'<div class="mlfn-soft">{_text(run.advice)}</div>' if run.advice else "",
            '<div class="mlfn-parts">',
            _part("Shared parameters", _shared(run.params), size="mlfn-wide"),
            _part("Best so far" if not run.state.is_terminal else "Best", _best(sweep), size="mlfn-wide"),
            _part(title, _rows(sweep.rows, sweep), size="mlfn-wide"),
            _part("Results", _items(run.outputs) if run.state.is_terminal else "", size="mlfn-wide"),
            _part("Running", _working(sweep), size="mlfn-wide"),
            _part("Error", _error(run), size="mlfn-wide"),
            _part("One that failed", _failed(sweep), size="mlfn-wide"),
            _part("Parallel coordinates", _picture(sweep), size="mlfn-wide"),
            "</div>",
        )
    )
    return _card(body, kind=f"mlfn-{run.state}")


def description_card(sweep: Sweep[Any]) -> str:
    """Return what a sweep will run: its size, its options and its first rows."""
    size, cells = sweep.size, sweep._chooser.cells
    count = "children from an iterable" if size is None else f"{size:,} {'child' if size == 1 else 'children'}"
    facts = "".join(
        f'<tr><td class="mlfn-key mlfn-fit">{_text(name)}</td><td class="mlfn-value">{_text(_said(value))}</td></tr>'
        for name, value in _options(sweep).items()
    )
    content = _cells(cells, size or 0) if cells is not None else _spaces(getattr(sweep._chooser, "spaces", {}))
    body = "".join(
        (
            (
                f'<div class="mlfn-head"><span class="mlfn-name">{_text(sweep.function._name)}</span>'
                f'<span class="mlfn-soft">sweep of {count}, not submitted</span></div>'
            ),
            '<div class="mlfn-parts">',
            _part("Options", f"<table><tbody>{facts}</tbody></table>" if facts else "", size="mlfn-wide"),
            _part("Children" if cells is not None else "Searched", content, size="mlfn-wide"),
            "</div>",
        )
    )
    return _card(body)


def count_text(sweep: SweepSnapshot) -> str:
    """Return how many children have ended, how, and when the rest will have, in words."""
    done, *others = counts(sweep).values()
    return " · ".join((f"{done} children", *others))


def counts(sweep: SweepSnapshot) -> dict[str, str]:
    """Return the parts of `count_text` by what they tell: `done`, states, `pace`, `left`, `front`."""
    ended = sweep.ended
    parts = {"done": f"{sweep.done:,} of {sweep.total:,}" if sweep.total is not None else f"{sweep.done:,}"}
    parts |= {state.value: f"{ended[state.value]:,} {state}" for state in _ORDER[1:] if ended.get(state.value)}
    if sweep.active:
        parts["running"] = f"{sweep.active:,} running"
    if sweep.pace is not None:
        parts["pace"] = pace_text(sweep.pace)
    if sweep.left is not None and sweep.left >= 1:
        parts["left"] = f"about {duration(sweep.left, exact=False)} left"
    if sweep.front:
        parts["front"] = f"{sweep.front} on the Pareto front"
    return parts


def best_text(sweep: SweepSnapshot) -> str:
    """Return the best child so far in one line; nothing where there is none."""
    leader = next((row for row in sweep.rows if row.iteration == sweep.best), None)
    if leader is None or not sweep.select:
        return ""
    return f"best {_values(leader, sweep)}: child {leader.iteration}, {in_a_line(leader.params)}"


def _values(row: Row, sweep: SweepSnapshot) -> str:
    return ", ".join(f"{selector.name} = {number(value)}" for selector, value in zip(sweep.select, row.values))


def pace_text(pace: float) -> str:
    """Return a pace in words."""
    if pace >= 1:
        return f"{pace:,.0f}/s" if pace >= 10 else f"{pace:.1f}/s"
    return f"{pace * 60:.1f}/min" if pace * 60 >= 1 else f"{pace * 3600:.1f}/h"


def _bar(sweep: SweepSnapshot) -> str:
    whole = sweep.total if sweep.total is not None else sweep.done if sweep.state.is_terminal else None
    if not whole:
        return ""
    ended = sweep.ended
    parts = "".join(
        f'<div class="mlfn-{state}" style="width:{100 * ended[state.value] / whole:.2f}%"></div>'
        for state in _ORDER
        if ended.get(state.value)
    )
    return f'<div class="mlfn-bar mlfn-stack">{parts}</div>'


def _shared(params: Sequence[Item]) -> str:
    return f'<div class="mlfn-value">{_text(in_a_line(params))}</div>' if params else ""


def _best(sweep: SweepSnapshot) -> str:
    leader = next((row for row in sweep.rows if row.iteration == sweep.best), None)
    if leader is None or not sweep.select:
        return ""
    spark = sparkline(sweep.history) if len(set(sweep.history)) > 1 else ""
    return (
        f'<div class="mlfn-spark">{spark}<div><b>{_text(_values(leader, sweep))}</b> <span class="mlfn-soft">child {leader.iteration}</span>'
        f'<div class="mlfn-value">{_text(in_a_line(leader.params))}</div></div></div>'
    )


def _rows(rows: Sequence[Row], sweep: SweepSnapshot) -> str:
    if not rows:
        return ""
    names = list(dict.fromkeys(item.name for row in rows for item in row.params))
    wide = len(names) > MOST_COLUMNS
    heads = ["child", *(str(selector) for selector in sweep.select), *(["parameters"] if wide else names)]
    head = _heads(heads)
    lines = [
        f'<tr{" class=mlfn-first" * (row.iteration == sweep.best)}><td class="mlfn-fit" title="{_text(row.run)}">{row.iteration}'
        f"{'' if row.state is RunState.SUCCEEDED else f' {_text(row.state)}'}</td>"
        + "".join(f'<td class="mlfn-value">{number(value)}</td>' for value in _padded(row.values, len(sweep.select)))
        + _params(row.params, names, wide=wide)
        + f'<td class="mlfn-end">{_text(spent(row, sweep.run.taken))}</td></tr>'
        for row in rows
    ]
    return (
        f'<div class="mlfn-scroll">{_table(lines, f"<thead><tr>{head}<th class=mlfn-end>time</th></tr></thead>")}</div>'
    )


def _heads(names: Sequence[str]) -> str:
    first, *others = (_text(name) for name in names)
    return f'<th class="mlfn-fit">{first}</th>' + "".join(f"<th>{name}</th>" for name in others)


def _params(params: Sequence[Item], names: Sequence[str], *, wide: bool) -> str:
    if wide:
        return f'<td class="mlfn-value">{_text(in_a_line(params))}</td>'
    by_name = {item.name: item for item in params}
    return "".join(
        f'<td class="mlfn-value"{_hover(by_name[name].whole)}>{_text(by_name[name].text)}</td>'
        if name in by_name
        else '<td class="mlfn-soft">–</td>'
        for name in names
    )


def _padded(values: Sequence[float | None], count: int) -> Sequence[float | None]:
    return [*values, *[None] * (count - len(values))][:count]


def _working(sweep: SweepSnapshot) -> str:
    lines = [
        f'<tr><td class="mlfn-fit">{row.iteration}</td><td class="mlfn-value">{_text(in_a_line(row.params))}</td>'
        f'<td class="mlfn-end">{_text(spent(row, sweep.run.taken))}</td></tr>'
        for row in sweep.working
    ]
    return _table(lines) + _and_more(sweep.active - len(lines)) if lines else ""


def _failed(sweep: SweepSnapshot) -> str:
    if sweep.failed is None:
        return ""
    said = f"child {sweep.failed.iteration} ({in_a_line(sweep.failed.params)}): {sweep.failed.error}"
    return f'<pre class="mlfn-error mlfn-failed">{_text(said)}</pre>'


def _picture(sweep: SweepSnapshot) -> str:
    if sweep.picture is None:
        return ""
    notes = "".join(f'<div class="mlfn-soft">{_text(note)}</div>' for note in sweep.picture.notes)
    return f'<div class="mlfn-scroll">{sweep.picture.svg}</div>{notes}'


def spent(row: Row, taken: float) -> str:
    """Return how long a child took, or has taken by `taken`, in words."""
    if row.started is None:
        return ""
    return duration(max(0.0, (row.ended or taken) - row.started), exact=row.ended is not None)


def number(value: float | None) -> str:
    """Return a metric as it is shown."""
    return "–" if value is None else f"{value:.6g}"


def _options(sweep: Sweep[Any]) -> Mapping[str, Any]:
    return {name: value for name, value in vars(sweep._options).items() if value not in (None, (), False)}


def _said(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _cells(cells: Any, size: int) -> str:
    rows = [(iteration, dict(cell)) for iteration, cell in zip(islice(iter(cells.iterations), MOST_CELLS), cells)]
    names = list(dict.fromkeys(name for _, cell in rows for name in cell))
    head = _heads(["child", *names])
    lines = [
        f'<tr><td class="mlfn-fit">{iteration}</td>'
        + "".join(
            f'<td class="mlfn-value">{_text(text_of(cell[name]))}</td>'
            if name in cell
            else '<td class="mlfn-soft">–</td>'
            for name in names
        )
        + "</tr>"
        for iteration, cell in rows
    ]
    table = _table(lines, f"<thead><tr>{head}</tr></thead>")
    more = f'<div class="mlfn-soft">and {size - len(rows):,} more</div>' if size > len(rows) else ""
    return f'<div class="mlfn-scroll">{table}</div>{more}'


def _spaces(spaces: Mapping[str, Any]) -> str:
    lines = [
        f'<tr><td class="mlfn-key mlfn-fit">{escape(key)}</td><td class="mlfn-value">{_text(repr(space)[: cards.MOST_ROWS * 4])}</td></tr>'
        for key, space in islice(spaces.items(), cards.MOST_ROWS)
    ]
    return _table(lines)
