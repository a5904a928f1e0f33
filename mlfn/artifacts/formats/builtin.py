"""The values of Python itself, as tagged JSON: inline where short, else a file."""

from __future__ import annotations

import json
from typing import Any

from mlfn.artifacts.formats import tagged_json
from mlfn.artifacts.formats.base import INLINE_LIMIT, Packed, Stored, UnfitError, type_name

# Their repr is as long as their JSON, and the encoder would double the time of a scalar.
_NUMBERS = frozenset({int, float, bool, type(None)})
_FILES_OF_THEIR_OWN = frozenset({str, bytes, bytearray})


class JsonPacker:
    """None, numbers, text, containers, dates, paths: the types of tagged JSON, and NumPy's scalars."""

    name = "json"
    types = tagged_json.TYPES

    def accepts(self, value: Any, /) -> bool:
        """Return whether tagged JSON has its type."""
        return tagged_json.knows(type(value))

    def pack(self, value: Any, /) -> Packed:
        """Encode it; unfit where it holds, anywhere, a type that tagged JSON lacks."""
        kind = type(value)
        if kind in _FILES_OF_THEIR_OWN and len(value) > INLINE_LIMIT:
            raise UnfitError("it is longer than a store row may be")
        encoded = tagged_json.encode(value)
        if type(encoded) in _NUMBERS:
            return Packed("json", f"builtins.{kind.__name__}", encoded, size=len(repr(encoded)))
        text = tagged_json.dumps(encoded)
        if len(text) <= INLINE_LIMIT:
            return Packed("json", type_name(value), encoded, size=len(text))
        if kind in _FILES_OF_THEIR_OWN:
            raise UnfitError("it is longer than a store row may be")
        return Packed("json", type_name(value), content=text.encode("ascii"), suffix=".json", size=len(text))

    def unpack(self, stored: Stored, /) -> Any:
        """Decode the row, or the file where it was long."""
        return tagged_json.decode(stored.inline if stored.path is None else json.loads(stored.path.read_bytes()))
