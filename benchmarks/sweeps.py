"""mlfn's own figures of sweeps; ``python benchmarks/ours.py NAME`` prints one row of them."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from stores import beside_bare
from timing import emit, process_ms

HERE = str(Path(__file__).parent)
CHILDREN = 10_000
KILLED_AT = 9_000

COLD_EIGHT = f"""
import sys, time
sys.path.insert(0, {HERE!r})
from noop import pause
begun = time.perf_counter()
pause.grid(i=list(range(8))).with_options(parallel=4).submit(seconds=0.3).result()
print((time.perf_counter() - begun) * 1e3)
"""

NAMED = f"""
import os, signal, sys, threading, time
begun = time.time()
sys.path.insert(0, {HERE!r})
from noop import noop
from mlfn.dispatch.session import current_session
submitting = time.time()
sweep = noop.grid(i=list(range({CHILDREN}))).with_options(name="resumed").submit()
def ended():
    return sum(n for state, n in current_session().store.child_counts(sweep.id).items() if state.is_terminal)
if sys.argv[1] == "killed":
    while ended() < {KILLED_AT}:
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)
sweep.wait()
first = min(row.started for row in current_session().store.children(sweep.id) if row.started > submitting)
print((first - submitting) * 1e3, (first - begun) * 1e3)
"""


WATCHED = f"""
import io, statistics, sys, time
sys.path.insert(0, {HERE!r})
from noop import noop
terminal, taken = sys.stderr, {{True: [], False: []}}
assert terminal.isatty()
for turn in range(-2, 14):
    shown = turn % 2 == 0
    sys.stderr = terminal if shown else io.StringIO()
    begun, cpu = time.perf_counter(), time.process_time()
    noop.grid(i=list(range(3000))).with_options(select="max.return").submit().wait()
    if turn >= 0:
        taken[shown].append((time.perf_counter() - begun, time.process_time() - cpu))
pairs = list(zip(taken[True], taken[False]))
print(*((statistics.median(on[i] / off[i] for on, off in pairs) - 1) * 100 for i in (0, 1)))
"""


def grid() -> None:
    """Measure a grid of 1,000 children, in worker processes that are there."""
    from noop import noop

    def all_of_them() -> None:
        sweep = noop.grid(i=list(range(1000))).with_options(select="max.return").submit()
        assert sweep.result() == 999

    all_of_them()
    cpus = []

    def once() -> float:
        begun, cpu = time.perf_counter(), time.process_time()
        all_of_them()
        took = time.perf_counter() - begun
        cpus.append((time.process_time() - cpu) / 1000 * 1e3)
        return 1000 / took

    rates, of_bare = beside_bare(once)
    rate = statistics.median(rates)
    emit(grid_per_second=rate, grid_per_second_sqlite=rate, grid_bare_ratio=statistics.median(of_bare))
    emit(grid_client_cpu_ms=statistics.median(cpus))


def driver_cpu() -> None:
    """Measure the driver's thread alone, over grids and draws of 2,000."""
    from noop import noop

    from mlfn.sweep.spaces.distributions import randint

    noop.submit(1).result()
    figures = {}
    sweeps = {"grid": noop.grid(i=list(range(2000))), "random": noop.random(n=2000, seed=1, i=randint(0, 10**6))}
    for name, sweep in sweeps.items():
        with _thread_time("mlfn-sweep-") as spent:
            sweep.with_options(select="max.return").submit().wait()
        figures[f"driver_cpu_{name}_ms"] = spent[0] / 2000 * 1e3
    emit(**figures)


@contextmanager
def _thread_time(name: str) -> Any:
    """Add up the processor time of threads whose name begins so, to their end."""
    spent = [0.0]
    run = threading.Thread.run

    def timed(thread: threading.Thread) -> None:
        begun = time.thread_time()
        run(thread)
        if thread.name.startswith(name):
            spent[0] += time.thread_time() - begun

    threading.Thread.run = timed  # type: ignore[method-assign]
    try:
        yield spent
        for thread in threading.enumerate():
            if thread.name.startswith(name):
                thread.join()
    finally:
        threading.Thread.run = run  # type: ignore[method-assign]


def described() -> None:
    """Measure the description of a grid of 10^9 cells, and what memory it and a look into it take."""
    from noop import nine

    axes = {key: list(range(10)) for key in "abcdefghi"}

    def describe() -> None:
        sweep = nine.grid(**axes)
        assert len(sweep) == 10**9
        assert sweep[10**9 - 1]["i"] == 9

    describe()
    taken = []
    for _ in range(200):
        begun = time.perf_counter()
        describe()
        taken.append((time.perf_counter() - begun) * 1e3)
    tracemalloc.start()
    describe()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    emit(describe_ms=statistics.median(taken), describe_kb=peak / 1024)


def scheduled() -> None:
    """Measure 10,000 children of a second on 16 slots by a clock that jumps; see simulated.py."""
    figures = {}
    # A limit of failures has the driver keep the window: it hands each child over when another has ended.
    for name, options in (("even", {}), ("varied", {"parallel": 16, "max_failures": 1})):
        code = (
            f"import sys; sys.path.insert(0, {HERE!r})\nfrom sweeps import scheduled_here\n"
            f"print(scheduled_here({name!r}, {options!r}))"
        )
        environ = {**os.environ, "MLFN_DATA": tempfile.mkdtemp(dir=os.environ.get("MLFN_DATA"))}
        done = subprocess.run([sys.executable, "-c", code], env=environ, check=True, capture_output=True, text=True)
        figures[f"schedule_{name}_percent"] = float(done.stdout)
    emit(**figures)


