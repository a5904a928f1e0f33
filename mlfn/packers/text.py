"""Long text and bytes, as files that any program can open. Short ones live in the store as JSON."""

from __future__ import annotations

from typing import Any

from mlfn.packers.base import Packed, Stored, type_name


class TextPacker:
    """A str as UTF-8, with its own line ends; lone surrogates are kept as three bytes each."""

    name = "text"
    types = (str,)

    def accepts(self, value: Any, /) -> bool:
        """Say whether it is a str, and no subclass of it."""
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
        """Say whether it is of the packer's one type."""
        return type(value) in self.types

    def pack(self, value: Any, /) -> Packed:
        """Take the bytes as they are."""
        return Packed(self.name, type_name(value), content=bytes(value), suffix=".bin", size=len(value))

    def unpack(self, stored: Stored, /) -> Any:
        """Read the bytes."""
        return stored.file.read_bytes()


class BytearrayPacker(BytesPacker):
    """The same file, by another name: the stored name alone says which type comes back."""

    name = "bytearray"
    types = (bytearray,)

    def unpack(self, stored: Stored, /) -> Any:
        """Read the bytes into a new bytearray."""
        return bytearray(stored.file.read_bytes())
