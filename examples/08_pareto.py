"""Two objectives at once: no child is the best, some are better than all others in one way or the other.

You learn: `select=["max.accuracy", "min.nodes"]`; `pareto`, the children that no other beats in every selector;
`subject_to=`, which a child must meet to count; that `best` goes by the first selector.
"""

from __future__ import annotations

from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

import mlfn


@mlfn.function
def train(ctx: mlfn.Context, trees: int, depth: int, leaf: int = 1) -> None:
    x, y = load_breast_cancer(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.4, random_state=1, stratify=y)
    model = RandomForestClassifier(trees, max_depth=depth, min_samples_leaf=leaf, random_state=1).fit(x, y)
    ctx.log_metric("accuracy", model.score(x_test, y_test))
    ctx.log_metric("nodes", sum(tree.tree_.node_count for tree in model.estimators_))  # what it costs to keep


def main() -> None:
    search = train.search(
        n=24,
        sampler="nsga2",
        seed=3,
        trees=mlfn.lograndint(1, 60),
        depth=mlfn.randint(1, 8),
        leaf=mlfn.randint(1, 6),
    )
    sweep = search.with_options(
        select=["max.accuracy", "min.nodes"], subject_to="accuracy >= 0.85", parallel=2
    ).submit()
    sweep.wait()

    print(f"{len(sweep.pareto)} of {len(sweep.children)} children are on the front, from small to exact:")
    front = sorted(sweep.pareto, key=lambda child: child.metrics["nodes"])
    for child in front:
        print(f"  child {child.iteration:2}: {child.metrics['accuracy']:.3f} with {child.metrics['nodes']:.0f} nodes")
    accuracies = [child.metrics["accuracy"] for child in front]
    assert accuracies == sorted(accuracies)  # on a front, what is larger is better
    assert sweep.best.metrics["accuracy"] == max(accuracies)


if __name__ == "__main__":
    main()