def scheduled_here(lasts: str, options: dict[str, Any]) -> float:
    """Return by how many per cent a sweep takes longer than its children on the slots; for a process of its own."""
    import simulated

    takes = {"even": simulated.even, "varied": simulated.varied}[lasts]
    simulated.install(takes)
    from noop import noop

    sweep = noop.on("chaos", engine="simulated").grid(i=list(range(CHILDREN))).with_options(**options)
    begun = simulated.CLOCK.monotonic()
    run = sweep.submit()
    assert run.wait()
    assert run.state == "succeeded", run.state
    took = simulated.CLOCK.monotonic() - begun
    best = simulated.at_best(CHILDREN, takes)
    return (took / best - 1) * 100


def units() -> None:
    """Measure 10,000 children as units of one execution, which take no time; see simulated.py."""
    code = f"import sys; sys.path.insert(0, {HERE!r})\nfrom sweeps import units_here\nprint(*units_here())"
    environ = {**os.environ, "MLFN_DATA": tempfile.mkdtemp(dir=os.environ.get("MLFN_DATA"))}
    done = subprocess.run([sys.executable, "-c", code], env=environ, check=True, capture_output=True, text=True)
    driver, dispatcher = map(float, done.stdout.split())
    emit(units_driver_ms=driver, units_cpu_ms=driver + dispatcher)


def units_here() -> tuple[float, float]:
    """Return what a unit takes of the driver's and of the dispatcher's thread, in ms; for a process of its own."""
    import simulated

    simulated.install(lambda i: 0.0, slots=CHILDREN)
    from noop import noop

    noop.on("chaos", engine="simulated").grid(i=[0, 1]).submit().wait()  # what is loaded once
    [dispatcher] = [thread for thread in threading.enumerate() if thread.name == "mlfn-dispatch"]
    clock = time.pthread_getcpuclockid(dispatcher.ident or 0)
    begun = time.clock_gettime(clock) - simulated.ENGINE_SECONDS[0]
    with _thread_time("mlfn-sweep-") as spent:
        run = noop.on("chaos", engine="simulated").grid(i=list(range(CHILDREN))).submit()
        assert run.wait()
    assert run.state == "succeeded", run.state
    took = time.clock_gettime(clock) - simulated.ENGINE_SECONDS[0] - begun
    return spent[0] / CHILDREN * 1e3, took / CHILDREN * 1e3


def memory() -> None:
    """Measure a process that drives 10,000 children, from its start to the sweep's end."""
    from noop import noop

    noop.submit(1).result()
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
    sweep = noop.grid(i=list(range(CHILDREN))).with_options(select="max.return").submit()
    assert sweep.wait()
    peak = _status("VmHWM")
    emit(driver_peak_mb=peak, driver_growth_mb=peak - before)


def _status(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return 0.0


def live_table() -> None:
    """Measure sweeps that a terminal shows, over those that nobody sees: by turns in one process, the median pair."""
    master, slave = os.openpty()
    reader = threading.Thread(target=_swallow, args=(master,), daemon=True)
    reader.start()
    environ = {**os.environ, "TERM": "xterm"}
    environ.pop("CI", None)
    command = [sys.executable, "-c", WATCHED]
    try:
        done = subprocess.run(command, env=environ, check=True, stdout=subprocess.PIPE, stderr=slave, text=True)
    finally:
        os.close(slave)
        reader.join()
    wall, cpu = map(float, done.stdout.split())
    emit(live_table_percent=wall, live_table_cpu_percent=cpu)


def _swallow(master: int) -> None:
    with os.fdopen(master, "rb", buffering=0) as screen:
        try:
            while screen.read(1 << 16):
                pass
        except OSError:
            pass  # the other end is closed


def resumed() -> None:
    """Measure a script that is run again after it was killed at 9,000 of 10,000 children."""
    times = []
    for _ in range(3):
        environ = {**os.environ, "MLFN_DATA": tempfile.mkdtemp(dir=os.environ.get("MLFN_DATA"))}
        with tempfile.NamedTemporaryFile("w", suffix=".py") as script:
            script.write(NAMED)
            script.flush()
            subprocess.run([sys.executable, script.name, "killed"], env=environ, check=False, capture_output=True)
            done = subprocess.run(
                [sys.executable, script.name, "again"], env=environ, check=True, capture_output=True, text=True
            )
        times.append([float(part) for part in done.stdout.split()])
    submit, whole = (statistics.median(column) for column in zip(*times, strict=True))
    emit(resume_ms=submit, resume_process_ms=whole)


def eight() -> None:
    """Measure 8 children of 0.3 s, 4 at a time: with workers that are there, and with none."""
    from noop import pause

    def all_of_them() -> float:
        begun = time.perf_counter()
        pause.grid(i=list(range(8))).with_options(parallel=4).submit(seconds=0.3).result()
        return (time.perf_counter() - begun) * 1e3

    all_of_them()
    warm = statistics.median(all_of_them() for _ in range(5))
    emit(eight_warm_ms=warm, eight_cold_ms=process_ms(COLD_EIGHT, times=5, report=True))


ROWS: tuple[Callable[[], None], ...] = (
    grid,
    driver_cpu,
    described,
    scheduled,
    units,
    memory,
    live_table,
    resumed,
    eight,
)
