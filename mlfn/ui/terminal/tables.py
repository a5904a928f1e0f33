"""Tables that fit a terminal: what makes a run known stays whole, all else gives way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from mlfn.errors import harmless
from mlfn.ui.terminal.cells import padded, taken
from mlfn.ui.text import Column, Way, heading, state_text

_GAP = "  "
_LEAST = 12  # of a column that is cut


def table_lines(columns: Sequence[Column], width: int) -> Iterator[str]:
    """Return a table in lines of at most so many columns, unless what is never cut takes more."""
    shown = [replace(column, cells=[harmless(cell) for cell in column.brief or column.cells]) for column in columns]
    fitted = _fitted(shown, width)
    yield heading(_GAP.join(padded(column.name, wide) for column, wide in fitted).rstrip())
    for at in range(len(columns[0].cells)):
        cells = []
        for column, wide in fitted:
            text = padded(column.cells[at], wide)
            cells.append(text.replace(column.cells[at], state_text(column.cells[at]), 1) if column.colored else text)
        yield _GAP.join(cells).rstrip()


def _fitted(columns: Sequence[Column], width: int) -> list[tuple[Column, int]]:
    """Return the columns to show with their widths: those that are the same in each row are left out first."""
    may_go = [column for column in columns if column.way is Way.GOES]
    same = [column for column in may_go if len(column.cells) > 1 and len(set(column.cells)) == 1]
    shown = _without(same, columns, _whole, width)
    shown = _without(may_go, shown, _least, width)
    shown = _without([column for column in columns if column.way is Way.CUT], shown, _least, width)
    return list(zip(shown, _shared(shown, width), strict=True))


def _without(
    some: Sequence[Column], columns: Sequence[Column], measure: Callable[[Column], int], width: int
) -> Sequence[Column]:
    """Leave out the last of some columns, and so on, while all of them take more than there is."""
    for one in reversed(some):
        if _needed(columns, measure) <= width:
            break
        columns = [column for column in columns if column is not one]
    return columns


def _shared(columns: Sequence[Column], width: int) -> list[int]:
    """Return widths: those that are cut share what is left, none of them more than it needs."""
    widths = [_least(column) for column in columns]
    spare = width - _needed(columns, _least)
    while spare > 0:
        short = [at for at, column in enumerate(columns) if widths[at] < _whole(column)]
        if not short:
            break
        narrowest = min(short, key=widths.__getitem__)
        widths[narrowest] += 1
        spare -= 1
    return widths


def _needed(columns: Sequence[Column], measure: Callable[[Column], int]) -> int:
    return sum(measure(column) for column in columns) + len(_GAP) * (len(columns) - 1)


def _whole(column: Column) -> int:
    return max(map(taken, (column.name, *column.cells)))


def _least(column: Column) -> int:
    return min(_LEAST, _whole(column)) if column.way is Way.CUT else _whole(column)
