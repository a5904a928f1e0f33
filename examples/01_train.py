"""Decorate a function, submit it, and get a durable run: its result, outputs, artifact, metrics and log.

You learn: `@mlfn.function` and `@mlfn.handler`; that a plain call stays plain Python; that `submit` returns at once and
`result()` waits; that `mlfn.data(path)` names a file to read where the run runs; where the model lies; how another
process finds the run again.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

import mlfn


@mlfn.function(cpu=1, labels={"team": "risk"})
@mlfn.handler(outputs=["model", "accuracy"])
def train(data: pd.DataFrame, trees: int = 100, depth: int = 8) -> tuple[RandomForestClassifier, float]:
    """Fit a forest; the returned tuple becomes two named outputs."""
    features, target = data.drop(columns="target"), data["target"]
    x, x_test, y, y_test = train_test_split(features, target, test_size=0.25, random_state=7, stratify=target)
    model = RandomForestClassifier(n_estimators=trees, max_depth=depth, random_state=7).fit(x, y)
    mlfn.context().log_metric("train_accuracy", model.score(x, y))
    print(f"trained {trees} trees on {len(x)} rows")
    return model, float(model.score(x_test, y_test))


def main() -> None:
    features, target = load_breast_cancer(return_X_y=True, as_frame=True)
    frame = pd.DataFrame(features).assign(target=target)
    _, plain = train(frame, trees=5)  # a plain call: no store, no worker, nothing recorded
    print(f"a plain call: accuracy {plain:.3f}")

    with tempfile.TemporaryDirectory() as folder:
        csv = Path(folder) / "cancer.csv"
        frame.to_csv(csv, index=False)
        run = train.submit(mlfn.data(csv), depth=4)  # returns at once; a worker process reads the file
        model, accuracy = run.result(timeout=300)

    print(f"run {run.id[:8]} {run.state}: accuracy {accuracy:.3f} with {len(model.estimators_)} trees")
    print(f"outputs: {', '.join(sorted(run.outputs))}; metrics: {dict(run.metrics)}; log: {run.logs().strip()!r}")
    print(f"the model lies at {run.outputs.model.path}")
    print(f'tomorrow, from another process: mlfn.run("{run.id[:8]}").outputs["model"]')
    assert mlfn.run(run.id[:8]).outputs["accuracy"] == accuracy > 0.9


if __name__ == "__main__":
    main()
