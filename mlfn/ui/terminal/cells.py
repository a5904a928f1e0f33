"""Texts of so many columns of a terminal: a wide character takes two."""

from __future__ import annotations


def taken(text: str) -> int:
    """Return how many columns a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def shortened(text: str, width: int) -> str:
    """Return a text of at most so many columns, with a mark where some of it is left out."""
    if taken(text) <= width:
        return text
    from rich.cells import set_cell_size

    return f"{set_cell_size(text, max(0, width - 1)).rstrip()}…"


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Return a text of exactly so many columns."""
    text = shortened(text.strip(), width)
    space = " " * (width - taken(text))
    return space + text if right else text + space
