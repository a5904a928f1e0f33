"""The work of the benchmarks: nothing, so that only what surrounds it is measured."""

from __future__ import annotations

import mlfn


@mlfn.function
def noop(i: int) -> int:
    """Give the number back."""
    return i


@mlfn.function
def flood(megabytes: int) -> int:
    """Write lines of text to stdout."""
    block = "x" * 99 + "\n"
    text = block * 10_000
    for _ in range(megabytes):
        print(text, end="")
    return megabytes
