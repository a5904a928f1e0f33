"""The function that `mlfn doctor` runs in a worker."""

from __future__ import annotations

import os

from mlfn.functions.declaration import function


@function
def answer() -> int:
    """Return the worker's process id."""
    return os.getpid()
