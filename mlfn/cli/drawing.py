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
    for row in rows:
        table.add_row(*(Text(cell, style=styles.get((column, cell), "")) for column, cell in enumerate(row)))
    Console(no_color=not color, highlight=False).print(table)
