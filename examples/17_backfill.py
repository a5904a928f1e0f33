"""Have a deployed service work through a batch.

You learn: how `submit()` and sweeps of a function of kind `nuclio` are tracked runs that its service executes, each with its
parameters, result, log and retries, beside the requests that the same service answers. Needs `pip install 'mlfn[nuclio]'`.
"""

import mlfn


@mlfn.function(kind=mlfn.Nuclio(triggers=[mlfn.Http(workers=2)]), retry=2)
def score(day: str, threshold: float = 0.5) -> float:
    """Return the share of a day's hours that are above a threshold."""
    number = sum(map(ord, day))
    values = [(number * (hour + 1) % 100) / 100 for hour in range(24)]
    return sum(value > threshold for value in values) / len(values)


if __name__ == "__main__":
    service = score.deploy()
    try:
        print("live:", service(day="2026-01-05"))
        days = [f"2026-01-{day:02d}" for day in range(1, 9)]
        backfill = score.grid(day=days).with_options(parallel=2).submit(threshold=0.4)
        backfill.wait()
        print(backfill.table()[["day", "state", "return"]])
        print("live:", service(day="2026-01-05"))
    finally:
        service.delete()
