"""Many writers and much output: no error, no loss, no growth."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlfn
from mlfn.client import current_client
from tests.ledger import ROOT, wait_until

WRITERS, EACH = 50, 40
GIGABYTE = 1 << 30

WRITER = """
import sys
from pathlib import Path
from mlfn.spec.record import Outcome, RunState
from mlfn.store import open_store
from mlfn.store.changes import Claimed, Finished, MetricLogged, Submitted

folder, me, each = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
store = open_store("", folder)
for i in range(each // 2):
    run = f"{me}-{i}"
    submit = Submitted(run, "n", "p", "f", "h", "local", me, {}, 1.0)
    assert store.apply([submit, Claimed(run, me, None, None, 2.0)]) == [1, 1]
    done = Finished(run, 1, Outcome(RunState.SUCCEEDED), 4.0)
    assert store.apply([MetricLogged(run, 1, "loss", i, 0.5, 3.0), done]) == [1, 1]
    assert store.get_run(run).state == "succeeded"
store.session.close()
"""


def test_fifty_writers_on_one_file_meet_no_error(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(data), f"w{i}", str(EACH)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(WRITERS)
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
    from mlfn.store.reading import RunFilter

    store = open_store("", data)
    assert store.count_runs(RunFilter(states=("succeeded",))) == WRITERS * EACH // 2
    assert store.session.read("PRAGMA integrity_check") == [("ok",)]
    store.session.close()


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
    [worker] = [row.pid for row in current_client().store.workers()]
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
    assert next(chunks) == "done\n"
    before = os.times()
    wait_until(lambda: os.times().elapsed - before.elapsed > 0.5)
    after = os.times()
    go.touch()
    assert list(chunks) == []

    assert after.user + after.system - before.user - before.system < 0.25
