"""The launcher of ranks that find each other by Gloo, with a shell in place of a worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.ledger import wait_until


def launched(script: str, folder: Path, **environ: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mlfn.backends.kinds.horovodrun", "2", "/bin/sh", "-c", script]
    return subprocess.Popen(
        command, cwd=folder, env={**os.environ, **environ}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_each_rank_has_its_number_and_the_variables(tmp_path: Path) -> None:
    process = launched("echo $HOROVOD_RANK of $HOROVOD_SIZE has $MINE", tmp_path, MINE="this")

    printed, _ = process.communicate(timeout=60)

    assert (process.returncode, sorted(printed.splitlines())) == (0, ["0 of 2 has this", "1 of 2 has this"])


def test_a_rank_that_fails_ends_the_other(tmp_path: Path) -> None:
    begun = time.monotonic()

    process = launched('test "$HOROVOD_RANK" = 1 && exit 7; exec sleep 300', tmp_path)
    process.communicate(timeout=60)

    assert process.returncode == 1
    assert time.monotonic() - begun < 60


def test_sigterm_ends_all_ranks(tmp_path: Path) -> None:
    process = launched("echo $$ > rank-$HOROVOD_RANK; exec sleep 300", tmp_path)
    wait_until(lambda: len([path for path in tmp_path.glob("rank-*") if path.read_text()]) == 2, timeout=60)
    ranks = [int(path.read_text()) for path in tmp_path.glob("rank-*")]

    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)

    assert [pid for pid in ranks if psutil.pid_exists(pid)] == []


def test_the_server_listens_at_loopback_alone(tmp_path: Path) -> None:
    process = launched("echo > rank-$HOROVOD_RANK; exec sleep 300", tmp_path)
    wait_until(lambda: len(list(tmp_path.glob("rank-*"))) == 2, timeout=60)

    connections = psutil.Process(process.pid).net_connections()
    process.terminate()
    process.communicate(timeout=60)

    assert {item.laddr.ip for item in connections if item.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
