"""A sweep's lines in a terminal: how far it is, and a table of a few children, laid out for the terminal's size.

Laid out here: a table of rich's takes several times as long, in the process that controls the sweep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mlfn.host.frozen import frozen
from mlfn.spec.record import RunState
from mlfn.ui.terminal.cells import padded, shortened, taken
from mlfn.ui.views.sweep import ChildView, SweepView
from mlfn.ui.wording import clean, duration, joined, number

MOST_ROWS = 8
_BAR = 16
_LEAST_BAR = 6
_LONGEST_NAME = 32
_LEAST_CELL = 6  # of a parameter that is cut
_LONGEST_CELL = 32
_LEAST_HEAD = 8  # of a metric whose name is cut
_GAP = "  "

# Parts of the first line that are left out for lack of room, in this order; after the first few, the bar is.
_GOES_FIRST = ("state", "noun", "pace", "front")
_GOES_LAST = ("id", "cancelled", "pruned", "running", "elapsed", "failed", "name")


@frozen
class Head:
    """The first line: `bar` is how many columns it takes, 0 where there is none."""

    who: str
    bar: int
    counts: str
    elapsed: str


@frozen
class Line:
    """One line below it, in a style of rich's."""

    text: str
    style: str = ""


def head(sweep: SweepView, width: int) -> Head:
    """Return the first line for so many columns: the least important parts are left out first, the time left at last."""
    parts = {"name": shortened(_flat(sweep.run.name), _LONGEST_NAME), "id": sweep.run.id[:8], "state": str(sweep.state)}
    parts |= {"noun": "children", **sweep.counted(), "elapsed": duration(sweep.run.elapsed, exact=False)}
    if sweep.state is not RunState.RUNNING:
        parts["kept state"] = parts.pop("state")
    least = _LEAST_BAR + 1 if sweep.total else 0
    steps = [("", least), *((key, least) for key in _GOES_FIRST), ("", 0), *((key, 0) for key in _GOES_LAST)]
    for key, spare in steps:
        parts.pop(key, None)
        made = _joined(parts)
        left = width - _taken(made)
        if left >= spare:
            return replace(made, bar=min(_BAR, left - 1) if spare else 0)
    return Head("", 0, shortened(_joined(parts).counts, max(1, width)), "")


def below(sweep: SweepView, width: int, height: int) -> list[Line]:
    """Return what stands below the first line, in at most so many lines: a table, or the best child alone."""
    rows = _chosen(sweep, height - 1)
    if rows and height > 1:
        table = _table(rows, sweep, width)
        if rows[-1] is sweep.failed and rows[-1].error:
            table.append(Line(shortened(f"    {_flat(rows[-1].error)}", width), "red"))
        return table
    text = sweep.best_text
    return [Line(shortened(f"  {_flat(text)}", width))] if text and height > 0 else []


def _joined(parts: dict[str, str]) -> Head:
    counts = dict(parts)
    who = " ".join(counts.pop(key) for key in ("name", "id", "state", "kept state") if key in counts)
    elapsed, noun = counts.pop("elapsed", ""), counts.pop("noun", "")
    counts["done"] = f"{counts['done']} {noun}".rstrip()
    return Head(who, 0, joined(counts.values()), elapsed)


def _taken(head: Head) -> int:
    return sum(1 + taken(part) for part in (head.who, head.counts, head.elapsed) if part)


