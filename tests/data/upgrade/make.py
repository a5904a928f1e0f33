"""Makes the data folders of the upgrade test: one archive for each version of mlfn and each Python minor, beside this file.

Each ``VERSION/py3XX.tar.xz`` is what a user had on disk: the data folder, the signing key and secrets (of this test alone), and
what the runs of `project` wrote down. 0.1 is 0.1.0 at commit afca3ee; 0.2 is 0.2.0 at commit 95ecebf, the last that stored
workers and no executions. Run it with interpreters that have the very state of mlfn that users have, installed and not
editable, with the extras `data`, `search` and `notebook`::

    python tests/data/upgrade/make.py /path/to/python3.10 /path/to/python3.13

The archives stand for what users have: a change of `project`, or a wish for another run, means another archive beside
these, made with what is released then, and not these made anew.

Everything happens below one fixed folder, whose path is in the rows; the test puts its own path in its place. The name of the
host and the values that tell its processes apart are replaced here by words that no host has.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = Path("/tmp/mlfn-upgrade")
DATA, CONFIG, LEDGERS, PROJECT = (ROOT / name for name in ("data", "config", "ledgers", "project"))
HALF = ("half-grid", "half-own", "half-random", "half-search")
ENDED = {"half-random", "outlived"}  # what the workers that outlive their clients are at
KEPT = ("config", "data", "ledgers")
HOST = "maker/00000000/0"
NAMED = (
    *("_empty_function", "_itself", "code_of_file", "fill_class", "fill_module", "find_function", "find_global"),
    *("get_ipython", "new_module", "open_bundle", "rebuilt_error"),
    *(
        "ChoiceSpace",
        "Context",
        "DataItem",
        "FromCells",
        "Job",
        "Node",
        "Pruned",
        "Retry",
        "RunLostError",
        "Secret",
        "UNSET",
    ),
    "mlfn.errors",  # a module, named as such
)
MADE = 1_767_225_600  # 2026-01-01, of all files: a worker's last sign of life is one of them
KEY = bytes(range(32))
SECRETS = '{"SHOP_KEY": "not-a-key", "SHOP_TOKEN": "not-a-token"}\n'


def main() -> None:
    for python in sys.argv[1:]:
        shutil.rmtree(ROOT, ignore_errors=True)
        prepare()
        Project(python).run_all()
        check()
        condense()
        print(python, pack(python))


def prepare() -> None:
    for folder in (CONFIG / "mlfn", LEDGERS, ROOT / "home"):
        folder.mkdir(parents=True, mode=0o700)
    shutil.copytree(HERE / "project", PROJECT, ignore=shutil.ignore_patterns("__pycache__"))
    for name, content in (("key", KEY), ("secrets.json", SECRETS.encode())):
        (CONFIG / "mlfn" / name).write_bytes(content)
        (CONFIG / "mlfn" / name).chmod(0o600)


class Project:
    """The scripts, run by one interpreter."""

    def __init__(self, python: str) -> None:
        self.python = python
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(ROOT / "home"),
            "XDG_CONFIG_HOME": str(CONFIG),
            "IPYTHONDIR": str(ROOT / "home" / "ipython"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "MLFN_DATA": str(DATA),
            "MLFN_HEARTBEAT": "0.2",
            "MLFN_GRACE": "2",
        }

    def run_all(self) -> None:
        self.finish("ended.py")
        self.finish("cells.py")
        self.finish("swept.py", "grid", "map", "failed")
        self.leave_unfinished()

    def finish(self, script: str, *args: str) -> None:
        assert self.start(script, *args).wait() == 0, script

    def start(self, script: str, *args: str, **environ: str) -> subprocess.Popen[bytes]:
        command = [self.python, script, *args]
        return subprocess.Popen(command, cwd=PROJECT, env={**self.environ, **environ})

    def leave_unfinished(self) -> None:
        """Kill clients in the middle, all at once: each of them would take in what the others have left."""
        clients = [
            self.start("left.py", "at-work", MLFN_MAX_WORKERS="3"),
            self.start("left.py", "pending", MLFN_MAX_WORKERS="1"),
            *(self.start("swept.py", name, MLFN_MAX_WORKERS="2") for name in HALF),
        ]
        try:
            wait_until(lambda: are_left() and all(map(is_half_done, HALF)))
            time.sleep(1)  # until the clients have recorded what has been logged
        finally:
            for client in clients:
                client.kill()
            for client in clients:
                client.wait()
            end_workers()


def are_left() -> bool:
    """Say whether all runs that no sweep has are at work, or wait."""
    rows = query("SELECT name, state FROM runs WHERE state IN ('pending', 'running') AND parent IS NULL AND sweep = 0")
    at_work = ("ahead", "lost", "outlived", "retried")
    expected = {**dict.fromkeys(at_work, "running"), "behind": "pending", "pending": "pending"}
    return dict(rows) == expected and all((LEDGERS / name).exists() for name in at_work)


def is_half_done(sweep: str) -> bool:
    """Say whether three of a sweep's children are over, and two at work."""
    rows = query(
        "SELECT state FROM runs WHERE parent = (SELECT run FROM sweeps WHERE name = ?) ORDER BY iteration", sweep
    )
    begun = LEDGERS / sweep
    return (
        [row[0] for row in rows] == ["succeeded"] * 3 + ["running"] * 2
        and begun.exists()
        and len(begun.read_text().split()) == 5
    )


