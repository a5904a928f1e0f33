"""Aggregate more rows than one process would want, on a Dask cluster that mlfn starts on this machine.

You learn: `kind=mlfn.Dask(...)` runs a function as a task of a cluster, and `ctx.dask_client` fans out from there; a Dask DataFrame
that a handler returns is written by the workers, a parquet file a partition, and is read lazily again wherever it is a parameter;
the children of a sweep are tasks too; without a cluster of your own nothing has to be set up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

import mlfn

ROWS = 20_000


def readings(sensor: int) -> pd.DataFrame:
    """Make one partition: what one sensor has read."""
    random = np.random.default_rng(sensor)
    hours, values = random.integers(0, 24, ROWS), random.normal(20, 5, ROWS)
    frame: pd.DataFrame = pd.DataFrame({"sensor": sensor, "hour": hours, "value": values})
    return frame


@mlfn.function(kind=mlfn.Dask(workers=2))
@mlfn.handler(outputs=["readings"])
def collect(sensors: int) -> Any:
    import dask.dataframe as dd

    return dd.from_map(readings, range(sensors))


@mlfn.function(kind=mlfn.Dask(workers=2))
def by_hour(frame: Any, ctx: mlfn.Context) -> dict[int, float]:
    means = ctx.dask_client.compute(frame.groupby("hour")["value"].mean()).result()
    ctx.log_result("rows", ctx.dask_client.compute(frame.shape[0]).result())
    return {int(hour): round(float(mean), 2) for hour, mean in means.sort_index().items()}


def main() -> None:
    collected = collect.submit(sensors=4)
    folder = collected.outputs.readings.path
    print(f"{len(list(folder.glob('*.parquet')))} partitions, written by the workers")

    run = by_hour.submit(collected.outputs.readings)
    means = run.result(timeout=600)
    print(f"{run.outputs['rows']} rows; at noon it was {means[12]} on average")
    assert run.outputs["rows"] == 4 * ROWS and abs(means[12] - 20) < 1

    sizes = collect.grid(sensors=[1, 2, 3]).submit()
    sizes.wait(600)
    print(sizes.table()[["iteration", "sensors", "state"]])


if __name__ == "__main__":
    main()
