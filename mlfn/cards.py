"""Cards and tables as HTML: plain, self-contained, every text escaped, styled under one class, without scripts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from html import escape

from mlfn.snapshot import MOST_ITEMS, Below, Item, Progress, Series, Snapshot, clean, in_a_line
from mlfn.spec.record import Attempt, RunState

MOST_ROWS = 50
MOST_SCORES = 3
_WIDTH, _HEIGHT = 132, 22  # of a sparkline, in pixels

# JupyterLab's and VS Code's own colours where they are set; elsewhere the page's, or the reader's, dark or light.
# Both front ends style tables and `pre` in outputs; the class is doubled to be heard over that.
_STYLE = """
.mlfn-card{color-scheme:light dark;
--ink:var(--jp-ui-font-color1,var(--vscode-editor-foreground,light-dark(#1f2328,#e4e7eb)));
--soft:var(--jp-ui-font-color2,var(--vscode-descriptionForeground,light-dark(#59636e,#9aa4af)));
--paper:var(--jp-layout-color0,var(--vscode-editor-background,light-dark(#ffffff,#16191d)));
--line:light-dark(#d9dee4,#343a42);--tint:light-dark(#f5f7f9,#1f242a);
--state:light-dark(#59636e,#9aa4af);
box-sizing:border-box;max-width:60rem;margin:2px 0;padding:12px 16px 14px;border:1px solid var(--line);border-radius:8px;
background:var(--paper);color:var(--ink);font:13px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;overflow-wrap:anywhere}
[data-jp-theme-light="true"] .mlfn-card,.vscode-light .mlfn-card{color-scheme:light}
[data-jp-theme-light="false"] .mlfn-card,.vscode-dark .mlfn-card,html[theme=dark] .mlfn-card{color-scheme:dark}
.mlfn-card.mlfn-running,.mlfn-card .mlfn-running{--state:light-dark(#0b63c5,#6cb0ff)}
.mlfn-card.mlfn-succeeded,.mlfn-card .mlfn-succeeded{--state:light-dark(#1a7340,#5bc98a)}
.mlfn-card.mlfn-failed,.mlfn-card .mlfn-failed{--state:light-dark(#b3261e,#ff8f85)}
.mlfn-card.mlfn-cancelled,.mlfn-card .mlfn-cancelled,.mlfn-card.mlfn-pruned,.mlfn-card .mlfn-pruned{--state:light-dark(#8a5a00,#e0b05a)}
.mlfn-card .mlfn-head{display:flex;flex-wrap:wrap;align-items:baseline;gap:2px 10px}
.mlfn-card .mlfn-name{font-size:15px;font-weight:600}
.mlfn-card .mlfn-state{padding:0 9px;border-radius:9px;font-size:12px;line-height:19px;font-weight:600;white-space:nowrap;
color:var(--state);background:color-mix(in srgb,var(--state) 13%,transparent)}
.mlfn-card .mlfn-time{margin-left:auto;font-variant-numeric:tabular-nums;white-space:nowrap}
.mlfn-card .mlfn-soft{color:var(--soft);font-size:12px}
.mlfn-card.mlfn-card pre,.mlfn-card .mlfn-value{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;
font-size:12px}
.mlfn-card .mlfn-bar{height:4px;margin:10px 0 3px;border-radius:2px;background:color-mix(in srgb,var(--state) 16%,transparent);overflow:hidden}
.mlfn-card .mlfn-bar div{height:4px;border-radius:2px;background:var(--state)}
.mlfn-card .mlfn-parts{display:flex;flex-wrap:wrap;gap:0 32px}
.mlfn-card .mlfn-part{flex:1 1 15rem;min-width:0}
.mlfn-card .mlfn-roomy{flex-basis:21rem}
.mlfn-card .mlfn-wide{flex-basis:100%}
.mlfn-card .mlfn-title{margin:12px 0 3px;color:var(--soft);font-size:12px;font-weight:600}
.mlfn-card.mlfn-card table{width:100%;margin:0;border-collapse:collapse;border:0;font-size:13px;table-layout:auto}
.mlfn-card.mlfn-card table tr,.mlfn-card.mlfn-card table tbody tr:nth-child(n){background:none;border:0}
.mlfn-card.mlfn-card table td,.mlfn-card.mlfn-card table th{padding:3px 16px 3px 0;border:0;border-top:1px solid var(--line);
text-align:left;vertical-align:top;font-weight:400;max-width:none;white-space:normal;color:inherit;background:none}
.mlfn-card.mlfn-card table td:last-child,.mlfn-card.mlfn-card table th:last-child{padding-right:0}
.mlfn-card.mlfn-card table thead th{border-top:0;color:var(--soft);font-size:12px;font-weight:600}
.mlfn-card.mlfn-card table .mlfn-key{width:1%;min-width:5rem;color:var(--soft)}
.mlfn-card.mlfn-card table .mlfn-fit{width:1%;white-space:nowrap}
.mlfn-card.mlfn-card table .mlfn-end{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.mlfn-card.mlfn-card svg{display:block;width:132px;height:22px;max-width:none;color:var(--state)}
.mlfn-card.mlfn-card pre{margin:0;padding:8px 10px;border:0;border-radius:5px;background:var(--tint);color:var(--ink);
line-height:1.45;white-space:pre-wrap;overflow-wrap:anywhere}
.mlfn-card.mlfn-card pre.mlfn-error{background:color-mix(in srgb,var(--state) 8%,transparent)}
.mlfn-card .mlfn-scroll{overflow-x:auto}
.mlfn-card>.mlfn-title{margin-top:0}
.mlfn-card .mlfn-doc{margin:8px 0 0;white-space:pre-line}
"""


def run_card(run: Snapshot) -> str:
    """Return a run's card."""
    body = "".join(
        (
            _head(run),
            _progress(run),
            *(f'<div class="mlfn-soft">{escape(text)}</div>' for text in (run.notice, run.advice) if text),
            '<div class="mlfn-parts">',
            _part("Parameters", _items(run.params)),
            _part("Results", _items(run.outputs)),
            _part("Metrics", _series(run.series, run.more_series), size="mlfn-roomy"),
            _part("Child runs", _below(run), size="mlfn-wide"),
            _part("Error", _error(run), size="mlfn-wide"),
            _part("Attempts", _attempts(run.attempts), size="mlfn-wide"),
            _part(_log_title(run), f"<pre>{_lines(run.log)}</pre>" if run.log else "", size="mlfn-wide"),
            "</div>",
        )
    )
    return _card(body, kind=f"mlfn-{run.state}")


def function_card(
    name: str,
    *,
    facts: Sequence[tuple[str, str]],
    parameters: Sequence[tuple[str, str, str]],
    doc: str,
) -> str:
    """Return a function's card: what is declared of it, and (name, type, default) of its parameters."""
    declared = [f'<tr>{_key(key)}<td class="mlfn-value">{_text(value)}</td></tr>' for key, value in facts]
    rows = [
        f'<tr><td class="mlfn-value">{_text(key)}</td><td class="mlfn-value">{_text(kind)}</td>'
        f'<td class="mlfn-value">{_text(default)}</td></tr>'
        for key, kind, default in parameters[:MOST_ITEMS]
    ]
    head = "<thead><tr><th>name</th><th>type</th><th>default</th></tr></thead>"
    body = "".join(
        (
            f'<div class="mlfn-head"><span class="mlfn-name">{_text(name)}</span><span class="mlfn-soft">function</span></div>',
            f'<div class="mlfn-doc mlfn-soft">{_text(doc)}</div>' if doc else "",
            '<div class="mlfn-parts">',
            _part("Declared", _table(declared)),
            _part("Parameters", _table(rows, head) + _and_more(len(parameters) - MOST_ITEMS)) if rows else "",
            "</div>",
        )
    )
    return _card(body)


def runs_table(
    runs: Sequence[Snapshot], *, total: int, metric: str | None = None, scores: Mapping[str, float] | None = None
) -> str:
    """Return a listing of runs; where it is ordered by a metric, with its value for each run."""
    scores = scores or {}
    head = (
        "<thead><tr><th>id</th><th>name</th><th>state</th><th>project</th><th>submitted</th>"
        f'<th class="mlfn-end">time</th>{f"<th>{_text(metric)}</th>" if metric else ""}<th>parameters</th></tr></thead>'
    )
    rows = [
        f'<tr><td class="mlfn-value mlfn-fit">{_text(run.id[:8])}</td><td>{_text(run.name)}</td>'
        f'<td class="mlfn-fit">{_state(run)}</td><td>{_text(run.project)}</td>'
        f'<td class="mlfn-fit">{_text(moment(run.created))}</td><td class="mlfn-end">{_text(_spent(run))}</td>'
        f"{_score(scores.get(run.id)) if metric else ''}"
        f'<td class="mlfn-value">{_text(in_a_line(run.params))}</td></tr>'
        for run in runs[:MOST_ROWS]
    ]
    count = f"{total} run{'s' * (total != 1)}"
    body = f'<div class="mlfn-title">{count}</div><div class="mlfn-scroll">{_table(rows, head)}</div>'
    return _card(body + _and_more(total - len(rows)))


def _score(value: float | None) -> str:
    return f'<td class="mlfn-value mlfn-fit">{"" if value is None else f"{value:.6g}"}</td>'


def notice_card(text: str) -> str:
    """Return a card with one sentence."""
    return _card(f'<div class="mlfn-soft">{_text(text)}</div>')


def sparkline(values: Sequence[float]) -> str:
    """Return a small drawing of a series; where a value is no number, the line has a gap."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    step = (_WIDTH - 6) / max(1, len(values) - 1)
    scale = _scale(low, high)
    points = [
        None if not math.isfinite(value) else (round(3 + place * step, 1), round(_HEIGHT - 3 - scale(value), 1))
        for place, value in enumerate(values)
    ]
    lines = "".join(
        f'<polyline points="{" ".join(f"{x},{y}" for x, y in stretch)}"/>'
        for stretch in _stretches(points)
        if len(stretch) > 1
    )
    x, y = next(point for point in reversed(points) if point is not None)
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="from {low:.4g} to {high:.4g}"><g fill="none" stroke="currentColor" stroke-width="1.5" '
        f'stroke-linejoin="round" stroke-linecap="round">{lines}</g><circle cx="{x}" cy="{y}" r="2.2" fill="currentColor"/></svg>'
    )


def duration(seconds: float, *, exact: bool) -> str:
    """Return a time span in words; `exact` shows parts of a second, which a running clock should not."""
    if seconds < 60:
        if exact:
            return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s"
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def amount(size: int) -> str:
    """Return a number of bytes in words."""
    number = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{number:.0f} B" if unit == "B" else f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def moment(seconds: float) -> str:
    """Return a time of day with its date, in this machine's zone."""
    return _local(seconds).strftime("%Y-%m-%d %H:%M:%S")


def _card(body: str, kind: str = "") -> str:
    return f'<div class="mlfn-card{" " * bool(kind)}{escape(kind)}"><style>{_STYLE}</style>{body}</div>'


def _head(run: Snapshot) -> str:
    below = [run.project, run.place, f"submitted {moment(run.created)}"]
    if run.attempt > 1:
        below.append(f"attempt {run.attempt}")
    if not run.state.is_terminal:
        below.append(f"as of {_local(run.taken):%H:%M:%S}")
    return (
        f'<div class="mlfn-head"><span class="mlfn-name">{_text(run.name)}</span>'
        f'<span class="mlfn-value mlfn-soft" title="{_text(run.id)}">{_text(run.id[:8])}</span>{_state(run)}'
        f'<span class="mlfn-time">{_text(_spent(run))}</span></div>'
        f'<div class="mlfn-soft">{_text(" · ".join(item for item in below if item))}</div>'
    )


def _state(run: Snapshot) -> str:
    reason = f": {run.reason.replace('_', ' ')}" if run.reason and run.reason != "error" else ""
    return f'<span class="mlfn-state mlfn-{run.state}">{_text(f"{run.state}{reason}")}</span>'


def _spent(run: Snapshot) -> str:
    if run.started is None and run.state.is_terminal:
        return "not started"
    span = duration(run.elapsed, exact=run.ended is not None)
    return f"waiting {span}" if run.state is RunState.PENDING else span


def _progress(run: Snapshot) -> str:
    said = run.progress
    if said is None or (run.state is RunState.SUCCEEDED and said.fraction in (None, 1.0)):
        return ""
    bar = ""
    if said.fraction is not None:
        bar = f'<div class="mlfn-bar"><div style="width:{100 * said.fraction:.1f}%"></div></div>'
    return f'{bar}<div class="mlfn-soft">{_text(progress_text(said))}</div>'


def progress_text(said: Progress) -> str:
    """Return how far a run is, in words."""
    count = f"{said.done:g} of {said.total:g}" if said.total is not None else f"{said.done:g} done"
    return f"{said.text} · {count}" if said.text else count


def _part(title: str, content: str, *, size: str = "") -> str:
    if not content:
        return ""
    return f'<div class="mlfn-part {size}"><div class="mlfn-title">{_text(title)}</div>{content}</div>'


def _items(items: Sequence[Item]) -> str:
    rows = [
        f'<tr>{_key(item.name)}<td class="mlfn-value"{_hover(item.whole)}>{_text(item.text)}{_beside(item)}</td></tr>'
        for item in items[:MOST_ITEMS]
    ]
    return _table(rows) + _and_more(len(items) - MOST_ITEMS)


def _key(name: str) -> str:
    # A long name may break anywhere; a short one would break too, to make room for what is beside it.
    return f'<td class="mlfn-key{" mlfn-fit" * (len(name) <= 24)}">{_text(name)}</td>'


def _hover(text: str) -> str:
    return f' title="{_text(text)}"' if text else ""


def _beside(item: Item) -> str:
    words = "default" if item.is_default else "" if item.size is None else amount(item.size)
    return f' <span class="mlfn-soft">{words}</span>' if words else ""


def _series(series: Sequence[Series], more: int) -> str:
    rows = [
        f'<tr>{_key(one.name)}<td class="mlfn-fit">{sparkline(one.values)}</td>'
        f'<td class="mlfn-value" title="{one.count} point{"s" * (one.count != 1)}">{one.last:.5g}</td></tr>'
        for one in series
    ]
    return _table(rows) + _and_more(more)


def _below(run: Snapshot) -> str:
    rows = [
        f'<tr><td class="mlfn-value mlfn-fit" style="padding-left:{(one.depth - 1) * 20}px" title="{_text(one.run.id)}">'
        f"{'' if one.depth == 1 else '└ '}{_text(str(one.number) if one.number is not None else one.run.name)}</td>"
        f'<td class="mlfn-fit">{_state(one.run)}</td><td class="mlfn-value">{_text(in_a_line(one.run.params))}</td>'
        f'<td class="mlfn-value">{_text(_scores(one))}</td><td class="mlfn-end">{_text(_spent(one.run))}</td></tr>'
        for one in run.below
    ]
    return _table(rows) + _and_more(run.more_below)


def _scores(one: Below) -> str:
    return ", ".join(f"{name}={value:.5g}" for name, value in one.scores[:MOST_SCORES])


def _error(run: Snapshot) -> str:
    text = run.traceback or run.failure
    return f'<pre class="mlfn-error mlfn-failed">{_text(text)}</pre>' if text else ""


def _attempts(attempts: Sequence[Attempt]) -> str:
    if len(attempts) < 2:
        return ""
    rows = [
        f"<tr>{_key(str(one.attempt))}<td>{_text(clean(str(one.state)))}"
        f"{_text(': ' + clean(str(one.reason)) if one.reason else '')}</td>"
        f'<td class="mlfn-soft">{_text(one.failure or "")}</td><td class="mlfn-end">{_text(_attempt_time(one))}</td></tr>'
        for one in attempts[-MOST_ITEMS:]
    ]
    return _table(rows)


def _attempt_time(one: Attempt) -> str:
    if one.started is None:
        return ""
    return duration(one.ended - one.started, exact=True) if one.ended is not None else f"since {moment(one.started)}"


def _log_title(run: Snapshot) -> str:
    return f"Log, the last {len(run.log)} lines of {amount(run.log_size)}" if len(run.log) > 1 else "Log"


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(_text(line) for line in lines)


def _table(rows: Sequence[str], head: str = "") -> str:
    return f"<table>{head}<tbody>{''.join(rows)}</tbody></table>" if rows else ""


def _and_more(count: int) -> str:
    return f'<div class="mlfn-soft">and {count} more</div>' if count > 0 else ""


def _scale(low: float, high: float) -> Callable[[float], float]:
    room = _HEIGHT - 6
    # Halved, so that the span of two huge numbers is still a number.
    span = high / 2 - low / 2
    return (lambda _: room / 2) if span == 0 else (lambda value: room * ((value / 2 - low / 2) / span))


def _stretches(points: Sequence[tuple[float, float] | None]) -> Iterable[list[tuple[float, float]]]:
    stretch: list[tuple[float, float]] = []
    for point in points:
        if point is None:
            yield stretch
            stretch = []
        else:
            stretch.append(point)
    yield stretch


def _local(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=timezone.utc).astimezone()


def _text(text: str) -> str:
    return escape(clean(text))
