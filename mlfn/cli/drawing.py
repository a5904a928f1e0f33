"""What only a terminal gets: drawn tables and a progress line; the only file that imports rich."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from mlfn.handle import Run

_REDRAW = 0.1


def draw_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, styles: Mapping[tuple[int, str], str], color: bool
) -> None:
    """Draw a table that fits the terminal; `styles` says which text in which column is in which colour."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="ellipsis", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell, style=styles.get((column, cell), "")) for column, cell in enumerate(row)))
    Console(no_color=not color, highlight=False).print(table)


def watch(run: Run[Any], *, color: bool) -> None:
    """Show one line on stderr until the run ends, then take it away."""
    from rich.console import Console
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.text import Text

    console = Console(stderr=True, no_color=not color, highlight=False)
    begun = time.monotonic()
    spinner = Spinner("dots")
    with Live(spinner, console=console, transient=True, refresh_per_second=10):
        while not run.wait(_REDRAW):
            spinner.update(text=Text(progress_line(run, time.monotonic() - begun)))


def progress_line(run: Run[Any], elapsed: float) -> str:
    """Return what is known of a run in one line."""
    words = [run.id[:8], run.name, str(run.state), f"{elapsed:.0f} s"]
    said = run.progress
    if said:
        total = said.get("total")
        words.append(f"{said['done']}/{total}" if total else str(said["done"]))
        words.append(str(said.get("text") or ""))
    return "  ".join(word for word in words if word)
