"""``python benchmarks/table.py [--peers FOLDER]``: measure, and print one table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PEERS = {
    "ray": ["ray[tune]==2.60.*"],
    "dask": ["dask==2026.8.*", "distributed==2026.8.*"],
    "optuna": ["optuna==5.0.*"],
    "mlflow": ["mlflow"],
    "submitit": ["submitit==1.5.*"],
    "joblib": ["joblib"],
}
# row, what it is, unit, what it must reach, whether less is better
ROWS = (
    ("import_ratio", "`import mlfn` / `import pydantic`, whole processes", "x", 1.2, True),
    ("import_ms", "`import mlfn`, without the interpreter's own start", "ms", 150, True),
    ("plain_call_overhead_us", "a plain call of a declared function, over the bare call", "us", 1, True),
    ("tracked_noop_ms", 'one tracked no-op, durable, `on="inline"`', "ms", 1, True),
    ("warm_ms", "submit -> result, warm worker process", "ms", 5, True),
    ("cold_ms", "first submit -> result, cold", "ms", 200, True),
    ("runs_per_second", "1,000 tracked no-ops through worker processes", "/s", 2000, False),
    ("point_us", "a point of 100,000 that one run logs, in the handler", "us", 2, True),
    ("point_stored_us", "the same until all are in the store, submit and worker included", "us", 20, True),
    ("point_inline_us", 'a point in the handler, `on="inline"`', "us", 20, True),
    ("runs_bare_ratio", "the same / bare SQLite: an insert and an update a run, a commit each", "x", 0.25, False),
    ("runs_per_second_postgres", "the same on PostgreSQL over loopback", "/s", 2000, False),
    ("store_filled_ratio", "the store alone, with 200,000 runs in it / with none", "x", 0.9, False),
    ("store_per_second_postgres", "the store alone on PostgreSQL", "/s", 2000, False),
    ("store_point_us", "a point of a metric, 500 together", "us", 3, True),
    ("newest_100_ms", "newest 100 among 100,000 runs", "ms", 5, True),
    ("best_ms", "best by metric among 100,000 runs", "ms", 5, True),
    ("listing_memory_mb", "memory that these listings take", "MB", 50, True),
    ("flood_client_mb", "1 GB of stdout: client's growth", "MB", 64, True),
    ("flood_worker_mb", "1 GB of stdout: worker's growth", "MB", 64, True),
    ("grid_per_second", "a grid of 1,000 no-ops, its best told, through worker processes", "/s", 2000, False),
    ("grid_bare_ratio", "the same / bare SQLite", "x", 0.25, False),
    ("grid_per_second_sqlite", "the same; Optuna on SQLite instead of its journal", "/s", 2000, False),
    ("grid_client_cpu_ms", "its processor time in the client, all threads, a child", "ms", 0.5, True),
    ("driver_cpu_grid_ms", "the driver's thread alone, a child of a grid", "ms", 0.5, True),
    ("driver_cpu_random_ms", "the driver's thread alone, a child of a random search", "ms", 0.5, True),
    ("schedule_even_percent", "10,000 children of 1 s on 16 slots, clock that jumps: over 625 s", "%", 3, True),
    ("schedule_varied_percent", "the same, 1 s on average, `parallel=16`: over the least possible", "%", 3, True),
    ("units_driver_ms", "10,000 children as units of one execution: the driver's thread, a child", "ms", 0.1, True),
    ("units_cpu_ms", "driver and dispatcher together, without the engine", "ms", 0.1, True),
    ("describe_ms", "describing a grid of 10^9 cells", "ms", 1, True),
    ("describe_kb", "memory that it takes", "kB", 64, True),
    ("driver_peak_mb", "10,000 children: the client's memory at its peak", "MB", 150, True),
    ("driver_growth_mb", "of which the sweep", "MB", 150, True),
    ("live_table_percent", "the live table: how much longer a sweep takes with it", "%", 2, True),
    ("live_table_cpu_percent", "the same of processor time", "%", 2, True),
    ("resume_ms", "10,000 children, killed at 9,000: submit -> first new child starts", "ms", 3000, True),
    ("dask_children_ratio", "1,000 tracked no-ops on Dask: raw `client.map` + gather / the sweep", "x", 0.9, False),
    ("dask_submit_ratio", "submit -> result on a warm Dask cluster / `client.submit(...).result()`", "x", 1.3, True),
    ("dask_sleepers_s", "8 children of 0.3 s over 4 Dask workers", "s", 1, True),
    ("resume_process_ms", "the same from the start of the script, imports included", "ms", 3000, True),
    ("eight_warm_ms", "8 children of 0.3 s, `parallel=4`, warm", "ms", 750, True),
    ("eight_cold_ms", "the same, from no worker at all", "ms", 750, True),
    ("search_ratio_10", "TPE: ask + tell / Optuna's own in memory, CPU, 10 trials", "x", 1.1, True),
    ("search_ratio_300", "the same after 300 trials", "x", 1.1, True),
    ("search_ratio_1000", "the same after 1,000 trials", "x", 1.1, True),
)


def main() -> None:
    """Measure mlfn, and the peers whose environments are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, help="a folder for the peers' environments; made where they are missing")
    options = parser.parse_args()
    measured = {"mlfn": _rows([sys.executable, str(HERE / "ours.py")])}
    for peer in PEERS if options.peers else ():
        measured[peer] = _rows([str(_environment(options.peers / peer, peer)), str(HERE / "peers" / f"{peer}_peer.py")])
    print(_table(measured))
    if missing := [row for row, *_ in ROWS if row not in measured["mlfn"]]:
        sys.exit(f"not measured: {', '.join(missing)}")


