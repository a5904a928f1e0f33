"""How many processes of a run the kernel has killed for want of memory: in this pod, and as ranks in others report it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from mlfn.worker.pod.folders import FOLDER

_NOTED = "memory-kills-{rank}"


def memory_kills() -> int:
    """Return how many there have been by now."""
    noted = len(list(Path(FOLDER).glob(_NOTED.format(rank="*"))))
    for path, key in (
        ("/sys/fs/cgroup/memory.events", "oom_kill"),
        ("/sys/fs/cgroup/memory/memory.oom_control", "oom_kill"),
    ):
        with suppress(OSError, ValueError, IndexError, StopIteration), open(path) as file:
            return noted + next(int(line.split()[1]) for line in file if line.split()[0] == key)
    return noted


def note_memory_kill(rank: int) -> None:
    """Note that a rank in another pod was killed for want of memory there."""
    Path(FOLDER, _NOTED.format(rank=rank)).touch()
