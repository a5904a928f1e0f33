"""The settings in force in this process, and the folders and the key that follow from them.

Declared in `declarations`, resolved in `sources`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from mlfn.errors import SettingsError
from mlfn.host.frozen import frozen
from mlfn.settings.declarations import SETTINGS, Settings
from mlfn.settings.folders import config_folder, find_upwards, user_data_folder
from mlfn.settings.sources import current_folder, load, without_password

_RECHECK = 1.0  # seconds after which current() reads all sources again

_WATCHED = tuple(
    os.fsencode(name)
    for name in [
        *(setting.variable for setting in SETTINGS.values()),
        "HOME",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
    ]
)


@frozen
class _Cached:
    process: tuple[str | None, tuple[bytes | None, ...]]
    fresh_until: float
    settings: Settings


_lock = threading.Lock()


def _replace_lock() -> None:
    # A thread that does not exist in the forked child may have held it.
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_replace_lock)

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
    return current_here()[0]


def current_here() -> tuple[Settings, str | None]:
    """Return the settings in force, and the current folder; None for one that is gone."""
    global _cached
    cached, process, now = _cached, _process_state(), time.monotonic()
    if cached is not None and cached.process == process and now < cached.fresh_until:
        return cached.settings, process[0]
    flags, overrides = _flags, _overrides
    settings = load(flags, overrides).settings
    if cached is not None and settings == cached.settings:
        settings = cached.settings  # what compares them with its own finds the same object
    with _lock:
        if _flags is flags and _overrides is overrides:  # else another thread has set others meanwhile
            _cached = _Cached(process, now + _RECHECK, settings)
    return settings, process[0]


def _process_state() -> tuple[str | None, tuple[bytes | None, ...]]:
    try:
        cwd: str | None = os.getcwd()
    except FileNotFoundError:
        cwd = None
    # The dict under os.environ: asking os.environ itself for these names costs 15 us, this 1 us.
    variables: Mapping[bytes, bytes] = getattr(os.environ, "_data", os.environb)
    return cwd, tuple(map(variables.get, _WATCHED))


def data_folder(settings: Settings, *, environ: Mapping[str, str] = os.environ, cwd: Path | None = None) -> Path:
    """Return the folder of the SQLite file, logs and artifacts; ``ensure_folder`` creates it."""
    if settings.data:
        return Path(os.path.expanduser(settings.data)).absolute()
    here = cwd if cwd is not None else current_folder()
    found = find_upwards(".mlfn", here, Path.is_dir) if here is not None else None
    return found or user_data_folder(environ)


def artifact_uri(data: Path, path: str) -> str:
    """Return where an artifact lies, or a folder of them, for people: in the data folder, or below the root that is chosen."""
    root = current().artifacts
    if not root or not path.startswith("of-"):
        return str(data / "artifacts" / path)
    return f"{without_password(root).rstrip('/')}/{path}"


def secrets_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the file of secret values: ``$MLFN_SECRETS_FILE``, else secrets.json beside the key."""
    chosen = environ.get("MLFN_SECRETS_FILE")
    return Path(chosen) if chosen else config_folder(environ) / "secrets.json"


def signing_key(environ: Mapping[str, str] = os.environ) -> bytes:
    """Return the user's key for signing payloads: 32 bytes, in the configuration folder, made at first use.

    It never lies in the data folder: write access to the store must not suffice to sign. Raises
    SettingsError where the configuration folder is within the data folder, StorageError where the key cannot
    be kept or read.
    """
    from mlfn.settings.key_file import obtain_key  # readers need no key

    config, data = config_folder(environ), data_folder(current(), environ=environ)
    if config.resolve().is_relative_to(data.resolve()):
        raise SettingsError(
            f"The configuration folder {str(config)!r}, with the signing key, is within the data "
            f"folder {str(data)!r}. Set MLFN_DATA or XDG_CONFIG_HOME to keep them apart."
        )
    return obtain_key(config)
