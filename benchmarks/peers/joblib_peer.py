"""joblib's loky: a pool of processes; untracked, nothing is stored."""

from __future__ import annotations

import time

from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from timing import emit, median_ms, per_second


def noop(i: int) -> int:
    return i


begun = time.perf_counter()
pool = get_reusable_executor(max_workers=2)
pool.submit(noop, 1).result()
emit(cold_ms=(time.perf_counter() - begun) * 1e3)
emit(warm_ms=median_ms(lambda: pool.submit(noop, 1).result(), times=300, warmup=20))
emit(runs_per_second=per_second(lambda: Parallel(n_jobs=2)(delayed(noop)(i) for i in range(1000)), count=1000))