def end_workers() -> None:
    """Kill the workers of runs that are to be lost; the others end what they are at, and then themselves."""
    rows = query(
        "SELECT json_extract(handle, '$.pid'), runs.name, sweeps.name FROM runs "
        "JOIN executions ON executions.id = runs.execution LEFT JOIN sweeps ON sweeps.run = runs.parent WHERE runs.state = 'running'"
    )
    for pid, name, sweep in rows:
        if not {name, sweep} & ENDED and is_worker(pid):
            os.kill(pid, signal.SIGKILL)
    (LEDGERS / "gate").touch()
    wait_until(lambda: not any(is_worker(pid) for pid, *_ in rows))
    (LEDGERS / "gate").unlink()


def is_worker(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "mlfn-worker"
    except OSError:
        return False


def query(sql: str, *args: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(DATA / "mlfn.db", timeout=30)) as connection:
        return connection.execute(sql, args).fetchall()


def wait_until(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "waited a minute in vain"
        time.sleep(0.02)


def check() -> None:
    """Refuse a folder whose pickles lack what an upgrade may break: names of mlfn's own in each of its ways to write one."""
    files = [*(DATA / "payloads").iterdir(), *DATA.glob("artifacts/*/*/*.mlfn")]
    failures = [json.loads(row[0]).get("pickle") for row in query("SELECT failure FROM runs WHERE failure IS NOT NULL")]
    pickles = [*(path.read_bytes() for path in files), *(base64.b64decode(text) for text in failures if text)]
    missing = [name for name in NAMED if not any(name.encode() in data for data in pickles)]
    assert not missing, missing


def condense() -> None:
    """Take the host out of the rows, and what is no content out of the file."""
    with closing(sqlite3.connect(DATA / "mlfn.db", isolation_level=None)) as connection:
        connection.execute("UPDATE clients SET host = ?", (HOST,))
        connection.execute("UPDATE executions SET handle = json_set(handle, '$.host', ?)", (HOST,))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def pack(python: str) -> Path:
    asked = "import sys, mlfn; print(mlfn.__version__.rpartition('.')[0] + '/py%d%d' % sys.version_info[:2])"
    name = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True).stdout.strip()
    target = HERE / f"{name}.tar.xz"
    target.parent.mkdir(exist_ok=True)
    with tarfile.open(target, "w:xz", preset=9) as archive:
        for name in KEPT:
            archive.add(ROOT / name, name, filter=without_maker)
    return target


def without_maker(item: tarfile.TarInfo) -> tarfile.TarInfo | None:
    item.uid = item.gid = 0
    item.uname = item.gname = ""
    item.mtime = MADE  # whatever the clock that it was made by
    return item if item.isfile() or item.isdir() else None


if __name__ == "__main__":
    main()
