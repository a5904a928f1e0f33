"""Every setting, declared once: mlfn.toml, the environment, ``init()`` and command-line flags derive."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, TypeVar

from mlfn.host.frozen import frozen

T = TypeVar("T")


def _places() -> Iterable[str]:
    from mlfn.settings.members import targets  # not read where the default is used

    return targets("place")


PREFIX = "MLFN_"

NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
STORE = re.compile(r"sqlite:///.+|postgresql://.+")
# Protocols of fsspec that keep files, and the package that each needs. It has more, some of which mount, cache or run things.
PROTOCOLS: Mapping[str, str] = {
    "abfs": "adlfs",
    "abfss": "adlfs",
    "az": "adlfs",
    "file": "fsspec",
    "gcs": "gcsfs",
    "gs": "gcsfs",
    "hdfs": "pyarrow",
    "memory": "fsspec",
    "oss": "ossfs",
    "s3": "s3fs",
    "s3a": "s3fs",
    "sftp": "paramiko",
    "smb": "smbprotocol",
    "webdav": "webdav4",
    "webhdfs": "requests",
}
URL = re.compile(r"([a-z][a-z0-9]*)://[^\s]*")
INDEX = re.compile(r"https?://[^\s/]+[^\s]*")
HOST = re.compile(r"[^\s/@]+")
_DASHBOARD = re.compile(r"https?://[^\s/@]+(/[^\s]*)?")
COLORS = ("auto", "always", "never")


@frozen
class Setting:
    """One setting, and the names it goes by."""

    name: str
    type: type
    default: Any
    doc: str
    fitting: str
    """What a value may be, in words; the choices follow where there are some."""
    check: Callable[[Any], bool]
    flag: str
    """The command-line flag, such as ``--max-workers``."""
    is_path: bool
    choices: Callable[[], Iterable[str]]
    """Returns the values that there are, where they are few and have names."""

    @property
    def allowed(self) -> str:
        """What a value may be, in words, with the choices that there are."""
        choices = ", ".join(sorted(self.choices()))
        return f"{self.fitting}: {choices}" if choices else self.fitting

    @property
    def variable(self) -> str:
        """The environment variable, such as ``MLFN_MAX_WORKERS``."""
        return PREFIX + self.name.upper()


def declare(
    default: T,
    doc: str,
    *,
    allowed: str,
    check: Callable[[Any], bool],
    is_path: bool = False,
    choices: Callable[[], Iterable[str]] = tuple,
    show: bool = True,
) -> T:
    """Declare a field of Settings; its name and the type of its default do the rest."""
    metadata = {"doc": doc, "fitting": allowed, "check": check, "is_path": is_path, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata, repr=show)


def is_url(value: str) -> bool:
    """Return whether a value names something else than a path."""
    return "://" in value


def _protocol(value: str) -> str:
    match = URL.fullmatch(value)
    return match[1] if match else ""


@frozen
class Settings:
    """The settings in force. The repr leaves out URLs, which may hold a password."""

    project: str = declare(
        "default",
        "Project that functions and runs belong to.",
        allowed="1 to 63 ASCII letters, digits, '.', '_' or '-', with a letter or digit at both ends",
        check=lambda value: NAME.fullmatch(value) is not None,
    )
    on: str = declare(
        "local",
        "Place where runs run.",
        allowed="the name of a place",
        check=lambda value: value in _places(),
        choices=_places,
    )
    store: str = declare(
        "",
        "URL of the store; empty is SQLite in the data folder.",
        allowed="sqlite:///path, postgresql://..., or empty",
        check=lambda value: not value or STORE.fullmatch(value) is not None,
        show=False,
    )
    data: str = declare(
        "",
        "Folder of the SQLite file, logs and artifacts; empty is the nearest .mlfn, else in the user's home.",
        allowed="a folder, or empty",
        check=lambda value: "\0" not in value and not is_url(value),
        is_path=True,
    )
    artifacts: str = declare(
        "",
        "Where results that are files go: a folder, or a URL as s3://bucket/path; empty is in the data folder.",
        allowed=f"a folder, a URL that begins with {', '.join(f'{name}://' for name in sorted(PROTOCOLS))}, or empty",
        check=lambda value: "\0" not in value and (not is_url(value) or _protocol(value) in PROTOCOLS),
        is_path=True,
        show=False,
    )
    max_workers: int = declare(
        0,
        "Most worker processes at a time; 0 is one for each usable core.",
        allowed="a whole number from 0 to 4096",
        check=lambda value: 0 <= value <= 4096,
    )
    grace: float = declare(
        10.0,
        "Seconds between SIGTERM and SIGKILL when a run is cancelled.",
        allowed="a number of seconds from 0 to 86400",
        check=lambda value: 0 <= value <= 86400,
    )
    heartbeat: float = declare(
        5.0,
        "Seconds between a worker's signs of life.",
        allowed="a number of seconds above 0, at most 3600",
        check=lambda value: 0 < value <= 3600,
    )
    image: str = declare(
        "",
        "Image of pods whose function names none; empty is python:3.x-slim of your own minor version.",
        allowed="a reference to an image as registry.example.com/team/train:1.2, or empty",
        check=lambda value: not re.search(r"\s", value),
    )
    package_index: str = declare(
        "",
        "URL of the index from which pods install requirements=; empty is the installer's own.",
        allowed="a URL that begins with https:// or http://, or empty",
        check=lambda value: not value or INDEX.fullmatch(value) is not None,
        show=False,
    )
    trusted_host: str = declare(
        "",
        "Host of that index, with its port where it has one, that pods trust without a certificate.",
        allowed="a host as pypi.example.com:8080, or empty",
        check=lambda value: not value or HOST.fullmatch(value) is not None,
    )
    nuclio_processor: str = declare(
        "",
        "Nuclio's processor on this machine, which then executes deployed functions; empty is the embedded server.",
        allowed="a file that can be executed, or empty",
        check=lambda value: not value or ("\0" not in value and os.access(value, os.X_OK) and os.path.isfile(value)),
        is_path=True,
    )
    nuclio_wrapper: str = declare(
        "",
        "The processor's wrapper for Python, _nuclio_wrapper.py; empty is the one beside the processor.",
        allowed="a file, or empty",
        check=lambda value: not value or ("\0" not in value and os.path.isfile(value)),
        is_path=True,
    )
    nuclio_dashboard: str = declare(
        "",
        "Address of Nuclio's dashboard, for functions of mlfn.Nuclio(engine='dashboard'); empty is none.",
        allowed="http://host:port, https://..., or empty",
        check=lambda value: not value or _DASHBOARD.fullmatch(value) is not None,
        show=False,
    )
    color: Literal["auto", "always", "never"] = declare(
        "auto",
        "Whether the command line writes in colour.",
        allowed="one of",
        check=lambda value: value in COLORS,
        choices=lambda: COLORS,
    )


def _table() -> Iterator[Setting]:
    for field in dataclasses.fields(Settings):
        flag = "--" + field.name.replace("_", "-")
        yield Setting(name=field.name, type=type(field.default), default=field.default, flag=flag, **field.metadata)


SETTINGS: Mapping[str, Setting] = {setting.name: setting for setting in _table()}
