"""Do the same with each of many files, a few at a time, and get the results in order.

You learn: `map` takes lists as Python's own `map` does, and yields what the children return, in order, as soon as each
is there; a text for a DataFrame parameter names a file that the child reads; `memo=True` takes over what was worked out
before, as long as code, parameters and the files' contents are the same; a failed child fails alone.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd
from sklearn.datasets import load_iris

import mlfn


@mlfn.function
def describe(rows: pd.DataFrame, column: str = "petal length (cm)") -> tuple[int, float]:
    return len(rows), round(float(rows[column].mean()), 3)


def main() -> None:
    features, target = load_iris(return_X_y=True, as_frame=True)
    flowers = pd.DataFrame(features).assign(target=target)
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(["setosa", "versicolor", "virginica"]):
            flowers[flowers["target"] == number].to_csv(Path(folder, f"{name}.csv"), index=False)
        files = sorted(str(path) for path in Path(folder).glob("*.csv"))

        lengths = describe.map(files).with_options(memo=True, parallel=2)
        for file, (count, mean) in zip(files, lengths.submit(), strict=True):
            print(f"{Path(file).stem}: {count} rows, petals of {mean} cm")

        again = lengths.submit()
        results = again.result(timeout=300)
        print(f"a second time, taken over: {sum(child.reused is not None for child in again.children)} of {len(again)}")
        assert [child.reused is not None for child in again.children] == [True] * 3

        flowers.to_csv(files[1], index=False)  # another content under the same name is worked out anew
        changed = lengths.submit()
        assert changed.result(timeout=300)[1] != results[1]
        assert [child.reused is not None for child in changed.children] == [True, False, True]

        broken = describe.map(files, column=["petal length (cm)", "no such column", "sepal width (cm)"]).submit()
        broken.wait(300)
        print(broken.table()[["iteration", "column", "state", "error"]])


if __name__ == "__main__":
    main()
