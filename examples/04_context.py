"""Report from inside a run: metrics, results, artifacts, progress, the logger, a secret; async; and requirements.

You learn: a parameter annotated `mlfn.Context` is filled in and is no part of what a caller passes; an `async def` is
submitted like any other; a secret is named, read where the run runs and masked in its log; `requirements=` gives the run
packages that you lack.
"""

from __future__ import annotations

import asyncio
import os

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import confusion_matrix

import mlfn


@mlfn.function(secrets=["TRACKER_TOKEN"])
async def train(ctx: mlfn.Context, epochs: int = 5) -> float:
    features, target = load_digits(return_X_y=True)
    model, accuracy = SGDClassifier(random_state=0), 0.0
    for epoch in ctx.progress(range(epochs), text="epochs"):
        model.partial_fit(features / 16.0, target, classes=np.arange(10))
        accuracy = float(model.score(features / 16.0, target))
        ctx.log_metric("accuracy", accuracy, step=epoch)
        await asyncio.sleep(0)
    ctx.log_result("classes", sorted({int(label) for label in target}))
    ctx.log_artifact("confusion", confusion_matrix(target, model.predict(features / 16.0)))
    ctx.log_model("model", model, framework="sklearn")
    ctx.logger.warning("attempt %d would log in with %s", ctx.attempt, ctx.secret("TRACKER_TOKEN"))
    return accuracy


@mlfn.function(requirements=["inflection"])  # one small package of pure Python; its environment is built once and kept
def plural(word: str) -> str:
    import inflection

    return str(inflection.pluralize(word))


def main() -> None:
    os.environ["TRACKER_TOKEN"] = "correct-horse-battery"  # or once for all, into a private file: mlfn secret set
    run = train.submit(epochs=8)
    print(f"accuracy {run.result(timeout=300):.3f}, progress {run.progress}")
    print(f"first and last: {run.metrics.history('accuracy')[0]}, {run.metrics.history('accuracy')[-1]}")
    print(f"classes {run.outputs['classes']}; artifacts {sorted(run.artifacts)}; log {run.logs().strip()!r}")
    print(f"confused digits: {int(run.outputs['confusion'].sum() - np.trace(run.outputs['confusion']))}")
    print(f"a package that the caller lacks: {plural.submit('hypothesis').result(timeout=300)}")


if __name__ == "__main__":
    main()
