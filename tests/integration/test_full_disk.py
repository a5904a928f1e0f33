"""A disk that is really full: a small one of its own, filled while runs are at work, and freed again."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.ledger import Stage

SCRIPT = """
import json
import logging
import os
import resource
import sqlite3
import sys
import time
from contextlib import suppress
from pathlib import Path

import mlfn
from mlfn.errors import StorageError

_, how = sys.argv[1:]
data, outside = Path(os.environ["MLFN_DATA"]), Path.cwd()
filler = data / "filler"
warned = []


class Warned(logging.Handler):
    def emit(self, record):
        warned.append(record.getMessage())


logging.getLogger("mlfn.dispatch.dispatcher").addHandler(Warned())


def processes():
    return [os.getpid(), *(int(pid) for pid in (outside / "pids").read_text().split())]


def limit(size):
    for pid in processes():
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def fill(leaving=0):
    if how == "limit":
        limit(leaving)  # no file may grow any more, which is what its writer sees of a full disk
        return
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
        file.truncate(max(0, file.tell() - leaving))


def free():
    filler.unlink(missing_ok=True)
    limit(resource.RLIM_INFINITY)


def note():
    with (outside / "pids").open("a") as file:
        file.write(f"{os.getpid()} ")


def until(condition):
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.01)


@mlfn.function
def count(n: int) -> int:
    return n


@mlfn.function
def steps(ctx: mlfn.Context) -> int:
    note()
    (outside / "begun").touch()
    while not (outside / "go").exists():
        time.sleep(0.005)
    for i in range(500):
        ctx.log_metric("loss", float(i))
    return 1


@mlfn.function
def large(size: int) -> bytes:
    note()
    return os.urandom(size)
"""

AT_WORK = """
before = count.submit(-1)
assert before.result() == -1
run = steps.submit()
until((outside / "begun").exists)
fill()
(outside / "go").touch()
until(lambda: warned or run.done())

accepted, refused = [], None
while refused is None:
    try:
        accepted.append(count.submit(len(accepted)))
    except StorageError as error:
        refused = str(error)
free()

error = run.exception(timeout=60)
results = [one.result(timeout=60) for one in accepted]
connection = sqlite3.connect(data / "mlfn.db")
print(json.dumps({
    "refused": refused,
    "failed": [type(error).__name__, str(error), run.record.reason],
    "results": results == list(range(len(accepted))) and before.result() == -1,
    "states": sorted(str(one.state) for one in mlfn.runs(limit=100_000)),
    "accepted": len(accepted),
    "integrity": connection.execute("PRAGMA integrity_check").fetchone()[0],
    "again": count.submit(7).result(timeout=60),
}))
"""

TOO_LARGE = """
assert len(large.submit(10).result()) == 10
fill(leaving=1 << 20)
run = large.submit(4 << 20)
error = run.exception(timeout=60)
free()
print(json.dumps({
    "failed": [type(error).__name__, str(error), run.record.reason],
    "again": len(large.submit(4 << 20).result(timeout=60)),
    "left": sorted(path.name for path in (data / "artifacts").rglob("*") if path.name.startswith(".")),
}))
"""


def mounting() -> list[str] | None:
    """Return what a command needs before it to mount what only it sees; None where nobody here may mount."""
    for way in (["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"]):
        try:
            check = [*way, "mount", "-t", "tmpfs", "-o", "size=64k", "mlfn", "/mnt"]
            if subprocess.run(check, capture_output=True, check=False).returncode == 0:
                return way
        except OSError:
            return None
    return None


@pytest.fixture(params=["disk", "limit"])
def small_disk(request, tmp_path):
    """Run a script whose data folder is a full disk at its word; how a full disk is made where none can be mounted."""

    def run(script: str) -> dict:
        stage = Stage(tmp_path, SCRIPT + script, heartbeat=0.2, max_workers=2)
        way = mounting() if request.param == "disk" else None
        command = [sys.executable, str(stage.script), "", "disk" if way else "limit"]
        if way:
            stage.data.mkdir()
            mount = 'mount -t tmpfs -o size=12m,mode=700 mlfn "$0" && exec "$@"'
            command = [*way, "sh", "-c", mount, str(stage.data), *command]
        done = subprocess.run(
            command, env=stage.environ, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_a_disk_filling_up_loses_nothing(small_disk):
    seen = small_disk(AT_WORK)

    assert "free space" in seen["refused"]
    kind, text, reason = seen["failed"]
    assert (kind, reason) == ("StorageError", "storage")
    assert "steps: its worker could not write its journal; is the disk of the data folder full?" in text
    assert seen["results"], "what was accepted was done"
    assert seen["states"] == ["failed", *["succeeded"] * (seen["accepted"] + 1)], "what was refused is not there"
    assert seen["integrity"] == "ok"
    assert seen["again"] == 7


def test_an_output_without_space_is_named(small_disk):
    seen = small_disk(TOO_LARGE)

    kind, text, reason = seen["failed"]
    assert (kind, reason) == ("StorageError", "storage")
    assert "artifacts" in text
    assert "Free space" in text
    assert seen["again"] == 4 << 20
    assert seen["left"] == [], "nothing half-written stays"
