"""Pickle, for values that no other packer gives back exactly. The caller signs it, and checks the signature."""

from __future__ import annotations

from typing import Any

from mlfn.artifacts.formats.base import Packed, Pickler, Stored, Unpickler, type_name


def _not_given(_: Any) -> Any:
    raise TypeError("this packer was made for the other direction")


class PicklePacker:
    """Anything that the caller's pickler takes; made anew for each value, as the key is the caller's."""

    name = "pickle"
    types: tuple[type, ...] = ()

    def __init__(self, *, pickler: Pickler = _not_given, unpickler: Unpickler = _not_given) -> None:
        self.pickler = pickler
        self.unpickler = unpickler

    def accepts(self, _value: Any, /) -> bool:
        """Return True."""
        return True

    def pack(self, value: Any, /) -> Packed:
        """Call the pickler."""
        content = self.pickler(value)
        # Not ".pkl": it begins with a signed header, which `pickle.load` cannot read.
        return Packed("pickle", type_name(value), content=content, suffix=".mlfn", size=len(content))

    def unpack(self, stored: Stored, /) -> Any:
        """Call the unpickler, which checks the signature first."""
        return self.unpickler(stored.file.read_bytes())
