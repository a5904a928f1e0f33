"""How much room files take: a walk that ends early, and counts a file once that has several names."""

from __future__ import annotations

import os
import time
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path

from mlfn.host.frozen import frozen

_MOST_FILES = 100_000
_MOST_SECONDS = 2.0


@frozen
class Room:
    """What some files take; there are more of them where they are not all."""

    size: int
    files: int
    is_all: bool


def files_below(folder: Path) -> Iterator[tuple[Hashable, int]]:
    """Yield the size of each file below a folder, and which it is; links are not followed, what cannot be read is left out."""
    waiting = [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        info = entry.stat(follow_symlinks=False)
                        yield (info.st_dev, info.st_ino), info.st_size
        except OSError:  # it is gone meanwhile, or not ours to read
            continue


def room_of(files: Iterable[tuple[Hashable, int]]) -> Room:
    """Return what files take together, or those that can be looked at in two seconds."""
    until = time.monotonic() + _MOST_SECONDS
    size = 0
    seen: set[Hashable] = set()
    for file, bytes_ in files:
        if len(seen) >= _MOST_FILES or time.monotonic() > until:
            return Room(size, len(seen), is_all=False)
        if file not in seen:
            seen.add(file)
            size += bytes_
    return Room(size, len(seen), is_all=True)
