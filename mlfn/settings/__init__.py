"""The settings in force in this process, and the folders and the key that follow from them.

Declared in ``setting_table``, resolved in ``setting_layers``.
"""

from __future__ import annotations

import dataclasses
import math
import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlfn.errors import SettingsError
from mlfn.private_files import ensure_folder
from mlfn.settings.folders import config_folder, find_upwards, user_data_folder
from mlfn.settings.key_file import obtain_key
from mlfn.settings.layers import INTERNAL_VARIABLES, Resolved, current_folder, load, toml_files
from mlfn.settings.table import PREFIX, SETTINGS, Setting, Settings

__all__ = [
    "INTERNAL_VARIABLES",
    "SETTINGS",
    "Resolved",
    "Setting",
    "Settings",
    "config_folder",
    "current",
    "data_folder",
    "ensure_folder",
    "init",
    "load",
    "reset",
    "secrets_file",
    "signing_key",
    "usable_cores",
    "use_flags",
]

_RECHECK = 1.0  # seconds after which current() looks at the files again

_WATCHED = tuple(
    os.fsencode(name)
    for name in [
        *(setting.variable for setting in SETTINGS.values()),
        "HOME",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
    ]
)


@dataclass(frozen=True)
class _Cached:
    surroundings: tuple[object, ...]
    stamp: tuple[object, ...]
    fresh_until: float
    settings: Settings


_lock = threading.Lock()


def _forget_lock() -> None:
    # A thread that does not exist in the forked child may have held it.
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_lock)

_flags: Mapping[str, object] = {}
_overrides: Mapping[str, object] = {}
_cached: _Cached | None = None


def init(**settings: object) -> Settings:
    """Override settings in this process, over what earlier calls set, and return those in force.

    None takes an override back. Raises SettingsError, and then changes nothing.
    """
    global _overrides, _cached
    with _lock:
        merged = {name: value for name, value in {**_overrides, **settings}.items() if value is not None}
        load(_flags, {**settings, **merged})  # `settings` too: a misspelt name that was given None is refused
        _overrides, _cached = merged, None
    return current()


def use_flags(flags: Mapping[str, object]) -> Settings:
    """Put the command line's flags, by setting name, over everything else in this process."""
    global _flags, _cached
    with _lock:
        load(flags, _overrides)
        _flags, _cached = dict(flags), None
    return current()


def reset() -> None:
    """Forget what ``init()`` and ``use_flags()`` set."""
    global _flags, _overrides, _cached
    with _lock:
        _flags, _overrides, _cached = {}, {}, None


def current() -> Settings:
    """Return the settings in force here and now: cheap enough (2 us) to ask at every use."""
    cached = _cached
    surroundings = _surroundings()
    now = time.monotonic()
    if cached is None or cached.surroundings != surroundings:
        return _refreshed(surroundings, _stamp(), now)
    if now < cached.fresh_until:
        return cached.settings
    stamp = _stamp()
    if stamp != cached.stamp:
        return _refreshed(surroundings, stamp, now)
    return _remember(dataclasses.replace(cached, fresh_until=now + _RECHECK), expected=cached)


def _refreshed(surroundings: tuple[object, ...], stamp: tuple[object, ...], now: float) -> Settings:
    # The stamp is from before the files are read: a file changed meanwhile is read again, never missed.
    expected = _cached
    flags, overrides = _flags, _overrides
    settings = load(flags, overrides).settings
    return _remember(_Cached(surroundings, stamp, now + _RECHECK, settings), expected=expected)


def _remember(fresh: _Cached, *, expected: _Cached | None) -> Settings:
    global _cached
    with _lock:
        if _cached is expected:  # else init() ran in another thread, and what we computed is its past
            _cached = fresh
    return fresh.settings


def _surroundings() -> tuple[object, ...]:
    try:
        cwd: str | None = os.getcwd()
    except FileNotFoundError:
        cwd = None
    # The dict under os.environ: asking os.environ itself for these names costs 15 us, this 1 us.
    variables: Mapping[bytes, bytes] = getattr(os.environ, "_data", os.environb)
    return (cwd, *map(variables.get, _WATCHED))


def _stamp() -> tuple[object, ...]:
    ours = tuple((key, value) for key, value in os.environ.items() if key.startswith(PREFIX))
    return (ours, tuple(map(_file_stamp, toml_files(os.environ, current_folder()))))


def _file_stamp(path: Path) -> tuple[object, ...]:
    try:
        info = path.stat()
    except OSError:
        return (path,)
    return (path, info.st_mtime_ns, info.st_size, info.st_ino)


# What follows from them
# ------------------------------------------------------------------------------------------


def data_folder(settings: Settings, *, environ: Mapping[str, str] = os.environ, cwd: Path | None = None) -> Path:
    """Return the folder of the SQLite file, logs and artifacts; ``ensure_folder`` creates it."""
    if settings.data:
        return Path(os.path.expanduser(settings.data)).absolute()
    here = cwd if cwd is not None else current_folder()
    found = find_upwards(".mlfn", here, Path.is_dir) if here is not None else None
    return found or user_data_folder(environ)


def secrets_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the file of secret values: ``$MLFN_SECRETS_FILE``, else secrets.json beside the key."""
    chosen = environ.get("MLFN_SECRETS_FILE")
    return Path(chosen) if chosen else config_folder(environ) / "secrets.json"


def signing_key(environ: Mapping[str, str] = os.environ) -> bytes:
    """Return the user's key for signing payloads: 32 bytes, in the configuration folder, made at first use.

    It never lies in the data folder: whoever can write the store must not be able to sign. Raises
    SettingsError where the configuration folder is within the data folder, StorageError where the key cannot
    be kept or read.
    """
    folder = config_folder(environ)
    _refuse_key_in(data_folder(current(), environ=environ), folder)
    return obtain_key(folder)


def _refuse_key_in(data: Path, config: Path) -> None:
    inside, outside = config.resolve(), data.resolve()
    if outside not in (inside, *inside.parents):
        return
    raise SettingsError(
        f"The configuration folder {str(config)!r}, with the signing key, is within the data "
        f"folder {str(data)!r}. Set MLFN_DATA or XDG_CONFIG_HOME to keep them apart."
    )


def usable_cores() -> int:
    """Return how many cores this process may use: by its affinity and its cgroup's quota."""
    cores = os.cpu_count() or 1
    if sys.platform == "linux":
        cores = len(os.sched_getaffinity(0))
    return max(1, min(cores, _quota(Path("/sys/fs/cgroup/cpu.max")) or cores))


def _quota(file: Path) -> int | None:
    try:
        quota, period = file.read_text().split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError):  # no cgroup v2 here, or "max"
        return None
