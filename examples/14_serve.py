"""Train a model in a run, and serve it.

You learn: how an output of a run becomes what a service answers with, how to deploy a function, call it, test it without a server,
and take it down. Needs scikit-learn and `pip install 'mlfn[nuclio]'`.
"""

import mlfn


@mlfn.function
@mlfn.handler(outputs=["coefficients", "accuracy"])
def train(depth: int = 3) -> tuple[dict[str, list[list[float]]], float]:
    """Fit a classifier to the iris data, and return what it has learned as plain numbers."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    measures, kinds = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=100 * depth).fit(measures, kinds)
    learned = {"weights": model.coef_.tolist(), "intercepts": [model.intercept_.tolist()]}
    return learned, float(model.score(measures, kinds))


def make_service(learned: dict[str, list[list[float]]]) -> mlfn.Function[[list[list[float]]], list[str], list[str]]:
    """Return a function that answers with a trained model: what it closes over travels with it."""

    @mlfn.function(kind=mlfn.Nuclio(triggers=[mlfn.Http(workers=2)]), timeout="5s")
    def classify(rows: list[list[float]]) -> list[str]:
        """Say of each flower which iris it is, by its four measures in centimetres."""
        names = ["setosa", "versicolor", "virginica"]
        weights, [intercepts] = learned["weights"], learned["intercepts"]
        found = []
        for row in rows:
            scores = [sum(w * x for w, x in zip(line, row)) + b for line, b in zip(weights, intercepts)]
            found.append(names[scores.index(max(scores))])
        return found

    return classify


if __name__ == "__main__":
    run = train.submit(depth=5)
    learned, accuracy = run.result(timeout=120)
    print(f"trained to an accuracy of {accuracy:.2f}")

    classify = make_service(learned)
    assert classify.mock()(rows=[[5.1, 3.5, 1.4, 0.2]]) == ["setosa"]  # no server

    service = classify.deploy()
    print(f"answers at {service.url}, and {service.url}/docs is a page to try it")
    assert service(rows=[[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]]) == ["setosa", "virginica"]
    print(service.invoke(rows=[["long", 3.5]]).json()["error"])
    service.delete()
