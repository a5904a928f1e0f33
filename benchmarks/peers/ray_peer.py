"""Ray: tasks on a local cluster; untracked, nothing is stored."""

from __future__ import annotations

import time

import ray
from timing import emit, median_ms, per_second

begun = time.perf_counter()
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)


@ray.remote
def noop(i: int) -> int:
    return i


ray.get(noop.remote(1))
emit(cold_ms=(time.perf_counter() - begun) * 1e3)
emit(warm_ms=median_ms(lambda: ray.get(noop.remote(1)), times=200, warmup=20))
emit(runs_per_second=per_second(lambda: ray.get([noop.remote(i) for i in range(1000)]), count=1000))
ray.shutdown()
