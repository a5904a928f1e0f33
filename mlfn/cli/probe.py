"""What `mlfn doctor` runs to see a worker start."""

from __future__ import annotations

import os

from mlfn.declaration import function


@function
def answer() -> int:
    """Return the worker's process id."""
    return os.getpid()
