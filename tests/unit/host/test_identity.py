"""A process is told apart from others that have had, or will have, its pid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mlfn.backends.places.base import Terminated
from mlfn.backends.places.local.orphans import Orphan
from mlfn.host.identity import ProcessIdentity, identify, this_host
from mlfn.spec.record import Reason

NAME, BOOT, SPACE = this_host().split("/")
LOST = Terminated("w", Reason.LOST, ": its worker is gone without an outcome, and its exit status is unknown.")


def test_this_process_is_alive():
    assert identify(os.getpid()).state() == "alive"


def test_a_reused_pid_is_another_process():
    assert replace(identify(os.getpid()), started="1").state() == "gone"


def test_a_process_from_before_a_reboot_is_gone():
    assert ProcessIdentity(f"{NAME}/otherone/{SPACE}", os.getpid(), "1").state() == "gone"


@pytest.mark.parametrize("host", [f"other/{BOOT}/{SPACE}", f"{NAME}/{BOOT}/1", "plain"])
def test_of_another_host_or_container_nothing_is_known(host):
    assert ProcessIdentity(host, os.getpid(), "1").state() == "elsewhere"


def test_stopped_and_ended_processes_differ():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = identify(child.pid)
    child.send_signal(signal.SIGSTOP)
    os.waitpid(child.pid, os.WUNTRACED)
    assert identity.state() == "stopped"

    child.kill()
    child.communicate()
    assert identity.state() == "gone"


class TestOrphan:
    """When a worker that outlived its client counts as gone."""

    def orphan(self, folder: Path, process: ProcessIdentity) -> Orphan:
        return Orphan("w", {**vars(process), "folder": str(folder)}, None, lapse=10.0)

    def beat(self, folder: Path, *, ago: float) -> None:
        (folder / "beat").touch()
        moment = time.time() - ago
        os.utime(folder / "beat", (moment, moment))

    @pytest.mark.parametrize(("ago", "gone"), [(0, False), (60, True)])
    def test_gone_needs_a_heartbeat_that_lapsed(self, tmp_path, ago, gone):
        self.beat(tmp_path, ago=ago)
        dead = replace(identify(os.getpid()), started="1")

        reports = self.orphan(tmp_path, dead).collect()

        assert reports == ([LOST] if gone else [])

    def test_a_lapsed_heartbeat_alone_is_not_enough(self, tmp_path):
        self.beat(tmp_path, ago=3600)
        assert self.orphan(tmp_path, identify(os.getpid())).collect() == []

    def test_a_worker_that_journaled_its_exit_is_gone(self, tmp_path):
        self.beat(tmp_path, ago=0)
        (tmp_path / "journal").write_text('{"event": "left", "run": "", "attempt": 0, "time": 1}\n')
        dead = replace(identify(os.getpid()), started="1")

        assert self.orphan(tmp_path, dead).collect()[-1] == LOST

    @pytest.mark.parametrize(("ago", "gone"), [(60, False), (600, True)])
    def test_a_silent_worker_of_another_host_is_gone(self, tmp_path, ago, gone):
        self.beat(tmp_path, ago=ago)
        orphan = self.orphan(tmp_path, ProcessIdentity("other/b/s", 1, "1"))

        orphan.collect()

        assert orphan.is_gone == gone

    def test_an_unreachable_worker_ends_only_by_a_stop(self, tmp_path):
        orphan = self.orphan(tmp_path, ProcessIdentity("other/b/s", 1, "1"))

        assert orphan.collect() == []
        orphan.stop(0)
        assert orphan.collect() == [LOST]
