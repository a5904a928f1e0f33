"""How much memory there is, and which process has it; 0 where the system does not report it."""

from __future__ import annotations

import functools
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_GROUP = "/sys/fs/cgroup/memory."  # as a container sees its own


def available_memory() -> int:
    """Return how many bytes the machine, or this container, could still give."""
    found = [1024 * _number("/proc/meminfo", "MemAvailable:")]
    with suppress(OSError, ValueError), open(f"{_GROUP}max") as most, open(f"{_GROUP}current") as now:
        found.append(max(0, int(most.read()) - int(now.read())))  # "max" where there is no limit
    return min(found)


@functools.cache
def total_memory() -> int:
    """Return how many bytes the machine, or this container, has."""
    found = [1024 * _number("/proc/meminfo", "MemTotal:")]
    with suppress(OSError, ValueError), open(f"{_GROUP}max") as most:
        found.append(int(most.read()))  # "max" where there is no limit
    return min(found)


def resident_memory(pid: int) -> int:
    """Return how many bytes of memory a process has."""
    with suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def limit_memory(size: int) -> None:
    """Limit this process to `size` bytes of private writable memory."""
    # RLIMIT_DATA counts that; RLIMIT_AS would also count what is only reserved or mapped.
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (size if hard == resource.RLIM_INFINITY else min(size, hard), hard))


def lift_memory_limit() -> None:
    """Take the limit of `limit_memory` back."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


@contextmanager
def without_memory_limit() -> Iterator[None]:
    """Start within the block what the limit of `limit_memory` is not meant for."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    lift_memory_limit()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def counted_memory() -> int:
    """Return how many bytes this process has of what `limit_memory` counts."""
    return 1024 * _number("/proc/self/status", "VmData:")


def memory_kills() -> int:
    """Return how many processes the kernel has killed for want of memory since it booted."""
    return _number("/proc/vmstat", "oom_kill ")


def _number(path: str, key: str) -> int:
    with suppress(OSError, ValueError, StopIteration), open(path, encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key))
    return 0
