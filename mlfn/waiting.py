"""Who has a part in waiting for a run: nobody, until a layer above says who."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from mlfn.errors import ParameterError

if TYPE_CHECKING:
    from mlfn.client import Client
    from mlfn.handle import Run
    from mlfn.spec.record import RunRecord
    from mlfn.ticket import Ticket

PATIENCE = 0.5
"""Seconds that a wait lasts before anybody is told of it."""

_LONGEST = 1e8  # three years; the system's own clocks of a wait end soon after

observer: Callable[[Run[Any]], AbstractContextManager[None]] | None = None
"""What surrounds a wait longer than `PATIENCE`: a progress line in a terminal."""

conductor: Callable[[Client, RunRecord], Ticket | None] | None = None
"""Who becomes the driver of a stored sweep that has none."""


def seconds(call: str, timeout: Any) -> float | None:
    """Return how long to wait at most, None without end; refuse by the name of the call what is no number of seconds."""
    import numbers  # the package itself is imported without it

    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, numbers.Real) or timeout != timeout:  # noqa: PLR0124 - NaN
        raise ParameterError(
            f"{call}(timeout={timeout!r}): a number of seconds is allowed, or None to wait until the end."
        )
    return float(timeout) if timeout <= _LONGEST else None
