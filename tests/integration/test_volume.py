"""Many writers and much output: no error, no loss, no growth."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlfn
from mlfn.dispatch.session import current_session
from tests.ledger import ROOT, wait_until

WRITERS, EACH = 50, 15
GIGABYTE = 1 << 30

WRITER = """
import sys

import mlfn

@mlfn.function(name="work")
def work(me: int, i: int, ctx: mlfn.Context) -> int:
    ctx.log_metric("loss", i)
    return 100 * me + i

me, each = int(sys.argv[1]), int(sys.argv[2])
work.spec  # captured before the others are
print("ready", flush=True)
sys.stdin.readline()
here = work.on("inline")
assert [here.submit(me, i).result() for i in range(each)] == [100 * me + i for i in range(each)]
seen = mlfn.runs(name="work", limit=10_000)
assert sum(run.params["me"] == me and run.state == "succeeded" for run in seen) == each
"""


def test_fifty_processes_that_submit_to_one_file_meet_no_error(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(WRITER)
    writers = [
        subprocess.Popen(
            [sys.executable, str(script), str(number), str(EACH)],
            env={**os.environ, "PYTHONPATH": str(ROOT), "MLFN_DATA": str(tmp_path / "data")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(WRITERS)
    ]
    for writer in writers:
        writer.stdout.readline()
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    errors = [writer.communicate(timeout=120)[1] for writer in writers]

    assert [error for error in errors if error] == []
    assert [writer.returncode for writer in writers] == [0] * WRITERS
    from mlfn.store import open_store

    store = open_store("", tmp_path / "data")
    rows = store.connection.read(
        "SELECT r.state, count(*), sum(m.value) FROM runs r JOIN metrics m ON m.run = r.seq GROUP BY 1"
    )
    assert rows == [("succeeded", WRITERS * EACH, WRITERS * sum(range(EACH)))]
    assert store.connection.read("SELECT count(*) FROM runs") == [(WRITERS * EACH,)]
    assert store.connection.read("PRAGMA integrity_check") == [("ok",)]
    store.close()


@mlfn.function
def flood(size: int, go: str) -> int:
    import time
    from pathlib import Path

    block = (b"x" * 1023 + b"\n") * 1024
    for _ in range(size // len(block)):
        os.write(1, block)
    print("done", flush=True)
    while not Path(go).exists():
        time.sleep(0.01)
    return size


def test_a_gigabyte_of_output_grows_nobody_and_loses_nothing(local, tmp_path):
    assert shutil.disk_usage(tmp_path).free > 2 * GIGABYTE, "this test writes a log of 1 GiB"
    go = tmp_path / "go"
    flood.submit(0, str(tmp_path)).result(timeout=30)  # what both processes load once is loaded
    [worker] = [row.handle["pid"] for row in current_session().store.executions()]
    before, before_worker = resident(os.getpid()), resident(worker)

    run = flood.submit(GIGABYTE, str(go))
    seen = most = 0
    for chunk in run.logs(follow=True):
        seen += len(chunk)
        most = max(most, resident(os.getpid()))
        if seen >= GIGABYTE + len("done\n"):
            most_worker = resident(worker)
            go.touch()
    assert run.result(timeout=60) == GIGABYTE

    log = run.log_path()
    try:
        assert seen == log.stat().st_size == GIGABYTE + len("done\n")
        assert most - before < 64 << 20
        assert most_worker - before_worker < 64 << 20
    finally:
        log.unlink()


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) * 1024


def test_waiting_for_output_does_not_spin(local, tmp_path):
    """Following a run that is silent costs next to nothing."""
    go = tmp_path / "go"
    run = flood.submit(0, str(go))
    chunks = run.logs(follow=True)
    said = next(chunks)
    while not said.endswith("\n"):  # the text and the end of its line may come one by one
        said += next(chunks)
    assert said == "done\n"
    before = os.times()
    wait_until(lambda: os.times().elapsed - before.elapsed > 0.5)
    after = os.times()
    go.touch()
    assert list(chunks) == []

    assert after.user + after.system - before.user - before.system < 0.25
