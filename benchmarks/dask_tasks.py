"""Runs as tasks of a Dask cluster beside raw Dask on the very same cluster: ``python benchmarks/dask_tasks.py`` prints the rows."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from noop import noop, pause
from timing import emit, median_ms

import mlfn
from mlfn.dispatch.session import current_session

CHILDREN = 1000


def dask_tasks() -> None:
    """Measure, in turns, so that both meet the machine as it is at the time."""
    here = noop.with_options(kind=mlfn.Dask(workers=2))
    here.submit(1).result()
    client = _client()
    raw = noop.__wrapped__  # type: ignore[attr-defined]

    def tracked() -> None:
        run = here.map(range(CHILDREN)).submit()
        assert run.wait(600) and run.state == "succeeded"

    def bare() -> None:
        assert client.gather(client.map(raw, range(CHILDREN), pure=False)) == list(range(CHILDREN))

    tracked()
    ratios = [_seconds(bare) / _seconds(tracked) for _ in range(5)]
    emit(dask_children_ratio=statistics.median(ratios))
    submits = [
        median_ms(lambda: here.submit(1).result(), times=40)
        / median_ms(lambda: client.submit(raw, 1, pure=False).result(), times=40)
        for _ in range(5)
    ]
    emit(dask_submit_ratio=statistics.median(submits))


def dask_sleepers() -> None:
    """Measure 8 children of 0.3 s over 4 workers."""
    here = pause.with_options(kind=mlfn.Dask(workers=4))
    sweep = here.map(range(8), seconds=[0.3] * 8)
    sweep.submit().wait(600)
    emit(dask_sleepers_s=statistics.median(_seconds(lambda: sweep.submit().wait(600)) for _ in range(5)))


def _seconds(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def _client() -> Any:
    """Return the client of the only cluster that mlfn is connected to."""
    [dispatcher] = current_session()._dispatchers.values()
    return dispatcher._place._connection.client


ROWS = (dask_tasks, dask_sleepers)

if __name__ == "__main__":
    for row in ROWS:
        row()
