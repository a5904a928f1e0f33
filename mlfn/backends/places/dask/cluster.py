"""The process of a cluster on this machine: scheduler and nannies live in it, so that no script of the user's is imported there.

It ends with the process that started it: its standard input is closed then.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from typing import Any

from mlfn.host.installation import ROOT

# It finds this very mlfn wherever it lies, and no module of the current folder instead; as no file is its main module, the
# workers that it spawns import none.
PROGRAM = (
    f"import sys; sys.path = [*filter(None, sys.path), {ROOT!r}]; "
    "from mlfn.backends.places.dask.cluster import main; main()"
)
_LOOK_SECONDS = 1.0


def main() -> None:
    """Start a cluster as the command line says, say on stdout where it is, and close it when stdin is closed."""
    from distributed import LocalCluster

    asked = json.loads(sys.argv[1])
    parent = os.getppid()
    own: dict[str, Any] = {"memory_limit": asked["mem"] if asked["mem"] is not None else "auto"}
    cluster = LocalCluster(
        n_workers=asked["workers"],
        threads_per_worker=asked["threads"],
        processes=asked["nanny"],
        protocol="tcp://",  # else workers without a nanny have addresses of their own process alone
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        worker_dashboard_address=None,
        silence_logs=logging.ERROR,
        **own,
    )
    if asked["adaptive"]:
        least, most = asked["adaptive"]
        cluster.adapt(minimum=least, maximum=most)
    answer = {"address": cluster.scheduler_address, "dashboard": cluster.dashboard_link}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    sys.stdin.read()
    cluster.close(timeout=5)


def _end_with(parent: int) -> None:
    """End when the parent has: a process that it forked may keep stdin open."""
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os.close(0)
    os._exit(0)
