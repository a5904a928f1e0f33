"""What a strategy chose <-> what a child is submitted with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlfn.codec import Codec
from mlfn.errors import OutputError, ParameterError, UnpicklableError
from mlfn.inputs import DataItem
from mlfn.spec.canonical import canonical
from mlfn.sweep.body import SweepBody
from mlfn.sweep.listing import short
from mlfn.sweep.placing import placed_in

Check = Callable[[Mapping[str, Any]], Mapping[str, Any]]


Words = Callable[[Any, Mapping[str, Any]], Mapping[str, str]]


class PointCodec:
    """Encodes the points of one sweep; values that were encoded before are not packed again.

    `function` is what an error calls the function, `words` says what is kept in words of a value that only a pickle keeps.
    """

    def __init__(
        self,
        codec: Codec,
        run: str,
        check: Check | None = None,
        *,
        function: str = "",
        words: Words = lambda _value, _encoded: {},
    ) -> None:
        self._words = words
        self._codec = codec
        self._run = run
        self.check = check
        self._function = function
        self._encoded: dict[int, tuple[Any, dict[str, Any]]] = {}
        self._contents: dict[str, str] = {}

    def keep(self, value: Any) -> dict[str, Any]:
        """Encode a value that many points will have, under the sweep's own id."""
        found = self._encoded.get(id(value))
        if found is None or found[0] is not value:
            found = self._encoded[id(value)] = (value, self._encode(self._run, "value", value))
        return found[1]

    def decode(self, encoded: Mapping[str, Any]) -> Any:
        """Return a value that was kept."""
        return DataItem(encoded["input"], encoded.get("as")) if "input" in encoded else self._codec.decode(encoded)

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
        """Return the parameters that a point changes, dotted keys put in place; refuse what does not fit."""
        plain = {key: value for key, value in point.items() if "." not in key}
        for key, value in point.items():
            name = key.partition(".")[0]
            if name != key:
                if name not in plain and name not in body.bases:
                    raise ParameterError(
                        f"{self._function}(): {key}={short(value)}: there is no whole to change. A dotted key of what chooses "
                        f"while it runs needs {name!r} beside it; a list of rows takes it from submit() or the default."
                    )
                base = plain[name] if name in plain else self.decode(body.bases[name])
                plain[name] = placed_in(self._function, base, key, value)
        return dict(self.check(plain)) if self.check is not None else plain

    def memo(self, params: Mapping[str, Any]) -> str:
        """Return a digest that is equal for equal parameters, the contents of inputs included."""
        return hashlib.sha256(canonical(self._known(params)).encode()).hexdigest()

    def _known(self, params: Mapping[str, Any]) -> dict[str, Any]:
        known: dict[str, Any] = {}
        for name, value in params.items():
            if "input" in value:
                known[name] = {"sha256": self._content(value["input"]), "as": value.get("as")}
            else:
                known[name] = {key: part for key, part in value.items() if key not in ("path", "size", "shown")}
        return known

    def _content(self, path: str) -> str:
        if path not in self._contents:
            self._contents[path] = _digest(Path(path))
        return self._contents[path]

    def _encode(self, run: str, key: str, value: Any) -> dict[str, Any]:
        if getattr(value, "__mlfn_reference__", False):
            return {"output": {"run": value.run.id, "key": value.key}}
        if isinstance(value, DataItem):
            return {"input": value.url, "as": value.type}
        try:
            encoded = self._codec.encode(run, key.replace(".", "-"), value)
        except OutputError as error:
            raise UnpicklableError(
                f"{key}={type(value).__qualname__} cannot travel: {error.__cause__ or error} Pass plain values, or what "
                "it is made from."
            ) from error
        return {**encoded, **self._words(value, encoded)}


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
    for item in files:
        found.update(str(item.relative_to(path)).encode())
        with item.open("rb") as file:
            while chunk := file.read(1 << 20):
                found.update(chunk)
    return found.hexdigest()