def _chosen(sweep: SweepView, lines: int) -> list[ChildView]:
    """Choose as many rows as there are lines for: half for the best, then running ones; the last failed one takes two."""
    failed = [sweep.failed] if sweep.failed is not None and lines >= 4 else []
    room = min(MOST_ROWS - len(failed), lines - 2 * len(failed))
    best = [row for row in sweep.rows if row.state is not RunState.FAILED or not failed]
    running = min(len(sweep.working), max(room // 2, room - len(best)))
    return [*best[: max(0, room - running)], *sweep.working[: max(0, running)], *failed]


def _table(rows: Sequence[ChildView], sweep: SweepView, width: int) -> list[Line]:
    names = list(dict.fromkeys(item.name for row in rows for item in row.params))
    texts = [{item.name: item.text for item in row.params} for row in rows]
    params = [_Column.of(name, [text.get(name, "–") for text in texts], most=_LONGEST_CELL) for name in names]
    numbers = []
    for at, selector in enumerate(sweep.select):
        values = [number(row.values[at]) if at < len(row.values) else "–" for row in rows]
        numbers.append(_Column.of(str(selector).partition(".")[2], values, right=True))
    best = sweep.best if sweep.select else None
    child = _Column.of("child", [f"{'* ' * (row.iteration == best)}{row.iteration}" for row in rows], right=True)
    state = _Column.of("state", [str(row.state) for row in rows])
    time = _Column.of("time", [row.spent(sweep.run.taken) for row in rows], right=True)
    columns = _fitted(child, state, params, numbers, time, width)
    lines = [Line(_GAP.join(column.head for column in columns), "dim")]
    for at, row in enumerate(rows):
        style = "red" if row.state is RunState.FAILED else "bold" if row.iteration == best else ""
        lines.append(Line(_GAP.join(column.cells[at] for column in columns), style))
    return [Line(shortened(line.text.rstrip(), width), line.style) for line in lines]


@frozen
class _Column:
    head: str
    cells: tuple[str, ...]
    width: int
    content: int  # how wide it is without its head
    right: bool = False

    @classmethod
    def of(cls, head: str, cells: Sequence[str], *, most: int = 1000, right: bool = False) -> _Column:
        head, flat = _flat(head), [_flat(cell) for cell in cells]
        widths = [taken(cell) for cell in flat]
        wide = max(taken(head), *widths)
        return cls(head, tuple(flat), wide, max(widths), right).cut(min(wide, most))

    def cut(self, width: int) -> _Column:
        head, *cells = (padded(text, width, right=self.right) for text in (self.head, *self.cells))
        return replace(self, head=head, cells=tuple(cells), width=width)


def _fitted(
    child: _Column, state: _Column, params: list[_Column], numbers: list[_Column], time: _Column, width: int
) -> list[_Column]:
    """Cut parameters, and leave out columns in the middle, until the table fits; child and first metric stay whole."""
    whole = [child, state, *params, *numbers, time]
    if sum(column.width + len(_GAP) for column in whole) - len(_GAP) <= width:
        return whole
    numbers = [column.cut(min(column.width, max(column.content, _LEAST_HEAD))) for column in numbers]
    for before, after in (
        ([child, state], [*numbers, time]),
        ([child], [*numbers, time]),
        ([child], numbers),
        ([child], numbers[:1]),
    ):
        room = width - sum(column.width + len(_GAP) for column in (*before, *after)) + len(_GAP)
        cut = _cut_params(params, room)
        if room >= 0 and (cut or not params):
            return [*before, *cut, *after]
    return [child, *numbers[:1]]


def _cut_params(params: list[_Column], room: int) -> list[_Column]:
    """Return the first parameters, as many as have room for a part of them at least, and a mark where some are left out."""
    for count in range(len(params), 0, -1):
        shown, mark = params[:count], [] if count == len(params) else [_Column.of("…", ["…"] * len(params[0].cells))]
        left = room - sum(column.width for column in mark) - len(_GAP) * (count + len(mark))
        if left >= sum(min(column.width, _LEAST_CELL) for column in shown):
            most = _LEAST_CELL
            while most < _LONGEST_CELL and sum(min(column.width, most + 1) for column in shown) <= left:
                most += 1
            return [*(column.cut(min(column.width, most)) for column in shown), *mark]
    return []


def _flat(text: str) -> str:
    """Return text for one line, without control characters."""
    return " ".join(clean(text).split())
