"""The clusters that this process has started, each kept for all that asks for its like until the process ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict

from mlfn.backends.places.base import AT_SHUTDOWN
from mlfn.backends.places.dask.cluster import PROGRAM
from mlfn.errors import PlaceError
from mlfn.host.frozen import frozen

_CLOSE_SECONDS = 10.0
_MOST_STDERR = 2000


@frozen
class Cluster:
    """What cluster is wanted: the one at an address, or one of its own with these workers."""

    workers: int
    threads: int = 1
    mem: int | None = None
    adaptive: tuple[int, int] | None = None
    nanny: bool = True
    address: str | None = None

    @property
    def width(self) -> int:
        """How many tasks it may have at work at a time, as far as is known before there is one."""
        return (self.adaptive[1] if self.adaptive else self.workers) * self.threads

    @property
    def shown(self) -> str:
        """What it is called in a sentence."""
        return f"the Dask cluster at {self.address}" if self.address else "the Dask cluster on this machine"


@frozen
class OwnCluster:
    """A cluster on this machine, in a process of its own, and the address of its scheduler."""

    process: subprocess.Popen[str]
    address: str

    @property
    def is_alive(self) -> bool:
        """Whether its process is there."""
        return self.process.poll() is None

    def end(self) -> None:
        """Have it close, and wait for that."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self.process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


_kept: dict[Cluster, OwnCluster] = {}
_lock = threading.Lock()


def own_cluster(cluster: Cluster) -> OwnCluster:
    """Return the cluster with these options that this process has started; start it, if it is not there."""
    with _lock:
        found = _kept.get(cluster)
        if found is not None and not found.is_alive:
            found.end()
            found = None
        if found is None:
            found = _kept[cluster] = start(cluster)
        return found


def end_all() -> None:
    """End each cluster that this process has started."""
    with _lock:
        while _kept:
            _kept.popitem()[1].end()


AT_SHUTDOWN.append(end_all)


def _after_fork() -> None:
    """Forget them in a forked child: they are its parent's."""
    global _lock
    _lock = threading.Lock()
    _inherited.update(_kept)
    _kept.clear()


_inherited: dict[Cluster, OwnCluster] = {}  # kept, or their `Popen` would warn that they still run
os.register_at_fork(after_in_child=_after_fork)


def start(cluster: Cluster) -> OwnCluster:
    """Start a cluster; raise PlaceError where it does not start."""
    with tempfile.TemporaryFile("w+") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(asdict(cluster))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,  # ctrl-C is for the client, which then cancels what runs there
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        if line:
            return OwnCluster(process, json.loads(line)["address"])
        with process:  # its pipes are closed
            code = process.wait()
        stderr.seek(0)
        said = stderr.read()[-_MOST_STDERR:].strip()
    raise PlaceError(f"The Dask cluster on this machine did not start (exit code {code}):\n{said}")
