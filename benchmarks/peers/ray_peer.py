"""Ray: tasks on a local cluster, untracked, nothing is stored; and Ray Tune, whose trials are stored in files."""

from __future__ import annotations

import os
import tempfile
import time

os.environ["RAY_AIR_NEW_OUTPUT"] = "0"

import ray
from ray import tune
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


@ray.remote(num_cpus=0.5)  # four at a time
def pause(i: int) -> int:
    time.sleep(0.3)
    return i


def grid(count: int) -> None:
    """Try a grid, the actors used again for the next trial, which is its quickest way."""
    tuner = tune.Tuner(
        lambda config: {"y": config["x"]},
        param_space={"x": tune.grid_search(list(range(count)))},
        tune_config=tune.TuneConfig(metric="y", mode="max", reuse_actors=True),
        run_config=tune.RunConfig(storage_path=tempfile.mkdtemp(), verbose=0),
    )
    assert tuner.fit().get_best_result().metrics["y"] == count - 1


emit(eight_warm_ms=median_ms(lambda: ray.get([pause.remote(i) for i in range(8)]), times=5))
grid(4)
emit(grid_per_second=per_second(lambda: grid(200), count=200, times=1))
ray.shutdown()
