"""Parallel coordinates of a sweep as one SVG: no library, no script, dark and light."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from mlfn.host.frozen import frozen
from mlfn.sweep.conditions.grammar import Selector, parse_selector
from mlfn.sweep.results.scales import Axis, axis_of, cut_end, cut_start, legible, number_of
from mlfn.sweep.results.table import Table, are_different, evenly

MOST_LINES = 1000
_STEP, _HEIGHT = 132, 300  # between two axes, and the length of one, in pixels
_LEFT, _TOP, _RIGHT, _BOTTOM = 110, 46, 84, 18
_WIDTH = 1000  # from the first axis to the last, in units that are stretched
_CHARACTER = 7  # how wide one is, in pixels, or a little less
_SHADES = 8

# From the worst to the best: away from the paper, be it light or dark.
_LIGHT = ("#ccd3da", "#b3c4cd", "#93b8c4", "#6fa8bd", "#4b93b5", "#3079a8", "#215c94", "#16407a")
_DARK = ("#3b444d", "#41535f", "#436876", "#43808f", "#4a9aa9", "#5fb5c0", "#86d0d2", "#bdeae0")

STYLE = (
    ".mlfn-lines{display:block;max-width:none;font:12px/1.4 system-ui,-apple-system,'Segoe UI',sans-serif}"
    ".mlfn-lines path{fill:none;stroke-width:1.3;stroke-opacity:.75;vector-effect:non-scaling-stroke}"
    ".mlfn-lines path:hover{stroke-width:4;stroke-opacity:1}"
    ".mlfn-lines line{stroke:light-dark(#8a939c,#79838d)}"
    ".mlfn-lines rect{fill:light-dark(#fff,#16191d);pointer-events:none}"
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


@frozen
class Picture:
    """The drawing, and notes to show below it."""

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
    return None if lines is None else Picture(_svg(table, lines), lines.notes)


@frozen
class Lines:
    """One line a child across one axis a parameter and selected metric.

    `shown` are rows of the table, in its order; `measured` is the axis that gives the colour, `rising` whether its top
    is best; `best` the row of the best child.
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
    """Return the lines to draw; the first metric gives the colour, without a selector the first number reported."""
    found = [(one, name) for one in _selectors(table, select) if (name := _column(table, one)) is not None]
    varied = [name for name in table.params if are_different(table.columns[name])]
    if not found or not varied or len(table) < 2:
        return None
    selector, metric = found[0]
    first = [number_of(value) for value in table.columns[metric]]
    if all(number is None for number in first):
        return None
    rising = selector.direction == "max"
    turned = [-math.inf if number is None else number if rising else -number for number in first]
    order = sorted(range(len(table)), key=turned.__getitem__)
    numbers = table.columns["iteration"]
    row = numbers.index(best) if best in numbers else None
    shown = _thinned(order, most, keep=row)
    axes = [_axis(table, name, shown) for name in varied]
    axes += [_axis(table, name, shown, log=one.direction == "min") for one, name in found]
    notes = _notes(table, metric, varied, len(shown), row)
    return Lines(tuple(axes), tuple(shown), axes[len(varied)], rising, row, notes)


def _svg(table: Table, lines: Lines) -> str:
    """Return the drawing, as wide as there is room: the lines are stretched, texts and strokes are not."""
    least = _LEFT + _STEP * (len(lines.axes) - 1) + _RIGHT
    height = _TOP + _HEIGHT + _BOTTOM
    groups: dict[str, list[str]] = {"none": [], **{f"s{shade}": [] for shade in range(_SHADES)}, "best": []}
    for at, row in enumerate(lines.shown):
        groups["best" if row == lines.best else _shade(lines.share(at))].append(_line(table, lines, at))
    drawn = "".join(
        f'<g class="{name}" stroke="#6b7f95" fill="none">{"".join(found)}</g>'
        for name, found in groups.items()
        if found
    )
    rules = "".join(_rule(_across(lines, place) / _WIDTH, axis) for place, axis in enumerate(lines.axes))
    label = f"Parallel coordinates of {len(lines.shown)} children"
    return (
        f'<svg class="mlfn-lines" xmlns="http://www.w3.org/2000/svg" width="100%" height="{height}" style="width:100%;'
        f'min-width:{least}px;height:{height}px;box-sizing:border-box;padding:0 {_RIGHT}px 0 {_LEFT}px;overflow:visible" '
        f'role="img" aria-label="{label}"><svg y="{_TOP}" width="100%" height="{_HEIGHT}" style="width:100%;height:{_HEIGHT}px;'
        f'overflow:visible" viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none">{drawn}</svg>{rules}</svg>'
    )


