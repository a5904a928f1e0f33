"""Add up in several ranks of MPI: each computes a part, and an all-reduce puts the parts together.

You learn: `kind=mlfn.Mpi(replicas=...)`, `ctx.rank` and `ctx.size`, that rank 0's value is the run's, and the log of one rank.
It needs `mpirun` (apt-get install openmpi-bin) and mpi4py.
"""

from __future__ import annotations

import mlfn


@mlfn.function(kind=mlfn.Mpi(replicas=2))
def sum_of_squares(ctx: mlfn.Context, n: int) -> int:
    from mpi4py import MPI

    mine = sum(x * x for x in range(ctx.rank, n, ctx.size))
    print(f"rank {ctx.rank} of {ctx.size} has {mine}")
    return int(MPI.COMM_WORLD.allreduce(mine))


def main() -> None:
    run = sum_of_squares.submit(1000)
    assert run.result() == sum(x * x for x in range(1000))
    print(run.logs(), end="")
    assert run.logs(rank=1).startswith("rank 1 of 2 has ")

    sweep = sum_of_squares.grid(n=[10, 30, 20]).with_options(select="max.return").submit()
    print("of three children with two ranks each, the best has", sweep.result())


if __name__ == "__main__":
    main()
