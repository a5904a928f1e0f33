"""Tables that fit a terminal."""

from __future__ import annotations

from mlfn.ui.text import STATE_COLORS, TextTable
from mlfn.ui.wording import harmless


def draw_table(table: TextTable, *, color: bool) -> None:
    """Draw a table on stdout, cut to the width of the terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for column in table.columns:
        drawn.add_column(column, overflow="ellipsis", no_wrap=True)
    console = Console(no_color=not color, highlight=False)
    rows = [[harmless(cell) for cell in row] for row in table.rows]
    widths = [max(map(len, cells)) + 1 for cells in zip(table.columns, *rows, strict=True)]
    room = console.width - sum(widths[:-1])
    for row in rows:
        cells = [Text(cell) for cell in row]
        if table.state is not None:
            cells[table.state].style = STATE_COLORS.get(row[table.state], "")
        # The last column is the longest, and a part of it is enough.
        cells[-1].truncate(max(room, len(table.columns[-1])), overflow="ellipsis")
        drawn.add_row(*cells)
    console.print(drawn)
