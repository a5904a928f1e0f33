"""What every packer has, and what it makes: a value turned into a row or a file, and back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from mlfn.errors import MissingExtraError
from mlfn.host.frozen import frozen

INLINE_LIMIT = 16 * 1024
"""JSON bytes up to which a value lives in the store itself; a longer one becomes a file."""

Pickler = Callable[[Any], bytes]
Unpickler = Callable[[bytes], Any]


class UnfitError(Exception):
    """The packer's format would not give this value back exactly; the next packer is asked."""


@frozen
class Packed:
    """A value ready to be stored: `content` where there is one, else `inline`.

    `packer` is the packer's own name, `type` what `type_name` says of the value. `suffix` is that of the file, with its dot;
    empty for a value without a file, and for a folder. `content` is bytes, or a file or folder that the artifact store copies. `size` is in bytes, of the JSON
    text where the value is inline. A folder that `is_temporary` is removed once it is stored.
    """

    packer: str
    type: str
    inline: Any = None
    content: bytes | Path | None = None
    suffix: str = ""
    size: int = 0
    is_temporary: bool = False


@frozen
class Stored:
    """A stored value: the path of its file or folder where there is one, else `inline`."""

    inline: Any = None
    path: Path | None = None

    @property
    def file(self) -> Path:
        """The path, for a packer that always makes a file."""
        if self.path is None:
            raise ValueError("its artifact has no file")
        return self.path


class Packer(Protocol):
    """Packs one family of values, and unpacks them."""

    @property
    def name(self) -> str:
        """The word that the store keeps to find the packer by."""
        ...

    @property
    def types(self) -> tuple[type, ...]:
        """Exact types that go straight to one of mlfn's own packers; `accepts` is true of their values as well."""
        ...

    def accepts(self, value: Any, /) -> bool:
        """Return whether the value is of this family, without importing what it may come from."""
        ...

    def pack(self, value: Any, /) -> Packed:
        """Pack the value; raise `UnfitError` where it would not come back exactly."""
        ...

    def unpack(self, stored: Stored, /) -> Any:
        """Return the value that `pack` was given; raise any exception for content that it did not write."""
        ...


def type_name(value: Any) -> str:
    """Return the qualified type name, as rows keep it and messages show it."""
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def load(module: str) -> Any:
    """Import a module of the `data` extra, or raise MissingExtraError with what to type."""
    from mlfn.host.imports import import_whole  # readers of a store load no such module

    try:
        return import_whole(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{module} is not installed here, and a value needs it. Install it with: pip install 'mlfn[data]'"
        ) from error
