"""submitit: one process a job on this machine; results in pickled files."""

from __future__ import annotations

import tempfile
import time

import submitit
from timing import emit, median_ms


def noop(i: int) -> int:
    return i


executor = submitit.LocalExecutor(folder=tempfile.mkdtemp())
begun = time.perf_counter()
executor.submit(noop, 1).result()
emit(cold_ms=(time.perf_counter() - begun) * 1e3)
emit(warm_ms=median_ms(lambda: executor.submit(noop, 1).result(), times=5, warmup=1))
