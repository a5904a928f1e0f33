"""mlfn's own figures: ``python benchmarks/ours.py`` prints them as rows."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import dask_tasks
import stores
import sweeps
from search import searching
from stores import beside_bare
from timing import emit, median_ms, per_second, process_ms

import mlfn

COLD = """
import sys, time
sys.path.insert(0, {folder!r})
from noop import noop
begun = time.perf_counter()
noop.submit(1).result()
print((time.perf_counter() - begun) * 1e3)
"""


def imports() -> None:
    ours = process_ms("import mlfn; mlfn.function")
    pydantic = process_ms("import pydantic; pydantic.BaseModel")
    bare = process_ms("pass")
    emit(import_ms=ours - bare, import_pydantic_ms=pydantic - bare, import_ratio=ours / pydantic)


def plain_call() -> None:
    from noop import noop

    raw = noop.__wrapped__  # type: ignore[attr-defined]
    count = 200_000
    overheads = []
    for _ in range(5):
        ours, theirs = _loop(noop, count), _loop(raw, count)
        overheads.append((ours - theirs) / count * 1e6)
    emit(plain_call_overhead_us=statistics.median(overheads))


def _loop(call: Callable[[int], int], count: int) -> float:
    begun = time.perf_counter()
    for i in range(count):
        call(i)
    return time.perf_counter() - begun


def inline() -> None:
    from noop import noop

    here = noop.on("inline")
    emit(tracked_noop_ms=median_ms(lambda: here.submit(1).result(), times=500))


def cold() -> None:
    code = COLD.format(folder=str(Path(__file__).parent))
    emit(cold_ms=process_ms(code, times=7, report=True))


def warm() -> None:
    from noop import noop

    emit(warm_ms=median_ms(lambda: noop.submit(1).result(), times=500, warmup=20))


def many() -> None:
    from noop import noop

    def all_of_them() -> None:
        runs = [noop.submit(i) for i in range(1000)]
        assert [run.result() for run in runs] == list(range(1000))

    all_of_them()
    rates, of_bare = beside_bare(lambda: per_second(all_of_them, count=1000, times=1))
    emit(runs_per_second=statistics.median(rates), runs_bare_ratio=statistics.median(of_bare))


def many_on_a_server() -> None:
    """Measure the same with the store at a PostgreSQL of this machine, in a process of its own."""
    from tests.postgres_server import postgres

    with postgres() as url:
        environ = {**os.environ, "MLFN_STORE": url}
        done = subprocess.run(
            [sys.executable, __file__, "many"], env=environ, check=True, capture_output=True, text=True
        )
    emit(runs_per_second_postgres=json.loads(done.stdout.removeprefix("ROWS "))["runs_per_second"])


def points() -> None:
    from noop import log_points

    count = 100_000
    log_points.submit(10).result()
    handler, stored, inline = [], [], []
    for _ in range(5):
        begun = time.perf_counter()
        run = log_points.submit(count)
        handler.append(run.result())
        stored.append((time.perf_counter() - begun) / count * 1e6)
        assert len(run.metrics.history("loss")) == count
        inline.append(log_points.on("inline").submit(count).result())
    emit(point_us=statistics.median(handler), point_stored_us=statistics.median(stored))
    emit(point_inline_us=statistics.median(inline))


def listing() -> None:
    from mlfn.dispatch.session import current_session
    from mlfn.host.identity import new_id
    from mlfn.spec.record import Outcome, Output, RunState
    from mlfn.store.changes import Change, Claimed, Finished, Submitted

    store = current_session().store
    for start in range(0, 100_000, 5_000):
        changes: list[Change] = []
        for i in range(start, start + 5_000):
            run = new_id()
            score = Output("accuracy", "return", "json", "builtins.float", inline=(i * 7919 % 100_003) / 1e5, size=8)
            changes += [
                Submitted(run, "fill", "bench", "f", "p", "local", "nobody", {"i": {"packer": "json", "inline": i}}, i),
                Claimed(run, "nobody", None, float(i)),
                Finished(run, 1, Outcome(RunState.SUCCEEDED, outputs=(score,)), float(i)),
            ]
        store.apply(changes)
    Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
    before = _peak_rss()
    newest = median_ms(lambda: mlfn.runs(project="bench", limit=100), times=50)
    best = median_ms(lambda: mlfn.runs(project="bench", order="max.accuracy", limit=1), times=50)
    emit(newest_100_ms=newest, best_ms=best, listing_memory_mb=_peak_rss() - before)


def _peak_rss() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def one_gigabyte() -> None:
    from noop import flood

    flood.submit(1).result()
    client, worker = _rss(os.getpid()), 0.0
    run = flood.submit(1000)
    grown = [0.0, 0.0]
    base: dict[int, float] = {}
    while not run.done():
        for pid in _children():
            base.setdefault(pid, _rss(pid))
            worker = max(worker, _rss(pid) - base[pid])
        grown[0] = max(grown[0], _rss(os.getpid()) - client)
        time.sleep(0.05)
    run.result()
    path = run.log_path()
    assert path is not None
    size = path.stat().st_size
    path.unlink()
    assert size == 1_000_000_000, size
    emit(flood_client_mb=grown[0], flood_worker_mb=worker)


def _rss(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return 0.0


def _children() -> list[int]:
    listed = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
    mine = {int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}
    return sorted(mine | {int(pid) for pid in listed})


ROWS = (
    imports,
    plain_call,
    inline,
    cold,
    warm,
    many,
    many_on_a_server,
    points,
    listing,
    one_gigabyte,
    searching,
    *sweeps.ROWS,
    *stores.ROWS,
    *dask_tasks.ROWS,
)


def main() -> None:
    """Measure every row in a process and a store of its own."""
    wanted = sys.argv[1:]
    if len(wanted) == 1:
        {row.__name__: row for row in ROWS}[wanted[0]]()
        return
    for row in ROWS:
        folder = tempfile.mkdtemp(prefix="mlfn-bench-")
        environ = {**os.environ, "MLFN_DATA": folder}
        try:
            done = subprocess.run(
                [sys.executable, __file__, row.__name__], env=environ, check=False, capture_output=True, text=True
            )
            print(done.stdout, end="", flush=True)
            if done.returncode:
                print(f"{row.__name__} failed:\n{done.stderr}", file=sys.stderr)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