def _across(lines: Lines, place: int) -> float:
    return round(_WIDTH * place / (len(lines.axes) - 1), 1)


def _shade(share: float | None) -> str:
    return "none" if share is None else f"s{min(_SHADES - 1, int(share * _SHADES))}"


def _line(table: Table, lines: Lines, at: int) -> str:
    row = lines.shown[at]
    points = "L".join(
        f"{_across(lines, place):g} {_HEIGHT * (1 - axis.places[at]):.4g}" for place, axis in enumerate(lines.axes)
    )
    hint = [f"child {table.columns['iteration'][row]}, {table.columns['state'][row]}"]
    hint += [f"{axis.name} = {axis.texts[at]}" for axis in lines.axes]
    return f'<path d="M{points}"><title>{escape(chr(10).join(hint))}</title></path>'


def _rule(share: float, axis: Axis) -> str:
    """Return an axis; each of its labels has a plate behind it, so that no line goes through a text."""
    x = f"{100 * share:.6g}%"
    ticks = "".join(_tick(x, _y(at), cut_end(text, 14)) for at, text in axis.ticks)
    return (
        f'{ticks}<line x1="{x}" x2="{x}" y1="{_TOP}" y2="{_TOP + _HEIGHT}"/>'
        f'<text class="name" x="{x}" y="{_TOP - 20}" text-anchor="middle">{escape(cut_start(axis.title, 19))}'
        f"<title>{escape(axis.title)}</title></text>"
    )


def _tick(x: str, y: float, text: str) -> str:
    wide = _CHARACTER * len(text) + 6
    return (
        f'<rect x="{x}" y="{y - 8:g}" width="{wide:g}" height="16" transform="translate({-wide - 4:g} 0)"/>'
        f'<line x1="{x}" x2="{x}" y1="{y - 0.5:g}" y2="{y + 0.5:g}" transform="translate(-2 0)" stroke-width="4"/>'
        f'<text x="{x}" dx="-7" y="{y + 4:g}" text-anchor="end">{escape(text)}</text>'
    )


def _selectors(table: Table, select: str | Sequence[str] | None) -> list[Selector]:
    texts = [select] if isinstance(select, str) else list(select or table.results[:1])
    return [parse_selector(text) if select else Selector("max", text.removeprefix("result.")) for text in texts]


def _column(table: Table, selector: Selector) -> str | None:
    return next((name for name in (f"result.{selector.name}", selector.name) if name in table.results), None)


def _axis(table: Table, name: str, shown: Sequence[int], *, log: bool = True) -> Axis:
    return axis_of(legible(name), [table.columns[name][row] for row in shown], log=log)


def _thinned(order: Sequence[int], most: int, *, keep: int | None) -> list[int]:
    """Return rows evenly from the worst to the best, both ends and `keep` among them; in the order of the rows."""
    kept = evenly(order, most)
    return sorted(kept if keep is None or keep in kept else [*kept[1:], keep])


def _notes(table: Table, metric: str, varied: Sequence[str], shown: int, best: int | None) -> tuple[str, ...]:
    notes = []
    if best is not None:
        axes = [_axis(table, name, [best]) for name in (*varied, metric)]
        values = ", ".join(f"{axis.name} = {axis.texts[0]}" for axis in axes)
        notes.append(f"Best: child {table.columns['iteration'][best]}, {values}.")
    if shown < len(table):
        notes.append(f"{shown:,} of {len(table):,} children are drawn, evenly from the worst to the best.")
    without = sum(number_of(value) is None for value in table.columns[metric])
    if without:
        notes.append(f"Dashed: {without:,} without {legible(metric)}.")
    same = [name for name in table.params if name not in varied]
    if same:
        notes.append(f"The same for all: {', '.join(map(legible, same))}.")
    return tuple(notes)


def _y(share: float) -> float:
    return round(_TOP + _HEIGHT * (1 - share), 1)
