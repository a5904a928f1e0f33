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
