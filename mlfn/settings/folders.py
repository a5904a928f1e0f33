"""Where a user's configuration and data lie; nothing is created here."""

from __future__ import annotations

import functools
import logging
import os
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from mlfn.errors import StorageError

logger = logging.getLogger(__name__)


def config_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the user's configuration folder: ``$XDG_CONFIG_HOME/mlfn``, else ``~/.config/mlfn``."""
    # On macOS too: ~/Library/Application Support is the data folder, where the signing key must not lie.
    return (_xdg("XDG_CONFIG_HOME", environ) or _home(environ) / ".config") / "mlfn"


def user_data_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the user's data folder, for runs outside any project that has a ``.mlfn`` folder."""
    chosen = _xdg("XDG_DATA_HOME", environ)
    if chosen is None and sys.platform == "darwin":
        return _home(environ) / "Library" / "Application Support" / "mlfn"
    return (chosen or _home(environ) / ".local" / "share") / "mlfn"


def _xdg(variable: str, environ: Mapping[str, str]) -> Path | None:
    path = Path(environ.get(variable, ""))
    return path if path.is_absolute() else None  # the XDG specification: a relative path is to be ignored


def _home(environ: Mapping[str, str]) -> Path:
    if environ.get("HOME"):
        return Path(environ["HOME"])
    try:
        return Path.home()
    except RuntimeError as error:  # a container's user without HOME and without an entry in passwd
        raise StorageError(
            "This user has no home folder. Set HOME, or MLFN_DATA and XDG_CONFIG_HOME, to folders that it can write."
        ) from error


def find_upwards(name: str, start: Path, fits: Callable[[Path], bool]) -> Path | None:
    """Return the nearest `name` in `start` or its parents that `fits`, or None."""
    for folder in (start, *start.parents):
        candidate = folder / name
        try:
            if fits(candidate) and _trusted(candidate):
                return candidate
        except OSError:  # a parent that this user may not read
            continue
    return None


def _trusted(path: Path) -> bool:
    """Return whether `path` is safe: in a folder that all can write (/tmp), another user may have put it there."""
    if not path.parent.stat().st_mode & stat.S_IWOTH:
        return True
    if path.stat().st_uid in (0, os.geteuid()):
        return True
    _warn_once(path)
    return False


@functools.lru_cache(maxsize=64)
def _warn_once(path: Path) -> None:
    logger.warning("ignored what another user put into a folder that everyone can write", extra={"path": str(path)})
