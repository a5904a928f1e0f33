"""Parameters and outputs <-> what the store holds of them: small values inline, others as artifacts of the run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlfn import payload
from mlfn.artifacts import Artifact, ArtifactStore
from mlfn.packers import pack, read_input, unpack
from mlfn.spec.record import Output


@dataclass(frozen=True)
class Codec:
    """How one run's values are packed: signed by `key`, kept under `artifacts`.

    `by_reference` names modules whose classes go back to the caller by their names: the worker has them by value only.
    """

    key: bytes
    artifacts: ArtifactStore
    by_value: tuple[str, ...] = ()
    by_reference: Collection[str] = field(default_factory=tuple)

    def encode(self, run: str, name: str, value: Any) -> dict[str, Any]:
        """Return the JSON form of a parameter."""
        output = self.output(run, name, value, role="param")
        if output.uri is None:
            return {"packer": output.packer, "inline": output.inline}
        return {"packer": output.packer, "uri": output.uri, "sha256": output.sha256, "type": output.type, "size": output.size}

    def decode(self, encoded: Mapping[str, Any]) -> Any:
        """Return the value of a parameter's JSON form, reading its file where it has one."""
        if "input" in encoded:
            return read_input(Path(encoded["input"]), encoded.get("as"))
        uri = encoded.get("uri")
        path = self.artifacts.path(uri, sha256=encoded.get("sha256")) if uri else None
        return unpack(encoded["packer"], inline=encoded.get("inline"), path=path, unpickler=self._unpickle)

    def output(self, run: str, key: str, value: Any, *, role: str, file: bool = False) -> Output:
        """Pack one named value; `file` asks for an artifact even where it would fit inline."""
        packed = pack(value, name=key, pickler=lambda obj: self._pickle(obj, key), inline=not file)
        if packed.content is None:
            return Output(key, role, packed.packer, packed.type, inline=packed.inline, size=packed.size)
        kept: Artifact = self.artifacts.put(run, f"params/{key}" if role == "param" else key, packed)
        return Output(key, role, packed.packer, packed.type, uri=kept.uri, sha256=kept.sha256, size=kept.size)

    def value(self, output: Output) -> Any:
        """Return the value of a stored output."""
        return self.decode(
            {"packer": output.packer, "inline": output.inline, "uri": output.uri, "sha256": output.sha256}
        )

    def pickle_failure(self, error: BaseException) -> bytes:
        """Return a signed pickle of an exception."""
        return payload.pack(
            error, key=self.key, role="exception", qualname=type(error).__qualname__, by_reference=self.by_reference
        )

    def _pickle(self, value: Any, name: str) -> bytes:
        return payload.pack(
            value, key=self.key, role="value", qualname=name, by_value=self.by_value, by_reference=self.by_reference
        )

    def _unpickle(self, data: bytes) -> Any:
        return payload.unpack(data, key=self.key)
