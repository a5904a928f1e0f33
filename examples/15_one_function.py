"""Run one function by several kinds, changing nothing but `kind`: in a worker process, as a task of Dask, in two ranks of MPI.

You learn: `with_options(kind=...)`, that a run looks alike whatever runs it, and what `ctx.rank` and `ctx.size` are where there
is one rank. Name the kinds that you have: `python examples/15_one_function.py job spark`. With MLFN_ON=kubernetes the same runs
in pods, with an image for each kind that needs more than Python:
`MLFN_ON=kubernetes python examples/15_one_function.py job dask=registry.example/dask:1 mpi=registry.example/mpi:1`.
"""

from __future__ import annotations

import random
import sys

import mlfn

KINDS = {
    "job": mlfn.Job(),
    "dask": mlfn.Dask(workers=1),
    "mpi": mlfn.Mpi(replicas=2),
    "spark": mlfn.Spark(executors=1),
}


@mlfn.function
def estimate_pi(ctx: mlfn.Context, points: int) -> float:
    """Return 4 times the share of random points in a square of side 1 that a quarter of a circle covers."""
    draw = random.Random(ctx.rank)
    inside = sum(draw.random() ** 2 + draw.random() ** 2 <= 1 for _ in range(points))
    print(f"rank {ctx.rank} of {ctx.size}: {inside} of {points}")
    return 4 * inside / points


def main(kinds: list[str]) -> None:
    runs = {}
    for kind in kinds:
        name, _, image = kind.partition("=")
        runs[name] = estimate_pi.with_options(kind=KINDS[name], image=image or mlfn.UNSET).submit(20_000)
    for name, run in runs.items():
        print(f"{name:6} {run.result():.3f}  {run.state}  {run.logs().splitlines()}")
    assert len({run.result() for run in runs.values()}) == 1  # rank 0 draws the same points everywhere


if __name__ == "__main__":
    main(sys.argv[1:] or ["job", "dask", "mpi"])