def _rows(command: list[str]) -> dict[str, float]:
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONWARNINGS": "ignore",
    }
    environ.pop("PYTHONDONTWRITEBYTECODE", None)  # every import would compile its source again
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=1800, check=False)
    if done.returncode:
        print(f"{command[-1]} failed:\n{done.stderr[-2000:]}", file=sys.stderr)
    rows: dict[str, float] = {}
    for line in done.stdout.splitlines():
        if line.startswith("ROWS "):
            rows.update(json.loads(line[5:]))
    return rows


def _environment(folder: Path, peer: str) -> Path:
    """Return the interpreter of a peer's environment, made where there is none or where something else is in it."""
    python, made_of = folder / "bin" / "python", folder / "made-of.txt"
    wanted = "\n".join(PEERS[peer])
    if not python.exists():
        subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    if not made_of.exists() or made_of.read_text() != wanted:
        subprocess.run(
            ["uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), *PEERS[peer]], check=True
        )
        made_of.write_text(wanted)
    return python


def _table(measured: dict[str, dict[str, float]]) -> str:
    peers = [name for name in measured if name != "mlfn"]
    lines = [
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "",
        "| what | mlfn | must reach | reached |" + "".join(f" {peer} |" for peer in peers),
        "|---|---|---|---|" + "---|" * len(peers),
    ]
    for row, what, unit, target, less in ROWS:
        ours = measured["mlfn"].get(row)
        if ours is None:
            lines.append(f"| {what} | not measured | | |")
            continue
        reached = ours <= target if less else ours >= target
        sign = "<=" if less else ">="
        theirs = "".join(f" {_cell(measured[peer].get(row), ours, unit)} |" for peer in peers)
        lines.append(
            f"| {what} | {_number(ours)} {unit} | {sign} {target} {unit} | {'yes' if reached else 'NO'} |{theirs}"
        )
    return "\n".join(lines)


def _cell(theirs: float | None, ours: float, unit: str) -> str:
    if theirs is None:
        return ""
    ratio = theirs / ours if unit != "/s" else ours / theirs
    return f"{_number(theirs)} {unit} ({ratio:.1f}x)"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


if __name__ == "__main__":
    main()
