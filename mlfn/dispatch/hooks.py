"""Hooks that higher rooms install: progress display, sweep resumption, handles of sweeps.

`mlfn/__init__.py` installs them, so that waiting for a run and finding one need not import what is above.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from mlfn.errors import ParameterError

PATIENCE = 0.5
"""Seconds that a wait lasts before progress is displayed."""

_LONGEST = 1e8  # three years; the system's own clocks of a wait end soon after

# What they take and return are types of the rooms above: Any is as much as this room can say of them.
progress_display: Callable[[Any], AbstractContextManager[None]] | None = None
"""Surrounds a wait for a `Run` that lasts longer than `PATIENCE`: a progress line in a terminal."""

sweep_controller: Callable[[Any, Any], Any] | None = None
"""Takes a `Session` and the `RunRecord` of a sweep without a driver, and returns the `InflightRun` of its new driver."""

condition: Callable[..., Any] | None = None
"""Takes the text of a condition, and what errors call it as `option`, and returns a `Condition` of sweeps."""

sweep_description: Callable[..., Any] | None = None
"""Takes a `Version`, the name of a method of `mlfn.Function` that describes a sweep, and its arguments; returns the `Sweep`."""

sweep_handle: Callable[..., Any] | None = None
"""Takes the `RunRecord` of a sweep and, as `session`, a `Session`, and returns its `SweepRun`."""


def seconds(call: str, timeout: Any) -> float | None:
    """Return the longest wait in seconds, None for one without a limit; refuse what is no number, naming `call`."""
    import numbers  # the package itself is imported without it

    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, numbers.Real) or timeout != timeout:  # noqa: PLR0124 - NaN
        raise ParameterError(
            f"{call}(timeout={timeout!r}): a number of seconds is allowed, or None to wait until the end."
        )
    return float(timeout) if timeout <= _LONGEST else None
