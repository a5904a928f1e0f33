"""Every setting, declared once: mlfn.toml, the environment, ``init()`` and command-line flags derive."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

T = TypeVar("T")

PREFIX = "MLFN_"

NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
STORE = re.compile(r"sqlite:///.+|postgresql://.+")
PLACES = ("local", "inline")
"""The places that are registered: the registry, which knows their classes, lies above the settings."""
COLORS = ("auto", "always", "never")


@dataclass(frozen=True)
class Setting:
    """One setting, and the names it goes by."""

    name: str
    type: type
    default: Any
    doc: str
    allowed: str
    """What a value may be, in words."""
    check: Callable[[Any], bool]
    flag: str
    """The command-line flag, such as ``--max-workers``."""
    is_path: bool
    choices: tuple[str, ...]
    """The values that there are, where they are few and have names."""

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
    choices: tuple[str, ...] = (),
    show: bool = True,
) -> T:
    """Declare a field of Settings; its name and the type of its default do the rest."""
    metadata = {"doc": doc, "allowed": allowed, "check": check, "is_path": is_path, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata, repr=show)


@dataclass(frozen=True)
class Settings:
    """The settings in force. The repr leaves out the store's URL, which may hold a password."""

    project: str = declare(
        "default",
        "Project that functions and runs belong to.",
        allowed="1 to 63 letters, digits, '.', '_' or '-', with a letter or digit at both ends",
        check=lambda value: NAME.fullmatch(value) is not None,
    )
    on: str = declare(
        "local",
        "Place where runs run.",
        allowed=f"the name of a place, {' or '.join(PLACES)}",
        check=lambda value: value in PLACES,
        choices=PLACES,
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
        check=lambda value: "\0" not in value,
        is_path=True,
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
    color: Literal["auto", "always", "never"] = declare(
        "auto",
        "Whether the command line writes in colour.",
        allowed="auto, always or never",
        check=lambda value: value in COLORS,
        choices=COLORS,
    )


def _table() -> Iterator[Setting]:
    for field in dataclasses.fields(Settings):
        flag = "--" + field.name.replace("_", "-")
        yield Setting(name=field.name, type=type(field.default), default=field.default, flag=flag, **field.metadata)


SETTINGS: Mapping[str, Setting] = {setting.name: setting for setting in _table()}
