"""What every measurement here shares: standard library alone, so that a peer's environment needs nothing else."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable


def median_ms(action: Callable[[], object], *, times: int, warmup: int = 3) -> float:
    """Return the median milliseconds of one call."""
    for _ in range(warmup):
        action()
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        action()
        taken.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(taken)


def per_second(action: Callable[[], object], *, count: int, times: int = 3) -> float:
    """Return how many of `count` things a second `action` does, the median of `times` calls."""
    rates = []
    for _ in range(times):
        begun = time.perf_counter()
        action()
        rates.append(count / (time.perf_counter() - begun))
    return statistics.median(rates)


def process_ms(code: str, *, times: int = 5, report: bool = False) -> float:
    """Return the median milliseconds of ``python -c code``; with `report`, of what it prints as its own figure."""
    taken = []
    for _ in range(times + 1):
        begun = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        taken.append(float(done.stdout) if report else (time.perf_counter() - begun) * 1e3)
    return statistics.median(taken[1:])


def emit(**rows: float) -> None:
    """Print rows for the table."""
    print("ROWS " + json.dumps(rows), flush=True)
