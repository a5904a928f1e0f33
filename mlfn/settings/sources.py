"""Where settings come from, and which source wins.

Nearest wins: flag > ``init()`` > environment > the project's mlfn.toml > the user's mlfn.toml > default. An
empty environment variable counts as unset.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from mlfn.errors import SettingsError, StorageError, meant, nearest
from mlfn.host.frozen import frozen
from mlfn.settings.declarations import PREFIX, SETTINGS, Setting, Settings, is_url
from mlfn.settings.folders import config_folder, find_upwards

FILE_NAME = "mlfn.toml"

INTERNAL_VARIABLES = frozenset({"MLFN_FAILPOINT", "MLFN_SECRETS_FILE", "MLFN_FUNCTION_OF_CHILD"})
"""Variables of ours that are no settings: seams for tests, for the worker, and for the processes that a handler starts."""

# Kubernetes puts these into every pod of a namespace that has a Service called mlfn or mlfn-something.
SERVICE_LINK = re.compile(r"MLFN_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")

PASSWORD = re.compile(r"(://[^:/@\s]*:).*@")


@frozen
class Resolved:
    """The settings in force, and where each came from."""

    settings: Settings
    sources: Mapping[str, str]

    def explain(self) -> list[tuple[str, str, str, str]]:
        """Return (name, value, source, doc) for each setting; passwords in URLs are masked."""
        return [
            (name, without_password(str(getattr(self.settings, name))), self.sources[name], setting.doc)
            for name, setting in SETTINGS.items()
        ]


def without_password(text: str) -> str:
    """Return a text with ``***`` in place of the password of a URL."""
    return PASSWORD.sub(r"\1***@", text)


@frozen
class Layer:
    """The values that one source gives."""

    values: Mapping[str, object]
    origin: Callable[[str], str]
    """Name of a setting -> where its value came from, as the user would write it."""
    base: Path | None
    """The folder that a relative path starts from."""
    is_text: bool = False
    """Whether numbers may come as text."""


def load(
    flags: Mapping[str, object] | None = None,
    init: Mapping[str, object] | None = None,
    environ: Mapping[str, str] = os.environ,
    cwd: Path | None = None,
) -> Resolved:
    """Resolve every setting. A flag or ``init()`` value of None counts as not given.

    Raises SettingsError for a setting that is unknown or does not fit, in whichever source it stands, even
    where a nearer one overrides it.
    """
    here = cwd if cwd is not None else current_folder()
    values: dict[str, Any] = {name: setting.default for name, setting in SETTINGS.items()}
    sources = dict.fromkeys(SETTINGS, "default")
    for layer in reversed(_layers(flags or {}, init or {}, environ, here)):  # the farthest first
        for name, value in _checked(layer).items():
            values[name] = value
            sources[name] = layer.origin(name)
    return Resolved(Settings(**values), sources)


def _layers(
    flags: Mapping[str, object], init: Mapping[str, object], environ: Mapping[str, str], cwd: Path | None
) -> list[Layer]:
    return [
        Layer(flags, _flag_of, cwd, is_text=True),
        Layer(init, lambda name: "init()", cwd),
        Layer(_from_environment(environ), lambda name: SETTINGS[name].variable, cwd, is_text=True),
        *(_read_file(file) for file in toml_files(environ, cwd)),
    ]


def current_folder() -> Path | None:
    """Return the working folder; None where it was deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError:  # it was removed meanwhile
        return None


def _flag_of(name: str) -> str:
    return SETTINGS[name].flag if name in SETTINGS else "--" + name.replace("_", "-")


def _from_environment(environ: Mapping[str, str]) -> dict[str, object]:
    by_variable = {setting.variable: name for name, setting in SETTINGS.items()}
    given = {key: value for key, value in environ.items() if key.startswith(PREFIX)}
    for key in given:
        if key not in by_variable and key not in INTERNAL_VARIABLES and not SERVICE_LINK.fullmatch(key):
            raise SettingsError(f"Unknown environment variable {key!r}: {nearest(key, by_variable)}")
    return {by_variable[key]: value for key, value in given.items() if value and key in by_variable}


def toml_files(environ: Mapping[str, str], cwd: Path | None) -> list[Path]:
    """Return the mlfn.toml files that count, the nearest first."""
    project = find_upwards(FILE_NAME, cwd, Path.is_file) if cwd is not None else None
    user = _user_file(environ)
    return ([project] if project else []) + ([user] if user and user != project else [])


def _user_file(environ: Mapping[str, str]) -> Path | None:
    try:
        path = config_folder(environ) / FILE_NAME
    except StorageError:  # no home folder: no user's file either
        return None
    return path if os.path.isfile(path) else None


def _read_file(path: Path) -> Layer:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        # An editor on Windows may have put a byte-order mark before the first key.
        values = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"Cannot read {str(path)!r}: {error}") from error
    return Layer(values, lambda name: f"{path}:{name}", path.parent)


def _checked(layer: Layer) -> dict[str, object]:
    for name in layer.values:
        if name not in SETTINGS:
            raise SettingsError(f"Unknown setting {name!r} in {layer.origin(name)}: {nearest(name, SETTINGS)}")
    return {name: _value(SETTINGS[name], value, layer) for name, value in layer.values.items() if value is not None}


def _value(setting: Setting, given: object, layer: Layer) -> object:
    value = _typed(setting.type, given, is_text=layer.is_text)
    if value is None or not setting.check(value):
        _refuse(setting, given, layer)
    if not setting.is_path or not value or is_url(str(value)):
        return value
    path = Path(os.path.expanduser(str(value)))
    if layer.base is None and not path.is_absolute():
        _refuse(setting, given, layer)
    # Absolute from here on: what a path means must not change with a later chdir.
    return os.path.normpath(path if layer.base is None else layer.base.absolute() / path)


def _typed(kind: type, given: object, *, is_text: bool) -> object | None:
    """Return `given` as `kind`, or None where it is not one. True is no number."""
    if kind is str:
        return os.fspath(given) if isinstance(given, (str, os.PathLike)) else None
    is_number = isinstance(given, (int, kind)) and not isinstance(given, bool)
    if not is_number and not (is_text and isinstance(given, str)):
        return None
    try:
        value = kind(given)
        return value if math.isfinite(value) else None
    except (ValueError, OverflowError):
        return None


def _refuse(setting: Setting, given: object, layer: Layer) -> NoReturn:
    shown = without_password(repr(given))
    near = meant(str(given), setting.choices())
    raise SettingsError(
        f"{setting.name} = {shown} (from {layer.origin(setting.name)}) does not fit: "
        f"{near}{'It' if near else 'it'} must be {setting.allowed}."
    )
