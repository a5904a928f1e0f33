"""What a packer is, and what it makes.

A packer turns one family of values into an artifact and back. It raises `UnfitError` where a value of its
family does not survive its format exactly; the next packer is then asked, and pickle last.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mlfn.errors import MissingExtraError

INLINE_LIMIT = 16 * 1024
"""JSON bytes up to which a value lives in the store itself; a longer one becomes a file."""

Pickler = Callable[[Any], bytes]
Unpickler = Callable[[bytes], Any]


class UnfitError(Exception):
    """A value that this packer's format would not give back exactly."""


@dataclass(frozen=True)
class Packed:
    """A value ready to be stored: `content` where there is one, else `inline`.

    `content` is bytes, or a file or folder that the artifact store copies. `size` is in bytes, of the JSON
    text where the value is inline.
    """

    packer: str
    type: str
    inline: Any = None
    content: bytes | Path | None = None
    suffix: str = ""
    size: int = 0


@dataclass(frozen=True)
class Stored:
    """What the store kept of a value: the path of its file or folder where there is one, else `inline`."""

    inline: Any = None
    path: Path | None = None

    @property
    def file(self) -> Path:
        """The path, for a packer that always makes a file."""
        if self.path is None:
            raise ValueError("its artifact has no file")
        return self.path


class Packer(Protocol):
    """One family of values <-> artifact."""

    @property
    def name(self) -> str:
        """The word that the store keeps, by which the packer is found again."""
        ...

    @property
    def types(self) -> tuple[type, ...]:
        """Exact types that go straight to this packer; empty where `accepts` must look."""
        ...

    def accepts(self, value: Any, /) -> bool:
        """Say whether the value is of this family, without importing what it may come from."""
        ...

    def pack(self, value: Any, /) -> Packed:
        """Pack the value; raise `UnfitError` where it would not come back exactly."""
        ...

    def unpack(self, stored: Stored, /) -> Any:
        """Give back what `pack` was given; raise any exception for what it did not write."""
        ...


def type_name(value: Any) -> str:
    """Return the qualified type name, for people."""
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def load(module: str) -> Any:
    """Import a module of the `data` extra, or raise MissingExtraError with what to type."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{module} is not installed here, and a value needs it. Install it with: pip install 'mlfn[data]'"
        ) from error
