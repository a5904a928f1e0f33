"""Named points at which a test may kill the process; nothing happens at them otherwise."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable

# "name" or "name:n" (the n-th time it is passed); read once, so that an unarmed point costs one comparison.
_ARMED, _, _COUNT = os.environ.get("MLFN_FAILPOINT", "").partition(":")
_left = int(_COUNT or 1)
ARE_ARMED = bool(_ARMED)
"""Whether any point is armed: callers on a hot path check this first."""


def pass_each(names: Iterable[str]) -> None:
    """Pass points one after the other; end this process as ``kill -9`` would at the one that is armed."""
    global _left
    for name in names:
        if name == _ARMED:
            _left -= 1
            if _left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
