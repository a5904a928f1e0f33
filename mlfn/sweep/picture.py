"""Parallel coordinates of a sweep as one SVG: no library, no script, dark and light."""

from __future__ import annotations

from mlfn.sweep.table import Table


def parallel_coordinates(table: Table, select: str | None, best: int | None) -> str | None:
    """Return an HTML page; None where there is nothing to draw."""
    return None
