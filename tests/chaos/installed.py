"""The place, installed for a test as a package's is: by an entry point."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.packages import installed

ENTRY_POINTS = "[mlfn.places]\nchaos = tests.chaos.place:ChaosPlace\n"


@contextmanager
def chaos_installed(folder: Path) -> Iterator[Path]:
    """Have the place `chaos` while the block runs."""
    with installed(folder, "chaos_place", ENTRY_POINTS, {}) as site:
        yield site
