"""The view model of a sweep's description: its size, its options and its first children."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from mlfn.host.frozen import frozen
from mlfn.sweep.description import Sweep
from mlfn.sweep.options import SweepOptions
from mlfn.sweep.results.scales import text_of

MOST_CELLS = 10
_MOST_SPACES = 50
_LONGEST_SPACE = 200


@frozen
class DescriptionView:
    """A described sweep: (iteration, texts by key) of its first children, or the spaces that are searched."""

    name: str
    count: str
    options: tuple[tuple[str, str], ...] = ()
    keys: tuple[str, ...] = ()
    cells: tuple[tuple[int, Mapping[str, str]], ...] = ()
    more: int = 0
    spaces: tuple[tuple[str, str], ...] = ()


def view_description(sweep: Sweep[Any]) -> DescriptionView:
    """Return the view of a description; no more children are worked out than are shown."""
    size, chooser = sweep.size, sweep.chooser
    count = "children from an iterable" if size is None else "1 child" if size == 1 else f"{size:,} children"
    options = {name: value for name, value in vars(sweep.options).items() if value != getattr(SweepOptions, name)}
    cells = [] if chooser.cells is None else list(islice(zip(chooser.cells.iterations, chooser.cells), MOST_CELLS))
    spaces = {} if cells else getattr(chooser, "spaces", {})
    return DescriptionView(
        sweep.function.__mlfn_name__,
        count,
        tuple((name, ", ".join(map(str, v)) if isinstance(v, tuple) else str(v)) for name, v in options.items()),
        tuple(dict.fromkeys(key for _, cell in cells for key in cell)),
        tuple((number, {key: text_of(value) for key, value in cell.items()}) for number, cell in cells),
        (size or 0) - len(cells) if cells else 0,
        tuple((key, repr(space)[:_LONGEST_SPACE]) for key, space in islice(spaces.items(), _MOST_SPACES)),
    )
