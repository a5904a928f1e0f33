"""A `Path` that a handler returns: the file or folder there is the artifact.

It is copied; the original is never moved, changed or deleted. A link that is itself returned is followed. Inside a folder,
a link to a file of the same folder is copied as that file; any other link, a device, socket or pipe is refused by name, as
leaving it out would lose data silently. Empty folders are kept, modes and times are not. A path to a device or to nothing
is packed as a plain value.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlfn.artifacts.formats.base import Packed, Stored, UnfitError, type_name
from mlfn.host.frozen import frozen

_SUFFIX = re.compile(r"(\.tar)?\.[A-Za-z0-9]{1,16}\Z")
_NOTHING_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL})


@frozen
class TreeEntry:
    """A folder or file below a folder. `relative` has forward slashes; `source` is where the content lies."""

    relative: str
    source: Path
    is_folder: bool
    size: int


class PathPacker:
    """A path to an existing file or folder; unpacked, the path of the stored copy."""

    name = "path"
    types: tuple[type, ...] = (type(Path()),)

    def accepts(self, value: Any, /) -> bool:
        """Return whether it is a concrete path."""
        return type(value) in self.types

    def pack(self, value: Any, /) -> Packed:
        """Measure the file or folder; unfit where there is none, or a device."""
        mode, size = _stat(value)
        source = value.resolve()
        if stat.S_ISREG(mode):
            return Packed("path", type_name(value), content=source, suffix=_suffix(value), size=size)
        if not stat.S_ISDIR(mode):
            raise UnfitError("neither a file nor a folder is there")
        if source == source.parent:
            raise ValueError(f"{source} is the root of a file system; return the folder that is meant")
        return Packed("path", type_name(value), content=source, size=sum(entry.size for entry in walk(source)))

    def unpack(self, stored: Stored, /) -> Any:
        """Return the path of the stored copy."""
        return stored.file


def walk(folder: Path) -> Iterator[TreeEntry]:
    """Yield all folders and files below the folder in a fixed order; raise ValueError for a link or device to refuse."""
    root = folder.resolve()
    pending = [root]
    while pending:
        with os.scandir(pending.pop()) as found:
            children = sorted(found, key=lambda child: child.name)
        for child in children:
            entry = _entry(root, Path(child.path))
            if entry.is_folder:
                pending.append(entry.source)
            yield entry


def _entry(root: Path, path: Path) -> TreeEntry:
    relative = path.relative_to(root).as_posix()
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        path, status = _linked(root, path)
    if stat.S_ISDIR(status.st_mode):
        return TreeEntry(relative, path, is_folder=True, size=0)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{relative!r} in {root} is a device, socket or pipe; remove it")
    return TreeEntry(relative, path, is_folder=False, size=status.st_size)


def _linked(root: Path, link: Path) -> tuple[Path, os.stat_result]:
    target = Path(os.path.realpath(link))
    if not target.is_relative_to(root) or not target.is_file():
        raise ValueError(f"{link.name!r} in {root} is a link that leads out of it, to a folder or to nothing; copy it")
    return target, target.stat()


def _stat(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except ValueError:  # a null character: no file can have that name
        raise UnfitError("nothing is there") from None
    except OSError as error:
        if error.errno in _NOTHING_THERE:
            raise UnfitError("nothing is there") from None
        raise
    return status.st_mode, status.st_size


def _suffix(path: Path) -> str:
    found = _SUFFIX.search(path.name)
    return found.group() if found and found.start() > 0 else ""
