"""Who is told while this process waits for a run: nobody, until a layer above says who."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlfn.handle import Run

PATIENCE = 0.5
"""Seconds that a wait lasts before anybody is told of it."""

observer: Callable[[Run[Any]], AbstractContextManager[None]] | None = None
"""What surrounds a wait longer than `PATIENCE`: a progress line in a terminal."""
