"""Parallel coordinates of a sweep as one SVG: no library, no script, dark and light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from mlfn.sweep.grammar import Selector, parse_selector
from mlfn.sweep.scales import Axis, axis_of, legible, number_of
from mlfn.sweep.table import Table

MOST_LINES = 1000
_STEP, _HEIGHT = 132, 300  # between two axes, and the length of one, in pixels
_LEFT, _TOP, _RIGHT, _BOTTOM = 74, 46, 84, 18
_SHADES = 8

# From the worst to the best: away from the paper, be it light or dark.
_LIGHT = ("#ccd3da", "#b3c4cd", "#93b8c4", "#6fa8bd", "#4b93b5", "#3079a8", "#215c94", "#16407a")
_DARK = ("#3b444d", "#41535f", "#436876", "#43808f", "#4a9aa9", "#5fb5c0", "#86d0d2", "#bdeae0")

STYLE = (
    ".mlfn-lines{display:block;max-width:none;font:12px/1.4 system-ui,-apple-system,'Segoe UI',sans-serif}"
    ".mlfn-lines path{fill:none;stroke-width:1.3;stroke-opacity:.75}"
    ".mlfn-lines path:hover{stroke-width:4;stroke-opacity:1}"
    ".mlfn-lines line{stroke:light-dark(#8a939c,#79838d)}"
    ".mlfn-lines text{fill:light-dark(#1f2328,#e4e7eb);stroke:light-dark(#fff,#16191d);stroke-width:3.5;"
    "stroke-linejoin:round;paint-order:stroke;pointer-events:none}"
    ".mlfn-lines .name{font-weight:600;pointer-events:auto}"
    ".mlfn-lines .none path{stroke:light-dark(#b3261e,#ff8f85);stroke-opacity:.4;stroke-dasharray:3 3}"
    ".mlfn-lines .best path{stroke:light-dark(#c2410c,#ffb35c);stroke-width:3.5;stroke-opacity:1}"
    + "".join(
        f".mlfn-lines .s{shade} path{{stroke:light-dark({light},{dark})}}"
        for shade, (light, dark) in enumerate(zip(_LIGHT, _DARK, strict=True))
    )
)
_PAGE = (
    ":root{color-scheme:light dark}body{margin:24px;background:light-dark(#fff,#16191d);color:light-dark(#1f2328,#e4e7eb);"
    "font:13px/1.5 system-ui,-apple-system,'Segoe UI',sans-serif}p{margin:4px 0;color:light-dark(#59636e,#9aa4af)}"
    "div{overflow-x:auto}"
)


@dataclass(frozen=True)
class Picture:
    """The drawing, and what is to be said of it."""

    svg: str
    notes: tuple[str, ...]


def parallel_coordinates(
    table: Table, select: str | Sequence[str] | None, best: int | None, *, title: str = "Parallel coordinates"
) -> str | None:
    """Return an HTML page; None where there is nothing to draw."""
    picture = draw(table, select, best)
    if picture is None:
        return None
    notes = "".join(f"<p>{escape(note)}</p>" for note in picture.notes)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(legible(title))}</title>'
        f"<style>{_PAGE}{STYLE}</style><div>{picture.svg}</div>{notes}</html>\n"
    )


def draw(
    table: Table, select: str | Sequence[str] | None, best: int | None, *, most: int = MOST_LINES
) -> Picture | None:
    """Return the drawing, with `most` lines at most; None where there is nothing to draw."""
    lines = arrange(table, select, best, most=most)
    return None if lines is None else Picture(_Canvas(table, lines).svg(), lines.notes)


@dataclass(frozen=True)
class Lines:
    """One line a child across one axis a parameter and selected metric.

    `shown` are the rows of the table, in the order of drawing, the best at the end; `measured` is the axis that gives
    the colour, `rising` whether its top is best; `best` the row of the best child.
    """

    axes: tuple[Axis, ...]
    shown: tuple[int, ...]
    measured: Axis
    rising: bool
    best: int | None
    notes: tuple[str, ...]

    def share(self, at: int) -> float | None:
        """Return how good the line at `at` is, from 0 to 1; None where it has no number."""
        if self.measured.missing is not None and self.measured.texts[at] == "none":
            return None
        return self.measured.places[at] if self.rising else 1 - self.measured.places[at]


def arrange(
    table: Table, select: str | Sequence[str] | None, best: int | None, *, most: int = MOST_LINES
) -> Lines | None:
    """Return what is to be drawn; the first metric gives the colour, without a selector the first number reported."""
    found = [(one, name) for one in _selectors(table, select) if (name := _column(table, one)) is not None]
    varied = [name for name in table.params if _varies(table.columns[name])]
    if not found or not varied or len(table) < 2:
        return None
    selector, metric = found[0]
    first = [number_of(value) for value in table.columns[metric]]
    if all(number is None for number in first):
        return None
    rising = selector.direction == "max"
    order = sorted(range(len(table)), key=lambda row: _merit(first[row], rising=rising))
    row = _row_of(table, best)
    shown = _thinned(order, most, keep=row)
    axes = [_axis(table, name, shown) for name in varied]
    axes += [_axis(table, name, shown, log=one.direction == "min") for one, name in found]
    notes = _notes(table, metric, varied, shown, best)
    return Lines(tuple(axes), tuple(shown), axes[len(varied)], rising, row, notes)


class _Canvas:
    """Lines as SVG."""

    def __init__(self, table: Table, lines: Lines) -> None:
        self._table, self._lines, self._axes = table, lines, lines.axes

    def svg(self) -> str:
        shown = self._lines.shown
        width = _LEFT + _STEP * (len(self._axes) - 1) + _RIGHT
        height = _TOP + _HEIGHT + _BOTTOM
        groups: dict[str, list[str]] = {"none": [], **{f"s{shade}": [] for shade in range(_SHADES)}, "best": []}
        for at, row in enumerate(shown):
            groups["best" if row == self._lines.best else self._shade(at)].append(self._line(at, row))
        lines = "".join(
            f'<g class="{name}" stroke="#6b7f95" fill="none">{"".join(found)}</g>'
            for name, found in groups.items()
            if found
        )
        rules = "".join(self._rule(place, axis) for place, axis in enumerate(self._axes))
        said = f"Parallel coordinates of {len(shown)} children"
        return (
            f'<svg class="mlfn-lines" xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'style="width:{width}px;height:{height}px" viewBox="0 0 {width} {height}" role="img" aria-label="{said}">{lines}{rules}</svg>'
        )

    def _shade(self, at: int) -> str:
        share = self._lines.share(at)
        return "none" if share is None else f"s{min(_SHADES - 1, int(share * _SHADES))}"

    def _line(self, at: int, row: int) -> str:
        points = "L".join(f"{_x(place)} {_y(axis.places[at])}" for place, axis in enumerate(self._axes))
        said = [f"child {self._table.columns['iteration'][row]}, {self._table.columns['state'][row]}"]
        said += [f"{axis.name} = {axis.texts[at]}" for axis in self._axes]
        return f'<path d="M{points}"><title>{escape(chr(10).join(said))}</title></path>'

    def _rule(self, place: int, axis: Axis) -> str:
        x = _x(place)
        ticks = "".join(
            f'<line x1="{x - 4}" x2="{x}" y1="{_y(at)}" y2="{_y(at)}"/>'
            f'<text x="{x - 7}" y="{_y(at) + 4:g}" text-anchor="end">{escape(_cut(text, 14))}</text>'
            for at, text in axis.ticks
        )
        name = f"{axis.name} (log)" if axis.is_log else axis.name
        return (
            f'<line x1="{x}" x2="{x}" y1="{_TOP}" y2="{_TOP + _HEIGHT}"/>{ticks}'
            f'<text class="name" x="{x}" y="{_TOP - 20}" text-anchor="middle">{escape(_cut(name, 19, end=True))}'
            f"<title>{escape(name)}</title></text>"
        )


def _selectors(table: Table, select: str | Sequence[str] | None) -> list[Selector]:
    texts = [select] if isinstance(select, str) else list(select or table.results[:1])
    return [parse_selector(text) if select else Selector("max", text.removeprefix("result.")) for text in texts]


def _column(table: Table, selector: Selector) -> str | None:
    return next((name for name in (f"result.{selector.name}", selector.name) if name in table.results), None)


def _varies(values: Sequence[Any]) -> bool:
    first = values[0] if values else None
    try:
        return any(type(value) is not type(first) or bool(value != first) for value in values)
    except Exception:  # noqa: BLE001 - values of any type, an array among them
        return True


def _axis(table: Table, name: str, shown: Sequence[int], *, log: bool = True) -> Axis:
    values = table.columns[name]
    # In the order of the children, for options to stand as they were listed.
    listed = sorted(range(len(shown)), key=shown.__getitem__)
    axis = axis_of(legible(name), [values[shown[at]] for at in listed], log=log)
    back = [0] * len(shown)
    for place, at in enumerate(listed):
        back[at] = place
    return Axis(
        axis.name,
        tuple(axis.places[place] for place in back),
        tuple(axis.texts[place] for place in back),
        axis.ticks,
        axis.missing,
        axis.is_log,
    )


def _merit(number: float | None, *, rising: bool) -> tuple[bool, float]:
    return (False, 0.0) if number is None else (True, number if rising else -number)


def _thinned(order: Sequence[int], most: int, *, keep: int | None) -> list[int]:
    """Return rows evenly from the worst to the best, both ends and `keep` among them, in that order."""
    if len(order) <= most:
        return list(order)
    kept = [order[round(place * (len(order) - 1) / (most - 1))] for place in range(most)]
    return kept if keep is None or keep in kept else [*kept[1:], keep]


def _row_of(table: Table, iteration: int | None) -> int | None:
    numbers = table.columns["iteration"]
    return numbers.index(iteration) if iteration in numbers else None


def _notes(table: Table, metric: str, varied: Sequence[str], shown: Sequence[int], best: int | None) -> tuple[str, ...]:
    notes = []
    row = _row_of(table, best)
    if row is not None:
        axes = [axis_of(legible(name), [table.columns[name][row]]) for name in (*varied, metric)]
        notes.append(f"Best: child {best}, {', '.join(f'{axis.name} = {axis.texts[0]}' for axis in axes)}.")
    if len(shown) < len(table):
        notes.append(f"{len(shown):,} of {len(table):,} children are drawn, evenly from the worst to the best.")
    without = sum(number_of(value) is None for value in table.columns[metric])
    if without:
        notes.append(f"Dashed: {without:,} without {legible(metric)}.")
    same = [name for name in table.params if name not in varied]
    if same:
        notes.append(f"The same for all: {', '.join(map(legible, same))}.")
    return tuple(notes)


def _cut(text: str, most: int, *, end: bool = False) -> str:
    if len(text) <= most:
        return text
    return f"…{text[1 - most :]}" if end else f"{text[: most - 1]}…"


def _x(place: int) -> int:
    return _LEFT + _STEP * place


def _y(share: float) -> float:
    return round(_TOP + _HEIGHT * (1 - share), 1)
