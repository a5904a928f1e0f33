"""The clock, new ids, and processes told apart from others that get their pid later."""

from __future__ import annotations

import functools
import os
import socket
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

now = time.time


def new_id() -> str:
    """Return 32 random hexadecimal digits."""
    return uuid.uuid4().hex


@dataclass(frozen=True)
class ProcessIdentity:
    """A process on one boot of one host; `started` is in the system's own units."""

    host: str
    pid: int
    started: str

    def state(self) -> str:
        """Return ``"alive"``, ``"stopped"`` (SIGSTOP) or ``"gone"``; ``"elsewhere"`` on another host."""
        if self.host != this_host():
            return "gone" if self._rebooted() else "elsewhere"
        started, letter = _look(self.pid)
        if started != self.started or letter in "ZX":
            return "gone"
        return "stopped" if letter in "Tt" else "alive"

    def _rebooted(self) -> bool:
        """Say whether it ran on this very host before its last boot."""
        then, today = self.host.split("/"), this_host().split("/")
        return len(then) == len(today) and then[0] == today[0] and then[2] == today[2] and then[1] != today[1]


def identify(pid: int) -> ProcessIdentity:
    """Return the identity of the process that has `pid` now."""
    return ProcessIdentity(this_host(), pid, _look(pid)[0])


@functools.cache
def this_host() -> str:
    """Return name, boot and PID namespace of the host: a pid means something only where all three are the same.

    A pid from before a reboot must not be taken for a live one. Containers that share their host's name see none of
    each other's processes: they must not take each other for gone.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
        space = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        boot = space = ""
    return f"{socket.gethostname().replace('/', '-')}/{boot}/{space}"


def _look(pid: int) -> tuple[str, str]:
    """Return (start time, state letter) of a pid; empty texts when there is none."""
    if sys.platform == "darwin":  # pragma: no cover - the tests run on Linux
        return _look_with_ps(pid)
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return "", "X"
    # The second field is the command in parentheses and may itself hold blanks and parentheses.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return fields[19].decode(), fields[0].decode()


def _look_with_ps(pid: int) -> tuple[str, str]:
    import subprocess

    shown = subprocess.run(
        ["ps", "-o", "state=,lstart=", "-p", str(pid)], capture_output=True, text=True, timeout=10, check=False
    ).stdout.strip()
    letter, _, started = shown.partition(" ")
    return started.strip(), letter[:1] or "X"


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
