"""Dask: tasks on a LocalCluster; untracked, nothing is stored."""

from __future__ import annotations

import time

from distributed import Client, LocalCluster
from timing import emit, median_ms, per_second


def noop(i: int) -> int:
    return i


def pause(i: int) -> int:
    time.sleep(0.3)
    return i


def main() -> None:
    begun = time.perf_counter()
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        client.submit(noop, 1, pure=False).result()
        emit(cold_ms=(time.perf_counter() - begun) * 1e3)
        emit(warm_ms=median_ms(lambda: client.submit(noop, 1, pure=False).result(), times=200, warmup=20))
        emit(runs_per_second=per_second(lambda: client.gather(client.map(noop, range(1000), pure=False)), count=1000))
        emit(
            grid_per_second=per_second(
                lambda: max(client.gather(client.map(noop, range(1000), pure=False))), count=1000, times=7
            )
        )
    begun = time.perf_counter()
    with LocalCluster(n_workers=4, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        client.gather(client.map(pause, range(8), pure=False))
        emit(eight_cold_ms=(time.perf_counter() - begun) * 1e3)
        emit(eight_warm_ms=median_ms(lambda: client.gather(client.map(pause, range(8), pure=False)), times=5))


if __name__ == "__main__":
    main()
