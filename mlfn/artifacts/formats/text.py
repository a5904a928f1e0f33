"""Long text and bytes, as files that any program can open. Short ones are JSON in the store."""

from __future__ import annotations

from typing import Any

from mlfn.artifacts.formats.base import Packed, Stored


class TextPacker:
    """A str as UTF-8, with its own line ends; lone surrogates are kept as three bytes each."""

    name = "text"
    types: tuple[type, ...] = (str,)

    def accepts(self, value: Any, /) -> bool:
        """Return whether it is a str, and no subclass of it."""
        return type(value) is str

    def pack(self, value: Any, /) -> Packed:
        """Encode as UTF-8."""
        content = value.encode("utf-8", "surrogatepass")
        return Packed("text", "builtins.str", content=content, suffix=".txt", size=len(content))

    def unpack(self, stored: Stored, /) -> Any:
        """Decode without touching line ends."""
        return stored.file.read_bytes().decode("utf-8", "surrogatepass")


class BytesPacker:
    """Bytes as they are."""

    name = "bytes"
    types: tuple[type, ...] = (bytes,)

    def accepts(self, value: Any, /) -> bool:
        """Return whether it is of the packer's one type."""
        return type(value) in self.types

    def pack(self, value: Any, /) -> Packed:
        """Take the bytes as they are."""
        return Packed(self.name, f"builtins.{self.name}", content=bytes(value), suffix=".bin", size=len(value))

    def unpack(self, stored: Stored, /) -> Any:
        """Read the bytes, as the packer's type."""
        return self.types[0](stored.file.read_bytes())


class BytearrayPacker(BytesPacker):
    """The same file under another name: the stored name alone tells which type to return."""

    name = "bytearray"
    types = (bytearray,)
