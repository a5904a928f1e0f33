"""Try every combination of some values, each as a run of its own, and take the best.

You learn: `train.grid(...)` only describes, and can be looked at before anything runs; `with_options(select=...,
parallel=...)`; `submit` takes what all children share; `best`, `table()`, `result()`; that a child is a run like any
other; that the same sweep is found again from any process.
"""

from __future__ import annotations

from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
from sklearn.svm import SVC

import mlfn


@mlfn.function
@mlfn.handler(outputs=["model", "accuracy"])
def train(c: float = 1.0, gamma: float = 0.001, folds: int = 3) -> tuple[SVC, float]:
    """Tell ten handwritten digits apart; 1,797 images of 8 x 8 pixels."""
    pixels, labels = load_digits(return_X_y=True)
    model = SVC(C=c).set_params(gamma=gamma)
    accuracy = float(cross_val_score(model, pixels, labels, cv=folds).mean())
    return model.fit(pixels, labels), accuracy


def main() -> None:
    grid = train.grid(c=[0.1, 1.0, 10.0], gamma=[0.0001, 0.001, 0.01])
    print(f"{len(grid)} children; the first {grid[0]}, the last {grid[-1]}")

    sweep = grid.with_options(select="max.accuracy", parallel=2).submit(folds=3)  # returns at once
    for child in sweep:  # as they end
        print(f"child {child.iteration}: {child.params} -> {child.outputs['accuracy']:.3f}")

    model, accuracy = sweep.result()  # what the best child returned
    print(f"the best is child {sweep.best_iteration} with {sweep.best.params}: {accuracy:.3f}, {model}")
    print(sweep.table().sort_values("accuracy", ascending=False).head(3)[["iteration", "c", "gamma", "accuracy"]])
    print(f"its model lies at {sweep.best.outputs.model.path}")

    again = mlfn.run(sweep.id[:8])  # tomorrow, from another process
    assert again.outputs["best_iteration"] == sweep.best_iteration
    assert accuracy > 0.95


if __name__ == "__main__":
    main()
