"""MLflow: one run with a parameter and a metric, on SQLite; in process, durable."""

from __future__ import annotations

import tempfile
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
