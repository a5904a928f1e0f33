"""What only a terminal gets: drawn tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


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
    console = Console(no_color=not color, highlight=False)
    room = console.width - sum(max(map(len, cells)) + 1 for cells in list(zip(columns, *rows, strict=True))[:-1])
    for row in rows:
        cells = [Text(cell, style=styles.get((column, cell), "")) for column, cell in enumerate(row)]
        # What is last is the longest, and the one of which a part will do.
        cells[-1].truncate(max(room, len(columns[-1])), overflow="ellipsis")
        table.add_row(*cells)
    console.print(table)
