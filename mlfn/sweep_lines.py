"""A sweep's lines in a terminal: how far it is, and a table of a few children, laid out for the terminal's size.

Laid out here, not by a table of rich's, which would take the process that drives the sweep several times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mlfn.cards import duration
from mlfn.snapshot import clean
from mlfn.spec.record import RunState
from mlfn.sweep_cards import best_text, counts, number, spent
from mlfn.sweep_snapshot import Row, SweepSnapshot

MOST_ROWS = 8
_BAR = 16
_LEAST_BAR = 6
_LONGEST_NAME = 32
_LEAST_CELL = 6  # of a parameter that is cut
_LONGEST_CELL = 32
_LEAST_HEAD = 8  # of a metric whose name is cut
_GAP = "  "

# What makes room on the first line, in this order: the bar gives way after the first few.
_GOES_FIRST = ("state", "word", "pace", "front")
_GOES_LAST = ("id", "cancelled", "pruned", "running", "elapsed", "failed", "name")


@dataclass(frozen=True)
class Head:
    """The first line: `bar` is how many columns it takes, 0 where there is none."""

    who: str
    bar: int
    counts: str
    elapsed: str


@dataclass(frozen=True)
class Line:
    """One line below it, in a style of rich's."""

    text: str
    style: str = ""


def head(sweep: SweepSnapshot, width: int) -> Head:
    """Return the first line for so many columns: what matters least gives way, when it will be over at the last."""
    parts = {"name": _cut(_flat(sweep.name), _LONGEST_NAME), "id": sweep.id[:8], "state": str(sweep.state)}
    parts |= {"word": "children", **counts(sweep), "elapsed": duration(sweep.run.elapsed, exact=False)}
    if sweep.state is not RunState.RUNNING:
        parts["as it is"] = parts.pop("state")
    least = _LEAST_BAR + 1 if sweep.total else 0
    steps = [("", least), *((key, least) for key in _GOES_FIRST), ("", 0), *((key, 0) for key in _GOES_LAST)]
    for key, spare in steps:
        parts.pop(key, None)
        made = _joined(parts)
        left = width - _taken(made)
        if left >= spare:
            return replace(made, bar=min(_BAR, left - 1) if spare else 0)
    return Head("", 0, _cut(_joined(parts).counts, max(1, width)), "")


def below(sweep: SweepSnapshot, width: int, height: int) -> list[Line]:
    """Return what stands below the first line, in at most so many lines: a table, or the best child alone."""
    best, working, failed = _chosen(sweep, height - 1)
    rows = [*best, *working, *failed]
    if rows and height > 1:
        table = _table(rows, sweep, width)
        if failed and failed[0].error:
            table.append(Line(_cut(f"    {_flat(failed[0].error)}", width), "red"))
        return table
    text = best_text(sweep)
    return [Line(_cut(f"  {_flat(text)}", width))] if text and height > 0 else []


def _joined(parts: dict[str, str]) -> Head:
    said = dict(parts)
    who = " ".join(said.pop(key) for key in ("name", "id", "state", "as it is") if key in said)
    elapsed, word = said.pop("elapsed", ""), said.pop("word", "")
    said["done"] = f"{said['done']} {word}".rstrip()
    return Head(who, 0, " · ".join(said.values()), elapsed)


def _taken(head: Head) -> int:
    from rich.cells import cell_len

    return sum(1 + cell_len(part) for part in (head.who, head.counts, head.elapsed) if part)


def _chosen(sweep: SweepSnapshot, lines: int) -> tuple[Sequence[Row], Sequence[Row], Sequence[Row]]:
    """Choose as many rows as there are lines for: half for the best, then what runs; the last that failed takes two."""
    has_failed = sweep.failed is not None and lines >= 4
    room = min(MOST_ROWS - has_failed, lines - 2 * has_failed)
    best = [row for row in sweep.rows if row.state is not RunState.FAILED or not has_failed]
    running = min(len(sweep.working), max(room // 2, room - len(best)))
    return (
        best[: max(0, room - running)],
        sweep.working[: max(0, running)],
        [sweep.failed] if has_failed and sweep.failed is not None else [],
    )


def _table(rows: Sequence[Row], sweep: SweepSnapshot, width: int) -> list[Line]:
    names = list(dict.fromkeys(item.name for row in rows for item in row.params))
    texts = [{item.name: item.text for item in row.params} for row in rows]
    params = [_Column.of(name, [text.get(name, "–") for text in texts], most=_LONGEST_CELL) for name in names]
    numbers = [
        _Column.of(
            str(selector).partition(".")[2],
            [number(row.values[at]) if at < len(row.values) else "–" for row in rows],
            right=True,
        )
        for at, selector in enumerate(sweep.select)
    ]
    child = _Column.of(
        "child",
        [f"{'* ' if sweep.select and row.iteration == sweep.best else ''}{row.iteration}" for row in rows],
        right=True,
    )
    state = _Column.of("state", [str(row.state) for row in rows])
    time = _Column.of("time", [spent(row, sweep.run.taken) for row in rows], right=True)
    columns = _fitted(child, state, params, numbers, time, width)
    styles = [_style(row, sweep) for row in rows]
    lines = [Line(_GAP.join(column.head for column in columns), "dim")]
    lines += [Line(_GAP.join(column.cells[at] for column in columns), style) for at, style in enumerate(styles)]
    return [Line(_cut(line.text.rstrip(), width), line.style) for line in lines]


def _style(row: Row, sweep: SweepSnapshot) -> str:
    if row.state is RunState.FAILED:
        return "red"
    return "bold" if sweep.select and row.iteration == sweep.best else ""


@dataclass(frozen=True)
class _Column:
    head: str
    cells: tuple[str, ...]
    width: int
    content: int  # how wide it is without its head
    right: bool = False

    @classmethod
    def of(cls, head: str, cells: Sequence[str], *, most: int = 1000, right: bool = False) -> _Column:
        from rich.cells import cell_len

        head, flat = _flat(head), [_flat(cell) for cell in cells]
        widths = [cell_len(cell) for cell in flat]
        wide = max(cell_len(head), *widths)
        return cls(head, tuple(flat), wide, max(widths), right).cut(min(wide, most))

    def cut(self, width: int) -> _Column:
        return _Column(
            _padded(self.head, width, right=self.right),
            tuple(_padded(cell, width, right=self.right) for cell in self.cells),
            width,
            self.content,
            self.right,
        )


def _fitted(
    child: _Column, state: _Column, params: list[_Column], numbers: list[_Column], time: _Column, width: int
) -> list[_Column]:
    """Cut parameters, and leave out what is in the middle, until it fits; child and first metric are whole."""
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
    """Return text for one line, with nothing in it that a terminal would obey."""
    return " ".join(clean(text).split())


def _cut(text: str, width: int) -> str:
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= width else f"{set_cell_size(text, max(0, width - 1))}…"


def _padded(text: str, width: int, *, right: bool) -> str:
    from rich.cells import cell_len

    text = _cut(text.strip(), width)
    space = " " * (width - cell_len(text))
    return space + text if right else text + space
