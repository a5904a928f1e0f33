"""Choose between models that have parameters of their own: some exist only beside another's value.

You learn: `.when(model="forest")`; that a child is submitted without the parameters that do not apply, so that the
function's defaults stand for them; that a seed gives the same children on every machine; that `random` needs no sampler.
"""

from __future__ import annotations

from typing import Any, Literal

from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mlfn


@mlfn.function
@mlfn.handler(outputs=["accuracy"])
def train(model: Literal["forest", "neighbors"], trees: int = 10, depth: int | None = None, k: int = 5) -> float:
    x, y = load_wine(return_X_y=True)
    if model == "forest":
        chosen: Any = RandomForestClassifier(trees, max_depth=depth, random_state=0)
    else:
        chosen = make_pipeline(StandardScaler(), KNeighborsClassifier(k))
    return float(cross_val_score(chosen, x, y, cv=4).mean())


def main() -> None:
    drawn = train.random(
        n=12,
        seed=5,
        model=["forest", "neighbors"],
        trees=mlfn.lograndint(2, 50).when(model="forest"),
        depth=mlfn.choice([2, 4, None]).when(model="forest"),
        k=mlfn.randint(1, 25).when(model="neighbors"),
    )
    print(f"known before anything runs: {drawn[0]}, {drawn[1]}, ...")
    assert all(("k" in point) == (point["model"] == "neighbors") for point in drawn)

    sweep = drawn.with_options(select="max.accuracy", parallel=2).submit()
    accuracy = sweep.result()

    table = sweep.table()
    for name, rows in table.groupby("model"):
        print(f"{name}: {len(rows)} children, at best {rows['accuracy'].max():.3f}")
    print(f"the best: {sweep.best.params}, {accuracy:.3f}")
    assert accuracy == table["accuracy"].max() > 0.9


if __name__ == "__main__":
    main()
