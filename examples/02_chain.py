"""Chain runs: an output of one is a parameter of the next, and a parent that fails fails its children by name.

You learn: `run.outputs.name` is a reference that may be passed on before its run has ended; nothing is copied through
the caller; many runs are submitted first and waited for afterwards; `ParentFailedError`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import mlfn


@mlfn.function
@mlfn.handler(outputs=["train", "test"])
def prepare(every: int = 4) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Put the label in front of each image's pixels, and keep every n-th row for the test."""
    if every < 2:
        raise ValueError(f"every={every} would leave nothing to train on")
    pixels, labels = load_digits(return_X_y=True)
    rows = np.column_stack([labels, pixels / 16.0])
    held_out = np.arange(len(rows)) % every == 0
    return rows[~held_out], rows[held_out]


@mlfn.function
@mlfn.handler(outputs=["model"])
def fit(rows: np.ndarray[Any, Any], c: float) -> LogisticRegression:
    return LogisticRegression(C=c, max_iter=500).fit(rows[:, 1:], rows[:, 0])


@mlfn.function
def evaluate(model: LogisticRegression, rows: np.ndarray[Any, Any]) -> float:
    return float(model.score(rows[:, 1:], rows[:, 0]))


def main() -> None:
    prepared = prepare.submit()
    scores = {}
    for c in (0.01, 0.1):
        fitted = fit.submit(prepared.outputs.train, c)  # starts when `prepared` has ended
        scores[evaluate.submit(fitted.outputs.model, prepared.outputs.test)] = c
    for run in mlfn.as_completed(scores, timeout=300):
        print(f"C={scores[run]}: {run.result():.3f}")
    assert max(run.result() for run in scores) > 0.9

    broken = prepare.submit(every=1)
    error = fit.submit(broken.outputs.train, 1.0).exception(timeout=60)
    print(f"{type(error).__name__}: {error}")
    assert isinstance(error, mlfn.errors.ParentFailedError)


if __name__ == "__main__":
    main()
