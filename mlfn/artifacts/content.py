"""Bytes, files and folders as content: read in chunks, hashed, copied with closed permissions.

A folder's hash is that of its index: a JSON list of ``[path, size, sha256]``, with null for a folder's
sha256.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from mlfn.artifacts.formats.files import TreeEntry, walk
from mlfn.errors import MlfnError, OutputError, StorageError
from mlfn.host.frozen import frozen

_CHUNK = 1024 * 1024


@frozen
class Summed:
    """The sha256 and size in bytes of content that was read."""

    sha256: str
    size: int


@frozen
class Linked:
    """A file that has other names too: which it is, its bytes, and how many names it has."""

    file: tuple[int, int]
    size: int
    links: int


def linked(paths: Iterable[Path]) -> tuple[Linked, ...]:
    """Return those of the paths that are such files."""
    found = []
    for path in paths:
        with contextlib.suppress(OSError):
            info = path.lstat()
            if stat.S_ISREG(info.st_mode) and info.st_nlink > 1:
                found.append(Linked((info.st_dev, info.st_ino), info.st_size, info.st_nlink))
    return tuple(found)


@frozen
class Stored:
    """All that lies under a root of one run: bytes, and when the newest of it was written; None where that is unknown."""

    run: str
    size: int
    written: float | None
    linked: tuple[Linked, ...] = ()


@frozen
class IndexEntry:
    """One line of a folder's index; `sha256` is None for a folder."""

    relative: str
    size: int
    sha256: str | None


def chunks(content: bytes | Path) -> Iterator[bytes]:
    """Yield the content in chunks; raise OutputError where the file cannot be read."""
    if isinstance(content, bytes):
        yield content
        return
    try:
        with _open_file(content) as file:
            while block := file.read(_CHUNK):
                yield block
    except OSError as error:
        raise OutputError(f"Cannot read {content}, which is to be an artifact: {error.strerror}.") from error


def entries(folder: Path) -> list[TreeEntry]:
    """Return all entries below a folder; raise OutputError for one that cannot be copied."""
    try:
        return list(walk(folder))
    except (OSError, ValueError) as error:
        raise OutputError(f"Cannot copy {folder}, which is to be an artifact: {error}.") from error


def copy(content: bytes | Path, write: Callable[[bytes], Any]) -> Summed:
    """Write the content, and return the sum of the written bytes: the source may change meanwhile."""
    digest = hashlib.sha256()
    size = 0
    for block in chunks(content):
        digest.update(block)
        size += len(block)
        write(block)
    return Summed(digest.hexdigest(), size)


def sum_up(content: bytes | Path) -> Summed:
    """Return sha256 and size of bytes or a file."""
    return copy(content, len)


def size_of(content: bytes | Path) -> int:
    """Return the size to name in an error: 0 for a file that cannot be read, which fails when it is copied."""
    if isinstance(content, bytes):
        return len(content)
    if content.is_dir():
        return sum(entry.size for entry in entries(content))
    with contextlib.suppress(OSError):
        return content.stat().st_size
    return 0


def index_of(tree: Iterable[TreeEntry]) -> list[IndexEntry]:
    """Return the index of a folder's entries."""
    return [_indexed(entry) for entry in tree]


def _indexed(entry: TreeEntry) -> IndexEntry:
    if entry.is_folder:
        return IndexEntry(entry.relative, 0, None)
    found = sum_up(entry.source)
    return IndexEntry(entry.relative, found.size, found.sha256)


def dump_index(index: Iterable[IndexEntry]) -> bytes:
    """Return the index as the bytes that are hashed; sorted, so that it is the same on every machine."""
    lines = sorted((entry.relative, entry.size, entry.sha256) for entry in index)
    return json.dumps(lines, separators=(",", ":")).encode("ascii")


def load_index(text: bytes) -> list[IndexEntry]:
    """Return the index; raise ValueError for a path that would leave the folder."""
    index = [IndexEntry(*line) for line in json.loads(text)]
    for entry in index:
        if not all(_is_plain(part) for part in entry.relative.split("/")):
            raise ValueError(f"unsafe path {entry.relative!r}")
    return index


def _is_plain(part: str) -> bool:
    return part not in ("", ".", "..") and not (os.name == "nt" and ("\\" in part or ":" in part))


def copy_file(content: bytes | Path, target: Path) -> Summed:
    """Write a new file, 0600 whatever the umask; an older one of that name is replaced."""
    with temporary_file(target.parent) as (file, temporary):
        summed = copy(content, file.write)
        file.close()
        temporary.replace(target)
    return summed


@contextlib.contextmanager
def temporary_file(folder: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Open a new file in the folder for the caller to rename; remove it at the end where it was not renamed."""
    import tempfile

    handle, name = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=folder)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            temporary.chmod(0o600)
            yield file, temporary
    finally:
        temporary.unlink(missing_ok=True)


def copy_tree(source: Path, target: Path) -> list[IndexEntry]:
    """Copy a folder's files into an empty folder; return the index of what was written."""
    return [_copy_entry(entry, target / entry.relative) for entry in entries(source)]


def _copy_entry(entry: TreeEntry, target: Path) -> IndexEntry:
    make_folders(target if entry.is_folder else target.parent)
    if entry.is_folder:
        return IndexEntry(entry.relative, 0, None)
    summed = copy_file(entry.source, target)
    return IndexEntry(entry.relative, summed.size, summed.sha256)


@contextlib.contextmanager
def temporary_folder(folder: Path) -> Iterator[Path]:
    """Make a new folder in the folder for the caller to rename; remove it at the end where it was not renamed."""
    import shutil
    import tempfile

    temporary = Path(tempfile.mkdtemp(prefix=".", suffix=".tmp", dir=folder))
    try:
        temporary.chmod(0o700)
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def make_folders(path: Path) -> None:
    """Make the missing folders, 0700 whatever the umask."""
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another run may make it at the same moment
            folder.mkdir(mode=0o700)
            folder.chmod(0o700)


def move_tree(temporary: Path, target: Path) -> None:
    """Rename a whole folder to a name that is its hash. An older folder of that name stays if it is whole."""
    import shutil

    if target.exists():
        if _is_whole(target):
            return
        shutil.rmtree(target)
    try:
        temporary.rename(target)
    except OSError:
        # Another attempt may have put the same content meanwhile.
        if not target.exists():
            raise


def _is_whole(tree: Path) -> bool:
    try:
        return sum_up(dump_index(index_of(entries(tree)))).sha256 == tree.name
    except OutputError:  # a link or device planted in it
        return False


@frozen
class Remedy:
    """What to do where a root fails, and the password of its URL, which no text may show."""

    advice: str
    password: str = ""

    def reason(self, error: Exception) -> str:
        """Return why it failed, as part of a sentence."""
        reason: str = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return (reason.replace(self.password, "***") if self.password else reason).rstrip(".")


DISK = Remedy("Free space or set another artifact root")


@contextlib.contextmanager
def storing(uri: str, size: int, remedy: Remedy = DISK) -> Iterator[None]:
    """Raise StorageError for whatever a file system or an object store's client raises."""
    try:
        yield
    except (MlfnError, MemoryError):
        raise
    except Exception as error:  # each object store's client has errors of its own
        raise StorageError(
            f"Cannot write {size:,} bytes to {uri}: {remedy.reason(error)}. {remedy.advice}; nothing was left of it."
        ) from error


def _open_file(path: Path) -> BinaryIO:
    # O_NONBLOCK: a pipe put there since the check would block for ever.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(0, "it is not a regular file")
    return os.fdopen(handle, "rb")
