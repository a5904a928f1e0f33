"""Sweeps, of which some are over and others lose their driver in the middle."""

import sys
import time
from pathlib import Path

from shop.strategies import Countdown

import mlfn

LEDGERS = Path("../ledgers")


@mlfn.function(retry=mlfn.Retry(2, delay=0.0))
@mlfn.handler(outputs=["score"])
def scored(ctx: mlfn.Context, ledger: str, x: float, y: int = 1, held: int = 100) -> float:
    with (LEDGERS / ledger).open("a") as file:
        file.write(f"{ctx.iteration}\n")
    while ctx.iteration > held and not (LEDGERS / "gate").exists():
        time.sleep(0.01)
    ctx.log_metric("loss", 1 / x, step=0)
    return x * y


@mlfn.function
def halved(x: int) -> int:
    if x % 2:
        raise ValueError(f"{x} is odd")
    return x // 2


SPACES = {"x": mlfn.uniform(1, 9), "y": mlfn.randint(1, 9)}
GRID = {"x": [1.0, 2.0, 3.0], "y": [10, 20]}


def submit(what: str):
    best = {"select": "max.score", "parallel": 2}
    if what == "grid":
        return scored.grid(GRID).with_options(name="done", **best).submit(ledger=what)
    if what == "map":
        return halved.map([2, 4, 6]).submit()
    if what == "failed":
        return halved.grid(x=[2, 3, 5]).with_options(max_failures=2, parallel=1).submit()
    if what == "half-grid":
        return scored.grid(GRID).with_options(name=what, **best).submit(ledger=what, held=3)
    if what == "half-own":
        return scored.sweep(Countdown(7)).with_options(name=what, **best).submit(ledger=what, held=3)
    if what == "half-random":
        return scored.random(n=6, seed=7, **SPACES).with_options(name=what, **best).submit(ledger=what, held=3)
    return scored.search(n=6, seed=7, **SPACES).with_options(name=what, **best).submit(ledger=what, held=3)


if __name__ == "__main__":
    for what in sys.argv[1:]:
        sweep = submit(what)
        print(sweep.id, flush=True)
        sweep.wait()
        sweep.exception()
