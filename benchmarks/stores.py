"""The store alone, beside bare SQLite: ``python benchmarks/stores.py`` prints its rows."""

from __future__ import annotations

import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from timing import emit

from mlfn.host.identity import new_id
from mlfn.spec.record import Outcome, Output, RunState
from mlfn.store import open_store
from mlfn.store.changes import Change, Claimed, Finished, MetricsLogged, Started, Submitted
from mlfn.store.commands import Store

RUNS = 2000
FILLED = 200_000
BATCH = 8  # claims and ends that a dispatcher records together
POINTS, POINTS_TOGETHER = 100_000, 500
SUCCEEDED = Outcome(
    RunState.SUCCEEDED,
    returns={"keys": ["return"]},
    outputs=(Output("return", "return", "json", "builtins.int", inline=1, size=1),),
)


def bare(folder: Path) -> float:
    """Return how many runs a second an insert and an update take, with a commit each."""
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("CREATE TABLE runs (id TEXT PRIMARY KEY, params TEXT, state TEXT, value REAL)")
    ids = [new_id() for _ in range(RUNS)]

    def all_of_them() -> None:
        for run in ids:
            connection.execute("INSERT INTO runs VALUES (?, '{}', 'pending', NULL)", (run,))
            connection.execute("UPDATE runs SET state = 'succeeded', value = 1 WHERE id = ?", (run,))

    rate = _rate(all_of_them)
    connection.close()
    return rate


def beside_bare(rate: Callable[[], float]) -> tuple[list[float], list[float]]:
    """Return a rate seven times, and each as a part of bare SQLite's right before it."""
    rates, of_bare = [], []
    for _ in range(7):
        with tempfile.TemporaryDirectory() as folder:
            least = bare(Path(folder))
        rates.append(rate())
        of_bare.append(rates[-1] / least)
    return rates, of_bare


def cycle(store: Store) -> float:
    """Return how many runs a second are submitted, one by one, and claimed and ended in batches."""
    ids = [new_id() for _ in range(RUNS)]

    def all_of_them() -> None:
        for start in range(0, RUNS, BATCH):
            batch = ids[start : start + BATCH]
            for run in batch:
                store.apply([_submitted(run)])
            store.apply([Claimed(run, "me", "w", 2.0) for run in batch], cursors={}, client="me")
            ends: list[Change] = []
            for run in batch:
                ends += [Started(run, 1, 3.0), Finished(run, 1, SUCCEEDED, 4.0)]
            assert all(store.apply(ends, cursors={}, client="me"))

    return _rate(all_of_them)


def _submitted(run: str) -> Submitted:
    params = {"i": {"packer": "json", "inline": 1}}
    return Submitted(run, "noop", "bench", "f" * 64, "p" * 64, "local", "me", params, 1.0)


def _rate(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return RUNS / (time.perf_counter() - begun)


def fill(store: Store) -> None:
    """Give a store many runs that are over."""
    for _ in range(0, FILLED, 5000):
        ids = [new_id() for _ in range(5000)]
        changes: list[Change] = [_submitted(run) for run in ids]
        changes += [Claimed(run, "me", "w", 2.0) for run in ids]
        changes += [Finished(run, 1, SUCCEEDED, 4.0) for run in ids]
        store.apply(changes)


def points(store: Store) -> float:
    """Return the microseconds that one point of a metric takes."""
    run = new_id()
    store.apply([_submitted(run), Claimed(run, "me", "w", 2.0)])
    batches = [
        MetricsLogged(run, 1, first, tuple(("loss", step, 0.5, 3.0) for step in range(first, first + POINTS_TOGETHER)))
        for first in range(0, POINTS, POINTS_TOGETHER)
    ]
    begun = time.perf_counter()
    for batch in batches:
        store.apply([batch])
    return (time.perf_counter() - begun) / POINTS * 1e6


def stores() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        empty, filled = open_store("", folder / "empty"), open_store("", folder / "filled")
        fill(filled)
        filled.close()  # with the log of what filled it; the next use opens it again
        cycle(filled)
        rates: list[tuple[float, float, float]] = []
        for turn in range(5):  # in turns: the machine is not equally fast at all times
            (folder / "bare.db").unlink(missing_ok=True)
            empty.close()
            empty = open_store("", folder / f"empty{turn}")
            rates.append((bare(folder), cycle(empty), cycle(filled)))
        middle = [statistics.median(column) for column in zip(*rates, strict=True)]
        emit(
            store_bare=middle[0],
            store_per_second=middle[1],
            store_ratio=middle[1] / middle[0],
            store_filled_ratio=middle[2] / middle[1],
            store_point_us=points(empty),
        )
        filled.close()
        empty.close()


def stores_on_a_server() -> None:
    from tests.postgres_server import postgres

    with postgres() as url:
        store = open_store(url, Path())
        cycle(store)
        emit(store_per_second_postgres=statistics.median(cycle(store) for _ in range(5)))
        store.close()


ROWS = (stores, stores_on_a_server)

if __name__ == "__main__":
    stores()
    stores_on_a_server()
