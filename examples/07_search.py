"""Search: a sampler chooses each child's parameters by what the earlier ones came to, and hopeless ones end early.

You learn: spaces (`loguniform`, a list); `search(n=, sampler=, pruner=, seed=)`; that `ctx.log_metric` with a
step is what a pruner goes by; that a pruned child keeps what it logged; points to begin with (`first=`).
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import mlfn


@mlfn.function
def train(ctx: mlfn.Context, alpha: float, rate: float, loss: str, epochs: int = 12) -> SGDClassifier:
    x, y = load_breast_cancer(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.3, random_state=2, stratify=y)
    scaler = StandardScaler().fit(x)
    model = SGDClassifier(loss=loss, alpha=alpha, learning_rate="constant", eta0=rate, random_state=0)
    for epoch in range(epochs):
        model.partial_fit(scaler.transform(x), y, classes=np.array([0, 1]))
        ctx.log_metric("accuracy", model.score(scaler.transform(x_test), y_test), step=epoch)  # may end the child here
    return model


def main() -> None:
    search = train.search(
        n=24,
        sampler="tpe",
        pruner="median",
        seed=7,
        first=[{"alpha": 0.1, "rate": 1e-4, "loss": "log_loss"}],
        alpha=mlfn.loguniform(1e-6, 1),
        rate=mlfn.loguniform(1e-5, 1),
        loss=["hinge", "log_loss", "modified_huber"],
    )
    sweep = search.with_options(select="max.accuracy", parallel=2, stop_when="accuracy >= 0.999").submit()
    sweep.wait()

    states = Counter(str(child.state) for child in sweep.children)
    print(f"{dict(states)}; the first child, the point to begin with: {sweep.children[1].metrics['accuracy']:.3f}")
    print(f"the best: child {sweep.best_iteration}, {sweep.best.metrics['accuracy']:.3f} with {sweep.best.params}")
    early = [child for child in sweep.children if str(child.state) == "pruned"]
    print(f"epochs that pruned children ran: {[len(child.metrics.history('accuracy')) for child in early]} of 12")
    assert sweep.best.metrics["accuracy"] > 0.95


if __name__ == "__main__":
    main()
