"""How a function's code travels: by import path where it is installed, else by value."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mlfn.capture.belongings import track
from mlfn.capture.codehash import (
    ABSENT,
    CodeDigest,
    Walk,
    qualname,
    raw_function,
    signature_namespace,
    value_digest,
    walk,
)
from mlfn.capture.ownership import is_own_module
from mlfn.capture.sizes import large_values
from mlfn.capture.valuehash import atom_digest, is_frozen
from mlfn.payload import pack
from mlfn.payload.parcel import FunctionReference, ModuleSource, Parcel


@dataclass(frozen=True, eq=False)
class Capture:
    """A function's code at one moment: how it travels, what with, and whether it is still so."""

    function: Any
    mode: Literal["import", "value"]
    module: str | None
    qualname: str
    own_modules: tuple[str, ...]
    digest: CodeDigest
    large: tuple[tuple[str, int], ...]
    #: own modules that travel as objects, with the attributes that the code reads
    attributes: Mapping[str, tuple[str, ...]] = field(repr=False)
    #: own modules that travel as text, because the code imports them while it runs
    sources: Mapping[str, ModuleSource] = field(repr=False)
    _watch: Watch = field(repr=False)
    _payloads: dict[bytes, bytes] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        """Say in a few lines how the code travels."""
        if self.mode == "import":
            return f"{self.qualname} travels by import path: {self.module}:{self.qualname}"
        with_ = f", with {', '.join(self.own_modules)}" if self.own_modules else ""
        held = [f"  {path} is {size / 2**20:.1f} MiB" for path, size in self.large]
        lines = [f"{self.qualname} travels by value{with_}", f"  hashed from {self.digest.origin}", *held]
        return "\n".join(lines)

    def payload(self, key: bytes) -> bytes:
        """Return the function as a signed payload; packed once per key.

        Raises UnpicklableError, with the path to the value that cannot travel.
        """
        if key not in self._payloads:
            self._payloads[key] = self._pack(key)
        return self._payloads[key]

    def is_current(self) -> bool:
        """Return whether the function and all that it reaches are still what was captured."""
        return self._watch.holds()

    def _pack(self, key: bytes) -> bytes:
        if self.mode == "import":
            reference = FunctionReference(str(self.module), self.qualname)
            return pack(reference, key=key, role="function", qualname=self.qualname)
        return pack(
            self._travelling(),
            key=key,
            role="function",
            qualname=self.qualname,
            by_value=self.own_modules,
            attributes=self.attributes,
        )

    def _travelling(self) -> Any:
        names = signature_namespace(self.function)
        return Parcel(self.function, names, self.sources) if names or self.sources else self.function


def capture(fn: Callable[..., Any]) -> Capture:
    """Return how `fn` travels to a worker; a declared Function by its raw function."""
    raw = raw_function(fn)
    seen = walk(raw)
    track(seen.classes)
    module = _installed_module(raw)
    own = module is None
    return Capture(
        function=raw,
        mode="value" if own else "import",
        module=module or getattr(raw, "__module__", None),
        qualname=qualname(raw),
        own_modules=tuple(sorted(seen.own_modules)) if own else (),
        digest=seen.digest,
        large=tuple(large_values(seen.values)) if own else (),
        attributes=_attributes(seen),
        sources=dict(seen.sources),
        _watch=Watch.over(seen),
    )


def _installed_module(raw: Any) -> str | None:
    """Return the installed module from which every worker can import `raw`, or None."""
    name, path = getattr(raw, "__module__", None), getattr(raw, "__qualname__", None)
    module = sys.modules.get(name) if isinstance(name, str) else None
    if module is None or not isinstance(path, str) or is_own_module(module):
        return None
    found: Any = module
    for part in path.split("."):
        found = getattr(found, part, None)
    found = raw_function(found)
    # Every look at a class method makes another object of it.
    same = found == raw if isinstance(raw, types.MethodType) else found is raw
    return name if same else None


def _attributes(seen: Walk) -> dict[str, tuple[str, ...]]:
    return {module: tuple(sorted(names)) for module, names in seen.attributes.items() if names is not None}


# -- is it still so? -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Watch:
    """What has to stay as it is for a capture to hold.

    The references are strong: an id alone could by now be another object's.
    """

    names: tuple[tuple[Any, str, Any], ...]
    cells: tuple[tuple[types.CellType, Any], ...]
    functions: tuple[tuple[types.FunctionType, types.CodeType, Any, Any], ...]
    values: tuple[tuple[Any, bytes], ...]
    files: tuple[tuple[str, tuple[int, int] | None], ...]

    @classmethod
    def over(cls, seen: Walk) -> Watch:
        """Return a watch over everything met in a walk."""
        names = {(id(space), name): (space, name, value) for space, name, value in seen.names}
        cells = {id(cell): (cell, value) for cell, value in seen.cells}
        # Only a digest tells whether a list, a dict or an instance was changed in place.
        mutable = {id(value): value for _, value in seen.values if not is_frozen(value)}
        return cls(
            names=tuple(names.values()),
            cells=tuple(cells.values()),
            functions=tuple(seen.functions),
            values=tuple((value, value_digest(value)) for value in mutable.values()),
            files=tuple((source.filename, _stamp(source.filename)) for source in seen.sources.values()),
        )

    def holds(self) -> bool:
        """Return whether all is as it was; the cheap checks first."""
        for space, name, value in self.names:
            now = space.get(name, ABSENT)
            if now is not value and not _same(now, value):
                return False
        for fn, code, defaults, keyword_defaults in self.functions:
            if fn.__code__ is not code or fn.__defaults__ is not defaults:
                return False
            if fn.__kwdefaults__ is not keyword_defaults:
                return False
        for cell, value in self.cells:
            now = _contents(cell)
            if now is not value and not _same(now, value):
                return False
        for value, digest in self.values:
            if value_digest(value) != digest:
                return False
        return all(_stamp(file) == stamp for file, stamp in self.files)


def _same(now: Any, then: Any) -> bool:
    """Return whether a name bound anew has the same plain value: a cell run again changes nothing."""
    digest = atom_digest(now)
    return digest is not None and digest == atom_digest(then)


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return ABSENT


def _stamp(file: str) -> tuple[int, int] | None:
    try:
        stat = os.stat(file)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size
