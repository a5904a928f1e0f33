"""All packers, in the order in which they are asked, and the two functions that ask them."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlfn.artifacts.formats.arrays import NumpyPacker
from mlfn.artifacts.formats.base import Packed, Packer, Pickler, Stored, UnfitError, Unpickler, type_name
from mlfn.artifacts.formats.builtin import JsonPacker
from mlfn.artifacts.formats.dask_collections import DaskArrayPacker, DaskBagPacker, DaskDataFramePacker
from mlfn.artifacts.formats.files import PathPacker
from mlfn.artifacts.formats.frames import DataFramePacker, SeriesPacker
from mlfn.artifacts.formats.pickled import PicklePacker
from mlfn.artifacts.formats.spark_frames import SparkDataFramePacker
from mlfn.artifacts.formats.text import BytearrayPacker, BytesPacker, TextPacker
from mlfn.errors import MissingExtraError, MlfnError, OptionError, OutputError, PayloadError, UnpicklableError, nearest
from mlfn.settings import members

logger = logging.getLogger(__name__)

# The first that accepts a value and finds it fit packs it: paths before JSON, which would keep only their names; JSON before
# text and bytes, which are files. Those of installed packages come after them, and pickle last.
PACKERS: tuple[Packer, ...] = (
    PathPacker(),
    JsonPacker(),
    TextPacker(),
    BytesPacker(),
    BytearrayPacker(),
    NumpyPacker(),
    DataFramePacker(),
    SeriesPacker(),
    SparkDataFramePacker(),
    DaskDataFramePacker(),
    DaskArrayPacker(),
    DaskBagPacker(),
)

_BY_NAME = {packer.name: packer for packer in PACKERS}
_BY_TYPE = {kind: [p for p in PACKERS if kind in p.types] for packer in PACKERS for kind in packer.types}
# A short text is JSON within the store; as a file of its own it is a text.
_AS_FILES = {kind: sorted(packers, key=lambda p: p.name == "json") for kind, packers in _BY_TYPE.items()}


def pack(value: Any, *, name: str, pickler: Pickler, file: bool = False) -> Packed:
    """Pack an output in the first format that gives it back exactly; with `file`, in one that people open as a file.

    Raises:
        OutputError: no packer can take it; names the output, its type and the reason.

    """
    try:
        return _first_fit(value, _AS_FILES if file else _BY_TYPE) or PicklePacker(pickler=pickler).pack(value)
    except MemoryError:
        # A run that is out of memory ends with that reason, not with a packing error.
        raise
    except Exception as error:  # a pickler or a user's __reduce__ may raise anything
        raise OutputError(_cannot_pack(value, name, error)) from error


def unpack(packer: str, *, inline: Any, path: Path | None, unpickler: Unpickler) -> Any:
    """Return a packed value, from its file or folder where it has one, else from `inline`.

    Raises:
        OutputError: unknown packer, or damaged content.
        PayloadError: a pickle that is not signed by this user, or by another Python; raised by `unpickler`.
        MissingExtraError: the packer's package is not installed here.

    """
    member = PicklePacker(unpickler=unpickler) if packer == PicklePacker.name else _named(packer)
    try:
        return member.unpack(Stored(inline, path))
    except (MemoryError, PayloadError, MissingExtraError):
        raise
    except Exception as error:  # a damaged or hostile file may raise anything
        where = "its row in the store" if path is None else str(path)
        raise OutputError(f"Cannot unpack a {packer} value from {where}: {_why(error)}.") from error


def _named(packer: str) -> Packer:
    if (member := _BY_NAME.get(packer) or installed().get(packer)) is None:
        names = [*_BY_NAME, PicklePacker.name, *installed()]
        raise OutputError(
            f"No packer is called {packer!r}: {nearest(packer, names)} A package that adds one must be installed here too."
        )
    return member


@functools.cache
def installed() -> Mapping[str, Packer]:
    """Return the packers of installed packages by name; one that cannot be used is left out with a warning."""
    found: dict[str, Packer] = {}
    for name in sorted(members.targets("packer")):
        try:
            found[name] = _checked(name, members.load("packer", name)())
        except MlfnError as error:
            logger.warning("%s Until then its values are pickled.", error)
    return found


def _checked(name: str, packer: Packer) -> Packer:
    """Refuse a packer that rows would mistake for another."""
    if name in (*_BY_NAME, PicklePacker.name):
        raise OptionError(
            f"The entry point {name!r} of mlfn.packers has the name of a packer of mlfn's own: choose another."
        )
    if packer.name != name:
        raise OptionError(
            f"The entry point {name!r} of mlfn.packers has a packer with name = {packer.name!r}: rows keep that name, so both "
            "must be the same."
        )
    return packer


def _first_fit(value: Any, by_type: Mapping[type, Sequence[Packer]]) -> Packed | None:
    for packer in by_type.get(type(value)) or _accepting(value):
        with suppress(UnfitError):
            return packer.pack(value)
    return None


def _accepting(value: Any) -> Iterator[Packer]:
    yield from (packer for packer in PACKERS if packer.accepts(value))
    yield from (packer for packer in installed().values() if packer.accepts(value))


def _cannot_pack(value: Any, name: str, error: Exception) -> str:
    return (
        f"Output {name!r} ({type_name(value)}) cannot be packed: {_why(error).removeprefix(f'{name}: ')}. "
        "Return plain values, arrays, frames, a pathlib.Path to a file, or something that pickle can take."
    )


def _why(error: Exception) -> str:
    if isinstance(error, UnpicklableError):  # its advice is for arguments, not for outputs
        return str(error).replace(" cannot travel to a worker:", ":").rpartition(" Make it")[0].rstrip(". ")
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    return f"{type(error).__name__}: {error}".rstrip(". ")
