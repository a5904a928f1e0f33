"""The clock, new ids, and identities of processes that outlast the reuse of their pids."""

from __future__ import annotations

import functools
import os
import socket
import sys
import time
import uuid
from pathlib import Path

from mlfn.host.frozen import frozen

now = time.time
_DEAD_ELSEWHERE = 120.0  # seconds without a heartbeat after which a client on another host counts as dead
ClientRow = tuple[str, str, int, str, float]


def new_id() -> str:
    """Return 32 random hexadecimal digits."""
    return uuid.uuid4().hex


@frozen
class ProcessIdentity:
    """A process on one boot of one host; `started` is in the system's own units."""

    host: str
    pid: int
    started: str

    def state(self) -> str:
        """Return ``"alive"``, ``"stopped"`` (SIGSTOP) or ``"gone"``; ``"elsewhere"`` on another host."""
        if self.host != this_host():
            return "gone" if self._rebooted() else "elsewhere"
        started, letter = _stat(self.pid)
        if started != self.started or letter in "ZX":
            return "gone"
        return "stopped" if letter in "Tt" else "alive"

    def _rebooted(self) -> bool:
        """Return whether it ran on this host before its last boot."""
        then, today = self.host.split("/"), this_host().split("/")
        return len(then) == len(today) and then[0] == today[0] and then[2] == today[2] and then[1] != today[1]


def is_alive(row: ClientRow) -> bool:
    """Return whether a stored client may still be alive; on another host, by its last heartbeat."""
    _, host, pid, started, beat = row
    state = ProcessIdentity(host, pid, started).state()
    return now() - beat < _DEAD_ELSEWHERE if state == "elsewhere" else state != "gone"


def identify(pid: int) -> ProcessIdentity:
    """Return the identity of the process that has `pid` now."""
    return ProcessIdentity(this_host(), pid, _stat(pid)[0])


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


def _stat(pid: int) -> tuple[str, str]:
    """Return (start time, state letter) of a pid; empty texts when there is none."""
    if sys.platform == "darwin":  # pragma: no cover - the tests run on Linux
        return _stat_with_ps(pid)
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return "", "X"
    # The second field is the command in parentheses and may itself hold blanks and parentheses.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return fields[19].decode(), fields[0].decode()


def _stat_with_ps(pid: int) -> tuple[str, str]:
    import subprocess

    shown = subprocess.run(
        ["ps", "-o", "state=,lstart=", "-p", str(pid)], capture_output=True, text=True, timeout=10, check=False
    ).stdout.strip()
    letter, _, started = shown.partition(" ")
    return started.strip(), letter[:1] or "X"
