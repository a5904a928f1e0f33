"""Did each run happen once? A ledger that handlers write, and an audit that compares it with the store."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from mlfn.store import open_queries

ROOT = Path(__file__).resolve().parents[1]
TERMINAL = ("succeeded", "failed", "cancelled", "pruned")

# What a script's handlers call: one write each, so that no line is ever torn.
NOTE = """
import os

def note(path, what, ctx):
    fd = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
    os.write(fd, f"{what} {ctx.run_id} {ctx.attempt} {os.getpid()}\\n".encode())
    os.close(fd)
"""


class Stage:
    """A data folder, a script that uses it, and processes that run the script."""

    def __init__(self, folder: Path, script: str, **settings: object) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.ledger = folder / "ledger"
        self.script = folder / "script.py"
        folder.mkdir(exist_ok=True)
        self.script.write_text(NOTE + textwrap.dedent(script))
        self.environ = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "MLFN_DATA": str(self.data),
            **{f"MLFN_{name.upper()}": str(value) for name, value in settings.items()},
        }

    def start(
        self, *args: str, python: str = sys.executable, environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start the script; its first argument is the ledger."""
        return subprocess.Popen(
            [python, str(self.script), str(self.ledger), *args],
            env={**self.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
        )

    def run(self, *args: str, code: int = 0, timeout: float = 60, **more: Any) -> str:
        """Run the script to its end and return what it printed."""
        process = self.start(*args, **more)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"the script did not end within {timeout} s\n{out}\n{err}\n{self.table()}") from None
        assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
        return out

    def mlfn(self, *args: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run the command line to its end, which is to be in order."""
        command = [sys.executable, "-m", "mlfn", *args]
        done = subprocess.run(command, env=self.environ, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def kill(self, process: subprocess.Popen[str]) -> None:
        """End a process as a power cut would."""
        process.send_signal(signal.SIGKILL)
        process.communicate()

    def query(self, sql: str, *args: object) -> list[tuple[Any, ...]]:
        """Read the store behind mlfn's back."""
        connection = sqlite3.connect(self.data / "mlfn.db", timeout=30)
        try:
            return connection.execute(sql, args).fetchall()
        finally:
            connection.close()

    def table(self) -> str:
        """Return runs and events as text, for a failure's message."""
        try:
            runs = self.query("SELECT id, name, state, reason, attempt, owner, execution FROM runs ORDER BY seq")
        except sqlite3.Error as error:
            return str(error)
        open_runs = [row for row in runs if row[2] not in TERMINAL][:10]
        events = [(row[0], *event) for row in open_runs for event in self.events(row[0])]
        return "\n".join(map(str, [*open_runs, *events][:60]))

    def events(self, run: str) -> list[tuple[float, int, str, str | None]]:
        """Return what happened to a run."""
        with closing(open_queries("", self.data)) as store:
            return store.events(run)

    def entries(self) -> list[tuple[str, str, int, int]]:
        """Return the ledger's lines as (what, run, attempt, pid)."""
        if not self.ledger.exists():
            return []
        lines = [line.split() for line in self.ledger.read_text().splitlines()]
        return [(what, run, int(attempt), int(pid)) for what, run, attempt, pid in lines]

    def workers(self) -> list[int]:
        """Return the living worker processes that have their folder here."""
        return worker_processes(self.data)


def worker_processes(data: Path) -> list[int]:
    """Return the living worker processes that were started by somebody whose data folder is `data`."""
    started = processes_with("MLFN_DATA", data)
    return [pid for pid in started if _name_of(pid) == "mlfn-worker"]


def fork_servers(data: Path) -> list[int]:
    """Return the processes that fork workers for somebody whose data folder is `data`."""
    started = processes_with("MLFN_DATA", data)
    return [pid for pid in started if _name_of(pid) != "mlfn-worker"]


def processes_with(variable: str, value: Path) -> list[int]:
    """Return the living workers, and processes that fork them, in whose environment a variable has this value."""
    setting = os.fsencode(f"{variable}={value}")
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                is_worker = b"mlfn.worker.fork_server" in (entry / "cmdline").read_bytes()
                if is_worker and setting in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def wait_until(condition: Callable[[], object], *, timeout: float = 20.0, every: float = 0.01) -> Any:
    """Return the first true value of `condition`; fail when there was none in time."""
    until = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < until, f"waited {timeout} s in vain"
        time.sleep(every)
    return value


def audit(stage: Stage, *, runs: int, once: Sequence[str] = ()) -> None:
    """Hold store and ledger against each other; `once` names functions whose handlers must have ended at most once."""
    table = stage.query("SELECT id, name, state, attempt FROM runs")
    assert len(table) == runs == len({row[0] for row in table})
    assert [row for row in table if row[2] not in TERMINAL] == [], stage.table()
    assert stage.query("SELECT * FROM runs WHERE queued = 1") == []
    assert stage.query("PRAGMA integrity_check") == [("ok",)]
    _check_events(stage, {run: (state, attempt) for run, _, state, attempt in table})
    elsewhere = {row[0] for row in stage.query("SELECT id FROM runs WHERE sweep = 1 OR reused IS NOT NULL")}
    _check_ledger(stage, {row[0]: (row[1], row[2], row[3]) for row in table}, once, elsewhere)
    wait_until(lambda: not stage.workers())


def _check_events(stage: Stage, states: Mapping[str, tuple[str, int]]) -> None:
    replayed: dict[str, tuple[str, int]] = {}
    for run, _, attempt, what, _ in ((name, *event) for name in states for event in stage.events(name)):
        state, held = replayed.get(run, ("", 0))
        if what in ("cancel requested", "adopted"):
            assert state in ("pending", "running"), (run, what, state)
            continue
        expected = {"submitted": "", "claimed": "pending", "requeued": "running"}.get(what)
        if expected is not None:
            assert state == expected, (run, what, state)
        else:
            assert state in ("pending", "running"), (run, what, state)
        if what == "claimed":
            assert attempt == held + 1, (run, held, attempt)
            held = attempt
        if what == "reused":
            held = attempt
        after = {"submitted": "pending", "claimed": "running", "requeued": "pending", "reused": "succeeded"}.get(
            what, what
        )
        replayed[run] = (after, held)
    assert replayed == dict(states)


def _check_ledger(
    stage: Stage, table: Mapping[str, tuple[str, str, int]], once: Sequence[str], elsewhere: Container[str]
) -> None:
    """`elsewhere` are runs whose work others did: sweeps, and children that took over an outcome."""
    entries = stage.entries()
    counts = Counter((what, run, attempt) for what, run, attempt, _ in entries)
    assert {key: n for key, n in counts.items() if n > 1} == {}, "an attempt ran twice"
    assert {run for _, run, _, _ in entries} <= set(table), "a run that nobody stored"
    ends = Counter(run for what, run, _, _ in entries if what == "end")
    assert {run: n for run, n in ends.items() if table[run][0] in once and n > 1} == {}, "what had finished ran again"
    for run, (name, state, attempt) in table.items():
        if state == "succeeded" and run not in elsewhere:
            assert counts["end", run, attempt] == 1, f"{name} {run} is recorded and was never done"
        if counts["end", run, attempt] and name in once:
            assert state == "succeeded", f"{name} {run} was done and is recorded as {state}"
