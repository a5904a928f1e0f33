"""A real Dask cluster that tests share: its scheduler and its workers are processes of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mlfn.backends.places.dask.own import Cluster, start


@contextmanager
def dask_cluster(**options: Any) -> Iterator[str]:
    """Start a cluster, and return its address."""
    cluster = start(Cluster(**{"workers": 2, **options}))
    try:
        yield cluster.address
    finally:
        cluster.end()


def pids(client: Any) -> Mapping[str, int]:
    """Return the pids of a cluster's workers by their addresses."""
    found: dict[str, int] = client.run(os.getpid)
    return found


def kill(pid: int) -> None:
    """End a process as a power cut would."""
    os.kill(pid, signal.SIGKILL)
