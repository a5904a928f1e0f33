"""How much memory there is, and who has it; 0 where the system does not say."""

from __future__ import annotations

import os
from contextlib import suppress

_GROUP = "/sys/fs/cgroup/memory."  # a container's own, in which it alone is seen


def available_memory() -> int:
    """Return how many bytes the machine, or this container, could still give."""
    found = []
    with suppress(OSError, ValueError, StopIteration), open("/proc/meminfo", encoding="ascii") as file:
        found.append(1024 * next(int(line.split()[1]) for line in file if line.startswith("MemAvailable:")))
    with suppress(OSError, ValueError), open(f"{_GROUP}max") as most, open(f"{_GROUP}current") as now:
        found.append(max(0, int(most.read()) - int(now.read())))  # "max" where there is no limit
    return min(found, default=0)


def resident_memory(pid: int) -> int:
    """Return how many bytes of memory a process has."""
    with suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
