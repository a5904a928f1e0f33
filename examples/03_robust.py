"""See how runs end: a retry, a timeout, a cancel, the user's own exception, and the log of each.

You learn: `retry=`, `timeout=`, `run.cancel()`; that `result()` raises the exception type that the function raised, with
the run's own traceback under it; that a failed run keeps its log, its attempts and its reason.
"""

from __future__ import annotations

import time

from sklearn.datasets import load_digits
from sklearn.svm import SVC

import mlfn


class DiskHiccupError(Exception):
    """What a flaky file server would raise."""


@mlfn.function(retry=mlfn.Retry(3, delay=0.1, on=[DiskHiccupError]))
def train(context: mlfn.Context, c: float) -> float:
    pixels, labels = load_digits(return_X_y=True)
    print(f"attempt {context.attempt}: {len(pixels)} images")
    if context.attempt < 3:
        raise DiskHiccupError(f"attempt {context.attempt} found no disk")
    return float(SVC(C=c).fit(pixels, labels).score(pixels, labels))


@mlfn.function
def endless() -> None:
    print("begun")
    try:
        while True:
            time.sleep(0.1)
    finally:
        print("tidied up")  # a handler's `finally` runs: cancel and timeout arrive as SIGTERM


def main() -> None:
    run = train.submit(c=1.0)
    print(f"accuracy {run.result(timeout=300):.3f} after {len(run.attempts)} attempts")
    print(f"the log of the first: {run.logs(attempt=1).strip()!r}")

    hurried = endless.with_options(timeout=1).submit()
    print(f"{type(hurried.exception(timeout=60)).__name__}, reason {hurried.record.reason}")

    unwanted = endless.submit()
    next(unwanted.logs(follow=True))  # the first words of its log: it is at work
    print(f"cancelled: {unwanted.cancel()}, log {unwanted.logs()!r}")

    try:
        train.with_options(retry=mlfn.UNSET).submit(c=1.0).result(timeout=60)
    except DiskHiccupError as error:
        print(f"caught {error!r}; {error.__cause__}")


if __name__ == "__main__":
    main()
