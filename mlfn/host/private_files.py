"""Files and folders for their owner alone, whatever the umask; written whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from mlfn.errors import StorageError

logger = logging.getLogger(__name__)

OTHERS = 0o077  # the mode bits of group and others


def ensure_folder(path: Path, *, setting: str = "MLFN_DATA") -> Path:
    """Create `path` and the parents it lacks with mode 0700, and return it.

    A folder that exists keeps its mode: it may be shared on purpose. `setting` is the variable that
    chooses this folder. Raises StorageError, naming it, where the folder cannot be made or written.
    """
    try:
        # Not os.makedirs: that gives parents 0777 less the umask.
        for folder in [folder for folder in (path, *path.parents) if not os.path.lexists(folder)][::-1]:
            with contextlib.suppress(FileExistsError):  # another process was first
                os.mkdir(folder, 0o700)
        if not path.is_dir():
            raise NotADirectoryError(0, "it is a file, not a folder")
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(0, "it cannot be written")
    except OSError as error:
        raise StorageError(
            f"Cannot use the folder {str(path)!r}: {error.strerror or error}. Set {setting}=/a/folder/that/you/can/write."
        ) from error
    return path


def replace(path: Path, data: bytes) -> None:
    """Write `data` to `path` with mode 0600; a reader sees the old content or the new, also after a crash."""
    temporary = _write_beside(path, data)
    try:
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    _sync_folder(path.parent)


def _write_beside(path: Path, data: bytes) -> str:
    import tempfile

    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600 under any umask
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        os.unlink(name)
        raise
    return name


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system can
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_private(path: Path) -> bytes:
    """Return the content of `path`, set to mode 0600 first where others could read it.

    Raises StorageError where that fails, or it belongs to another user than this one or root.
    """
    with path.open("rb") as file:
        info = os.fstat(file.fileno())
        if os.geteuid() not in (0, info.st_uid) and info.st_uid != 0:
            raise StorageError(f"{str(path)!r} belongs to another user (uid {info.st_uid}); move it away.")
        if info.st_mode & OTHERS:
            _tighten(path, file.fileno())
        return file.read()


def _tighten(path: Path, descriptor: int) -> None:
    try:
        os.fchmod(descriptor, 0o600)
    except OSError as error:
        raise StorageError(
            f"Others can read {str(path)!r}, and its mode cannot be changed: {error.strerror}. "
            f"Type: chmod 600 {str(path)!r}"
        ) from error
    logger.warning("a private file could be read by others; its mode is now 0600", extra={"path": str(path)})


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of `path`, a file beside it, against other processes and threads."""
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
