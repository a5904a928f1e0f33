"""Parameters and outputs <-> what the store holds of them: small values inline, others as artifacts of the run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlfn import payload
from mlfn.artifacts import Artifact, ArtifactStore
from mlfn.packers.base import Packer
from mlfn.packers.builtin import JsonPacker
from mlfn.packers.inputs import read_input
from mlfn.packers.table import pack, unpack
from mlfn.packers.text import BytearrayPacker, BytesPacker, TextPacker
from mlfn.spec.record import Output

_AS_FILES: Mapping[type, Packer] = {str: TextPacker(), bytes: BytesPacker(), bytearray: BytearrayPacker()}


@dataclass(frozen=True)
class Codec:
    """How one run's values are packed: signed by `key`, kept under `artifacts`.

    `modules_of` says which modules' code must go with a value, since a worker cannot import them. `by_reference` names
    those whose classes go back to the caller by their names, since the worker has them by value only.
    """

    key: bytes
    artifacts: ArtifactStore
    modules_of: Callable[[Any], tuple[str, ...]] | None = None
    by_reference: Collection[str] = field(default_factory=tuple)

    def encode(self, run: str, name: str, value: Any) -> dict[str, Any]:
        """Return the JSON form of a parameter; a path is passed on as it is, and nothing is copied."""
        if isinstance(value, Path):
            packed = JsonPacker().pack(value)
            return {"packer": packed.packer, "inline": packed.inline}
        return reference(self.output(run, name, value, role="param"))

    def decode(self, encoded: Mapping[str, Any]) -> Any:
        """Return the value of a parameter's JSON form, reading its file where it has one."""
        if "input" in encoded:
            return read_input(Path(encoded["input"]), encoded.get("as"))
        return unpack(
            encoded["packer"], inline=encoded.get("inline"), path=self.path(encoded), unpickler=self._unpickle
        )

    def path(self, encoded: Mapping[str, Any]) -> Path | None:
        """Return where the file of a parameter or output lies; None for one that has no file."""
        if encoded.get("path") is None:
            return None
        return self.artifacts.path(Artifact("", encoded["sha256"], 0, "", encoded["path"], encoded["packer"], ""))

    def output(self, run: str, key: str, value: Any, *, role: str, file: bool = False) -> Output:
        """Pack one named value; `file` asks for an artifact even where it would fit inline."""
        packed = pack(value, name=key, pickler=lambda obj: self._pickle(obj, key), file=file)
        if file and packed.content is None and type(value) in _AS_FILES:
            packed = _AS_FILES[type(value)].pack(value)  # a text as itself, not as the JSON that would be in a row
        if packed.content is None and not file:
            return Output(key, role, packed.packer, packed.type, inline=packed.inline, size=packed.size)
        kept = self.artifacts.put(run, f"param-{key}" if role == "param" else key, packed)
        return Output(key, role, packed.packer, packed.type, path=kept.path, sha256=kept.sha256, size=kept.size)

    def value(self, output: Output) -> Any:
        """Return the value of a stored output."""
        return self.decode(reference(output))

    def pickle_failure(self, error: BaseException) -> bytes:
        """Return a signed pickle of an exception."""
        return payload.pack(
            _Travelling(error),
            key=self.key,
            role="exception",
            qualname=type(error).__qualname__,
            by_reference=self.by_reference,
        )

    def unpickle_failure(self, data: bytes) -> Any:
        """Return an exception that `pickle_failure` packed."""
        return payload.unpack(data, key=self.key, role="exception")

    def _pickle(self, value: Any, name: str) -> bytes:
        return payload.pack(
            value,
            key=self.key,
            role="value",
            qualname=name,
            by_value=self.modules_of(value) if self.modules_of is not None else (),
            by_reference=self.by_reference,
        )

    def _unpickle(self, data: bytes) -> Any:
        return payload.unpack(data, key=self.key, role="value")


class _Travelling:
    """An exception on its way: rebuilt without its ``__init__`` where that takes other arguments than it passes on."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> tuple[Any, ...]:
        reduced = self._error.__reduce_ex__(4)
        kind = type(self._error)
        if isinstance(reduced, tuple) and len(reduced) in (2, 3) and reduced[0] is kind:
            return rebuilt_error, (kind, reduced[1], dict(reduced[2] or {}) if len(reduced) == 3 else {})
        return _itself, (self._error,)


def rebuilt_error(kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    """Return an exception of `kind` with these arguments and attributes."""
    try:
        error = kind(*args)
    except Exception:  # noqa: BLE001 - its __init__ is its own; what it made is in args and state
        error = kind.__new__(kind, *args)
        error.args = args
    error.__dict__.update(state)
    return error


def _itself(error: BaseException) -> BaseException:
    return error


def reference(output: Output) -> dict[str, Any]:
    """Return the JSON form by which an output becomes a parameter."""
    if output.path is None:
        return {"packer": output.packer, "inline": output.inline}
    return {
        "packer": output.packer,
        "path": output.path,
        "sha256": output.sha256,
        "type": output.type,
        "size": output.size,
    }
