"""Optuna: one trial that does nothing, on SQLite and on its journal; in process, durable."""

from __future__ import annotations

import tempfile
from pathlib import Path

import optuna
from timing import emit, median_ms, per_second

optuna.logging.set_verbosity(optuna.logging.ERROR)
folder = Path(tempfile.mkdtemp())
sqlite = optuna.create_study(storage=f"sqlite:///{folder}/study.db", sampler=optuna.samplers.RandomSampler())
emit(tracked_noop_ms=median_ms(lambda: sqlite.optimize(lambda trial: 0.0, n_trials=1), times=50))
journal = optuna.create_study(
    storage=optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / "journal"))),
    sampler=optuna.samplers.RandomSampler(),
)
emit(runs_per_second=per_second(lambda: journal.optimize(lambda trial: 0.0, n_trials=1000), count=1000, times=1))


def report(trial: optuna.Trial) -> float:
    """Report a series."""
    for step in range(2000):
        trial.report(step / 8, step)
    return 0.0


report_us = 1e6 / per_second(lambda: journal.optimize(report, n_trials=1), count=2000, times=1)
emit(point_us=report_us, point_stored_us=report_us)


def a_thousand(storage: optuna.storages.BaseStorage) -> float:
    """Draw a thousand, and find the best of them: its own grid sampler takes 0.1 s a trial at this size."""
    study = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler(), direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1000), n_trials=1000)
    return study.best_value


file = optuna.storages.journal.JournalFileBackend(str(folder / "grid"))
emit(grid_per_second=per_second(lambda: a_thousand(optuna.storages.JournalStorage(file)), count=1000, times=1))
rdb = optuna.storages.RDBStorage(f"sqlite:///{folder}/grid.db")
emit(grid_per_second_sqlite=per_second(lambda: a_thousand(rdb), count=1000, times=1))
