"""``PYTHON benchmarks/first_allreduce.py [ROUNDS]``: time to the first all-reduce of 2 ranks, by mlfn and by `horovodrun` by hand.

It needs a Python that has Horovod and mlfn, as `nox -s horovod` keeps one. Rounds alternate, so that both meet the same machine.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

import mlfn

BY_HAND = """
import horovod.tensorflow as hvd
import tensorflow as tf

hvd.init()
hvd.allreduce(tf.constant([1.0]))
"""


@mlfn.function(kind=mlfn.Horovod(replicas=2))
def reduce() -> None:
    import horovod.tensorflow as hvd
    import tensorflow as tf

    hvd.init()
    hvd.allreduce(tf.constant([1.0]))


def by_hand() -> float:
    begun = time.perf_counter()
    command = [sys.executable, "-m", "horovod.runner.launch", "-np", "2", "--gloo", sys.executable, "-c", BY_HAND]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begun


def by_mlfn() -> float:
    begun = time.perf_counter()
    reduce.submit().result()
    return time.perf_counter() - begun


def main() -> None:
    os.environ["MLFN_DATA"] = tempfile.mkdtemp()
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    ours, theirs = [], []
    for _ in range(rounds):
        theirs.append(by_hand())
        ours.append(by_mlfn())
        print(f"mlfn {ours[-1]:.1f} s, by hand {theirs[-1]:.1f} s", flush=True)
    print(f"ratio of medians: {statistics.median(ours) / statistics.median(theirs):.2f} (must reach 1.15)")


if __name__ == "__main__":
    main()
