"""The work of the benchmarks: nothing, so that only what surrounds it is measured."""

from __future__ import annotations

import time

import mlfn


@mlfn.function
def noop(i: int) -> int:
    """Give the number back."""
    return i


@mlfn.function
def pause(i: int, seconds: float) -> int:
    """Give the number back later."""
    time.sleep(seconds)
    return i


@mlfn.function
def nine(a: int, b: int, c: int, d: int, e: int, f: int, g: int, h: int, i: int) -> int:
    """Take many parameters."""
    return a + b + c + d + e + f + g + h + i


@mlfn.function
def log_points(count: int, ctx: mlfn.Context) -> float:
    """Log a series, and return how many microseconds a point took."""
    begun = time.perf_counter()
    for step in range(count):
        ctx.log_metric("loss", step / 8, step=step)
    return (time.perf_counter() - begun) / count * 1e6


@mlfn.function
def flood(megabytes: int) -> int:
    """Write lines of text to stdout."""
    block = "x" * 99 + "\n"
    text = block * 10_000
    for _ in range(megabytes):
        print(text, end="")
    return megabytes
