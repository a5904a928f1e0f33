"""Encodes the points that a strategy chose as the stored parameters of children, and back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlfn.artifacts import nested
from mlfn.artifacts.codec import Codec
from mlfn.errors import OutputError, ParameterError, UnpicklableError
from mlfn.spec.canonical import canonical
from mlfn.spec.data_item import DataItem
from mlfn.sweep.params.listed import short
from mlfn.sweep.params.paths import placed_in
from mlfn.sweep.spec import SweepBody

Check = Callable[[Mapping[str, Any]], Mapping[str, Any]]
Words = Callable[[Any, Mapping[str, Any]], Mapping[str, str]]


@dataclass
class PointCodec:
    """Encodes the points of one sweep; a value is packed once, however many points have it.

    `function` is its name in errors; `words` describes a value that only a pickle can store.
    """

    codec: Codec
    run: str
    check: Check | None = None
    function: str = ""
    words: Words = lambda _value, _encoded: {}
    _encoded: dict[int, tuple[Any, dict[str, Any]]] = field(default_factory=dict)
    _contents: dict[str, str] = field(default_factory=dict)

    def keep(self, value: Any) -> dict[str, Any]:
        """Encode a value that many points have, under the sweep's own id."""
        found = self._encoded.get(id(value))
        if found is None or found[0] is not value:
            found = self._encoded[id(value)] = (value, self._encode(self.run, "value", value))
        return found[1]

    def decode(self, encoded: Mapping[str, Any]) -> Any:
        """Return the value that `keep` encoded; what stands for another value is not read."""
        return nested.decode(encoded, self._decoded)

    def _decoded(self, leaf: Mapping[str, Any]) -> Any:
        if nested.is_late(leaf):
            return nested.StoredReference(leaf)
        return DataItem(leaf["input"], leaf.get("as")) if "input" in leaf else self.codec.decode(leaf)

    def encode(self, run: str, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return a point as it is stored with the child `run`."""
        found = self._encoded
        encoded = {}
        for key, value in point.items():
            kept = found.get(id(value))
            encoded[key] = kept[1] if kept is not None and kept[0] is value else self._encode(run, key, value)
        return encoded

    def point(self, encoded: Mapping[str, Any]) -> dict[str, Any]:
        """Return a stored point."""
        return {key: self.decode(value) for key, value in encoded.items()}

    def checked(self, body: SweepBody, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return the checked parameters that a point changes, dotted keys put in place."""

        def base_of(name: str, key: str) -> Any:
            if name not in body.bases:
                raise ParameterError(
                    f"{self.function}(): {key}={short(point[key])}: {name!r} has no value to change. Beside a dotted key, a "
                    f"strategy that chooses while it runs must give {name!r}; a list of rows takes it from submit() or the default."
                )
            return self.decode(body.bases[name])

        params = placed_in(self.function, point, base_of)
        return dict(self.check(params)) if self.check is not None else params

    def memo(self, params: Mapping[str, Any]) -> str:
        """Return a digest that is equal for equal parameters, the contents of inputs included."""
        return hashlib.sha256(canonical(self._known(params)).encode()).hexdigest()

    def _known(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {name: nested.mapped(_unshown(value), self._content) for name, value in params.items()}

    def _content(self, leaf: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what tells the value of a leaf from others."""
        if "input" not in leaf:
            return {key: part for key, part in leaf.items() if key not in ("path", "size", "shown")}
        path = leaf["input"]
        if path not in self._contents:
            self._contents[path] = _digest(Path(path))
        return {"sha256": self._contents[path], "as": leaf.get("as")}

    def _encode(self, run: str, key: str, value: Any) -> dict[str, Any]:
        try:
            encoded = self.codec.encode(run, key.replace(".", "-"), value)
        except OutputError as error:
            raise UnpicklableError(
                f"{key}={type(value).__qualname__} cannot travel: {error.__cause__ or error} Pass plain values, or what "
                "it is made from."
            ) from error
        return {**encoded, **self.words(value, encoded)}


def _unshown(stored: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: part for key, part in stored.items() if key != "shown"}


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
    for item in files:
        found.update(str(item.relative_to(path)).encode())
        with item.open("rb") as file:
            while chunk := file.read(1 << 20):
                found.update(chunk)
    return found.hexdigest()
