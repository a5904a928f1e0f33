"""MLflow: one run with a parameter and a metric, on SQLite; in process, durable."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import mlflow
from timing import emit, median_ms, per_second

folder = Path(tempfile.mkdtemp())
mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
mlflow.set_experiment("bench")


def one() -> None:
    with mlflow.start_run():
        mlflow.log_param("i", 1)
        mlflow.log_metric("value", 1.0)


emit(tracked_noop_ms=median_ms(one, times=50))
emit(runs_per_second=per_second(lambda: [one() for _ in range(200)], count=200, times=1))


def points(count: int) -> None:
    """Log a series point by point."""
    with mlflow.start_run():
        for step in range(count):
            mlflow.log_metric("loss", step / 8, step=step)


def points_in_batches(count: int) -> None:
    """Log a series by the largest batches that are allowed."""
    client, moment = mlflow.MlflowClient(), int(time.time() * 1000)
    with mlflow.start_run() as run:
        for start in range(0, count, 1000):
            batch = [mlflow.entities.Metric("loss", step / 8, moment, step) for step in range(start, start + 1000)]
            client.log_batch(run.info.run_id, metrics=batch)


points(10)
emit(point_us=1e6 / per_second(lambda: points(300), count=300, times=1))
emit(point_stored_us=1e6 / per_second(lambda: points_in_batches(20_000), count=20_000, times=1))


def grid() -> None:
    """Log children below a parent, and find the best of them."""
    with mlflow.start_run() as parent:
        for i in range(200):
            with mlflow.start_run(nested=True):
                mlflow.log_param("i", i)
                mlflow.log_metric("value", float(i))
    best = mlflow.search_runs(
        filter_string=f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'",
        order_by=["metrics.value DESC"],
        max_results=1,
    )
    assert best["metrics.value"][0] == 199


emit(grid_per_second=per_second(grid, count=200, times=1))
