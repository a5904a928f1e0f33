"""joblib's loky: a pool of processes; untracked, nothing is stored."""

from __future__ import annotations

import time

from joblib import Parallel, delayed
from timing import emit, median_ms, per_second


def noop(i: int) -> int:
    return i


def pause(i: int) -> int:
    time.sleep(0.3)
    return i


def two() -> list[int]:
    """Run one no-op on each of the two workers: fewer than two would not leave this process."""
    return Parallel(n_jobs=2)(delayed(noop)(i) for i in range(2))


begun = time.perf_counter()
two()
emit(cold_ms=(time.perf_counter() - begun) * 1e3)
emit(warm_ms=median_ms(two, times=100, warmup=10))
emit(runs_per_second=per_second(lambda: Parallel(n_jobs=2)(delayed(noop)(i) for i in range(1000)), count=1000))
emit(
    grid_per_second=per_second(
        lambda: max(Parallel(n_jobs=2)(delayed(noop)(i) for i in range(1000))), count=1000, times=7
    )
)
begun = time.perf_counter()
Parallel(n_jobs=4)(delayed(pause)(i) for i in range(8))
emit(eight_cold_ms=(time.perf_counter() - begun) * 1e3)
emit(eight_warm_ms=median_ms(lambda: Parallel(n_jobs=4)(delayed(pause)(i) for i in range(8)), times=5))
