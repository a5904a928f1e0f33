"""The packers in the order in which they are asked, and the two functions that ask them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlfn.errors import MissingExtraError, OutputError, PayloadError, UnpicklableError, nearest
from mlfn.packers.arrays import NumpyPacker
from mlfn.packers.base import Packed, Packer, Pickler, Stored, UnfitError, Unpickler, type_name
from mlfn.packers.builtin import JsonPacker
from mlfn.packers.files import PathPacker
from mlfn.packers.frames import DataFramePacker, SeriesPacker
from mlfn.packers.pickled import PicklePacker
from mlfn.packers.text import BytearrayPacker, BytesPacker, TextPacker

# The first that accepts a value and finds it fit packs it: paths before JSON, which would keep only their
# names; JSON before text and bytes, which are files. Pickle is asked after all of them.
PACKERS: tuple[Packer, ...] = (
    PathPacker(),
    JsonPacker(),
    TextPacker(),
    BytesPacker(),
    BytearrayPacker(),
    NumpyPacker(),
    DataFramePacker(),
    SeriesPacker(),
)

_BY_NAME = {packer.name: packer for packer in PACKERS}
_BY_TYPE = {kind: [p for p in PACKERS if kind in p.types] for packer in PACKERS for kind in packer.types}
# A short text is JSON within the store; as a file of its own it is a text.
_AS_FILES = {kind: sorted(packers, key=lambda p: p.name == "json") for kind, packers in _BY_TYPE.items()}


def pack(value: Any, *, name: str, pickler: Pickler, file: bool = False) -> Packed:
    """Pack an output in the first format that gives it back exactly; with `file`, in one that people open as a file.

    Raises:
        OutputError: no packer could; names the output, its type and why.

    """
    try:
        return _first_fit(value, _AS_FILES if file else _BY_TYPE) or PicklePacker(pickler=pickler).pack(value)
    except MemoryError:
        # A run that is out of memory ends with that reason, not with a packing error.
        raise
    except Exception as error:  # what a pickler or a user's __reduce__ may raise has no common base
        raise OutputError(_cannot_pack(value, name, error)) from error


def unpack(packer: str, *, inline: Any, path: Path | None, unpickler: Unpickler) -> Any:
    """Give a packed value back, from its file or folder where it has one, else from `inline`.

    Raises:
        OutputError: unknown packer, or content that it did not write.
        PayloadError: a pickle that is not signed by this user, or by another Python; raised by `unpickler`.
        MissingExtraError: the packer's package is not installed here.

    """
    member = PicklePacker(unpickler=unpickler) if packer == PicklePacker.name else _BY_NAME.get(packer)
    if member is None:
        raise OutputError(f"No packer is called {packer!r}: {nearest(packer, [*_BY_NAME, PicklePacker.name])}")
    try:
        return member.unpack(Stored(inline, path))
    except (MemoryError, PayloadError, MissingExtraError):
        raise
    except Exception as error:  # a damaged or hostile file raises what it likes
        where = "its row in the store" if path is None else str(path)
        raise OutputError(f"Cannot unpack a {packer} value from {where}: {_why(error)}.") from error


def _first_fit(value: Any, by_type: Mapping[type, Sequence[Packer]]) -> Packed | None:
    for packer in by_type.get(type(value)) or _accepting(value):
        with suppress(UnfitError):
            return packer.pack(value)
    return None


def _accepting(value: Any) -> Iterator[Packer]:
    return (packer for packer in PACKERS if packer.accepts(value))


def _cannot_pack(value: Any, name: str, error: Exception) -> str:
    return (
        f"Output {name!r} ({type_name(value)}) cannot be packed: {_why(error).removeprefix(f'{name}: ')}. "
        "Return plain values, arrays, frames, a pathlib.Path to a file, or something that pickle can take."
    )


def _why(error: Exception) -> str:
    if isinstance(error, UnpicklableError):  # its advice is for what is sent to a worker
        return str(error).replace(" cannot travel to a worker:", ":").rpartition(" Make it")[0].rstrip(". ")
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    return f"{type(error).__name__}: {error}".rstrip(". ")
