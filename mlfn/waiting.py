"""Who has a part in waiting for a run: nobody, until a layer above says who."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlfn.client import Client
    from mlfn.handle import Run
    from mlfn.spec.record import RunRecord
    from mlfn.ticket import Ticket

PATIENCE = 0.5
"""Seconds that a wait lasts before anybody is told of it."""

observer: Callable[[Run[Any]], AbstractContextManager[None]] | None = None
"""What surrounds a wait longer than `PATIENCE`: a progress line in a terminal."""

conductor: Callable[[Client, RunRecord], Ticket | None] | None = None
"""Who becomes the driver of a stored sweep that has none."""
