"""Artifacts in a folder of this machine."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import BinaryIO

from mlfn.artifacts import content
from mlfn.errors import NotFoundError, StorageError
from mlfn.host.disk import files_below

_MOST_SHARED = 1000  # contents that are remembered; each may be large, and few come again


class FolderRoot:
    """A folder on this machine."""

    def __init__(self, root: Path) -> None:
        self._path = root.absolute()
        self._shared: dict[
            str, tuple[Path, tuple[int, int, int]]
        ] = {}  # by name: a file of that content, and its state

    def put_file(self, folder: str, source: bytes | Path, suffix: str) -> tuple[str, content.Summed]:
        """Write to a temporary name, then rename, over a damaged file too."""
        with self._folder(folder, source) as target, content.temporary_file(target) as (file, temporary):
            summed = content.copy(source, file.write)
            file.close()
            temporary.replace(target / f"{summed.sha256}{suffix}")
        return f"{folder}/{summed.sha256}{suffix}", summed

    def put_shared(self, folder: str, source: bytes, suffix: str) -> tuple[str, content.Summed]:
        """Put bytes that are only read: a hard link to the file that this process has put for the same content before."""
        summed = content.sum_up(source)
        name = f"{summed.sha256}{suffix}"
        with self._folder(folder, source) as target:
            if not self._linked(name, target / name):
                with content.temporary_file(target) as (file, temporary):
                    file.write(source)
                    file.close()
                    temporary.replace(target / name)
                self._remember(name, target / name)
        return f"{folder}/{name}", summed

    def _linked(self, name: str, target: Path) -> bool:
        """Link to a file of this content; False where there is none, it was changed, or the disk has no more links."""
        with contextlib.suppress(OSError, KeyError):
            known, state = self._shared[name]
            os.link(known, target)
            return _state(target) == state
        return False

    def _remember(self, name: str, path: Path) -> None:
        if len(self._shared) >= _MOST_SHARED:
            self._shared = {}
        self._shared[name] = (path, _state(path))

    def put_tree(self, folder: str, source: Path) -> tuple[str, content.Summed]:
        """Copy to a temporary folder, then rename."""
        with self._folder(folder, source) as target, content.temporary_folder(target) as temporary:
            index = content.copy_tree(source, temporary)
            sha256 = content.sum_up(content.dump_index(index)).sha256
            content.move_tree(temporary, target / sha256)
        return f"{folder}/{sha256}", content.Summed(sha256, sum(entry.size for entry in index))

    def adopt(self, path: str, content_: bytes) -> None:
        """Write a file at a path that another root had given it."""
        with self._folder(path.rpartition("/")[0], content_) as folder:
            target = folder / path.rpartition("/")[2]
            if not target.exists():
                content.copy_file(content_, target)

    def local(self, path: str, sha256: str) -> Path:
        """Return the path of the content itself."""
        found = self._inside(path)
        if not found.exists():
            raise NotFoundError(
                f"There is no artifact at {found}: it was deleted, or its root has moved: set MLFN_ARTIFACTS to where it lies now."
            )
        return found

    def open(self, path: str) -> BinaryIO:
        """Open a file."""
        return self._inside(path).open("rb")

    def uri(self, path: str) -> str:
        """Return the path."""
        return str(self._path / path)

    def exists(self, path: str) -> bool:
        """Return whether something is there."""
        return (self._path / path).exists()

    def put_note(self, path: str, text: bytes) -> None:
        """Write a small file that is no artifact."""
        with self._folder(path.rpartition("/")[0], text) as folder:
            content.copy_file(text, folder / path.rpartition("/")[2])

    def folders(self, path: str) -> Iterator[content.Stored]:
        """Yield what each folder in a folder holds."""
        top = self._inside(path)
        for folder in sorted(item for item in top.iterdir() if item.is_dir()) if top.exists() else ():
            paths = [folder, *folder.rglob("*")]
            found = [item.lstat() for item in paths]
            size = sum(info.st_size for info in found if stat.S_ISREG(info.st_mode))
            yield content.Stored(folder.name, size, max(info.st_mtime for info in found), content.linked(paths))

    def files(self, path: str) -> Iterator[tuple[Hashable, int]]:
        """Yield which file and how large, for each below a folder."""
        return files_below(self._inside(path))

    def remove(self, path: str) -> None:
        """Remove a folder with all that is in it; nothing where there is none."""
        import shutil

        with _removing(self.uri(path)), contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._inside(path))

    @contextlib.contextmanager
    def _folder(self, folder: str, source: bytes | Path) -> Iterator[Path]:
        with content.storing(self.uri(folder), content.size_of(source)):
            target = self._inside(folder)
            content.make_folders(target)
            yield target

    def _inside(self, path: str) -> Path:
        """Return a path below the root, compared after links are followed: a link in the store must not lead out of it."""
        root = self._path.resolve()
        found = (root / path).resolve()
        if not found.is_relative_to(root) or found == root:
            raise StorageError(f"{self._path / path} leads out of the artifact root {root}; remove the link.")
        return found


def _state(path: Path) -> tuple[int, int, int]:
    info = path.stat()
    return info.st_ino, info.st_size, info.st_mtime_ns


@contextlib.contextmanager
def _removing(uri: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"Cannot remove {uri}: {error.strerror}.") from error
