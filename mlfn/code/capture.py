"""How a function's code travels: by import path where it is installed, else by value."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from mlfn.code.bundle import FunctionBundle, FunctionReference, ModuleSource, plain_function
from mlfn.code.hashing.function import (
    ABSENT,
    CodeDigest,
    Walk,
    cell_value,
    qualname,
    raw_function,
    signature_namespace,
    value_digest,
    walk,
)
from mlfn.code.hashing.values import atom_digest, is_frozen
from mlfn.code.hints import hinted_types
from mlfn.code.own_modules import own_modules_of, track
from mlfn.code.ownership import is_own_module
from mlfn.code.payload import pack
from mlfn.code.sizes import large_values
from mlfn.errors import UnpicklableError
from mlfn.host.frozen import frozen


@dataclass(frozen=True, eq=False)
class Capture:
    """A function's code at one moment: how it travels, with which modules, and whether it is unchanged since."""

    function: Any
    mode: Literal["import", "value"]
    module: str | None
    qualname: str
    own_modules: tuple[str, ...]
    digest: CodeDigest
    large: tuple[tuple[str, int], ...]
    #: attributes that the code reads, by the own module that travels as an object
    attributes: Mapping[str, tuple[str, ...]] = field(repr=False)
    #: own modules that travel as text, because the code imports them while it runs
    sources: Mapping[str, ModuleSource] = field(repr=False)
    #: what annotations within the code name as text
    hinted: Mapping[str, Any] = field(repr=False)
    _watch: Watch = field(repr=False)
    _payloads: dict[bytes, bytes] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        """Return in a few lines how the code travels."""
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
        """Return whether the function and all that it reaches are unchanged."""
        return self._watch.is_unchanged()

    @property
    def code_files(self) -> list[str]:
        """The names of the files, or notebook cells, that the code of the function and of its helpers is from."""
        return sorted({code.co_filename for _, code, _, _ in self._watch.functions})

    def _pack(self, key: bytes) -> bytes:
        if self.mode == "import":
            reference = FunctionReference(str(self.module), self.qualname)
            return pack(reference, key=key, role="function", qualname=self.qualname)
        names = signature_namespace(self.function)
        if self.hinted:
            with suppress(UnpicklableError):  # what only an annotation names may stay behind
                return self._packed(key, {**self.hinted, **names})
        return self._packed(key, names)

    def _packed(self, key: bytes, names: Mapping[str, Any]) -> bytes:
        is_whole = not names and not self.sources
        return pack(
            self.function if is_whole else FunctionBundle(self.function, names, self.sources),
            key=key,
            role="function",
            qualname=self.qualname,
            by_value=self.own_modules,
            attributes=self.attributes,
        )


def capture(fn: Callable[..., Any]) -> Capture:
    """Return how `fn` travels to a worker; a declared Function by its raw function."""
    raw = raw_function(fn)
    seen = walk(raw)
    module = _installed_module(raw)
    own = module is None
    functions = (found for found, *_ in seen.functions)
    hinted = hinted_types(getattr(plain_function(raw), "__globals__", {}), [*functions, *seen.classes]) if own else {}
    track(seen.classes)
    own_modules = {*seen.own_modules, *own_modules_of(list(hinted.values()))} if own else set()
    return Capture(
        function=raw,
        mode="value" if own else "import",
        module=module or getattr(raw, "__module__", None),
        qualname=qualname(raw),
        own_modules=tuple(sorted(own_modules)),
        digest=seen.digest,
        large=tuple(large_values(seen.values)) if own else (),
        attributes={module: tuple(sorted(names)) for module, names in seen.attributes.items() if names is not None},
        sources=dict(seen.sources),
        hinted=hinted,
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
    # Every access to a class method makes another object of it.
    same = found == raw if isinstance(raw, types.MethodType) else found is raw
    return name if same else None


# -- changes since -------------------------------------------------------------------------------------------


@frozen
class Watch:
    """The names, classes, cells, functions, values and files of a capture as they were.

    The references are strong: a freed object could leave its id to another.
    """

    names: tuple[tuple[Any, str, Any], ...]
    #: classes with the names of their members: one that was added later overrides an inherited one
    classes: tuple[tuple[type, frozenset[str]], ...]
    cells: tuple[tuple[types.CellType, Any], ...]
    functions: tuple[tuple[types.FunctionType, types.CodeType, Any, Any], ...]
    values: tuple[tuple[Any, bytes], ...]
    files: tuple[tuple[str, tuple[int, int] | None], ...]

    @classmethod
    def over(cls, seen: Walk) -> Watch:
        """Return a watch over all that a walk found."""
        names = {(id(space), name): (space, name, value) for space, name, value in seen.names}
        cells = {id(cell): (cell, value) for cell, value in seen.cells}
        # A list, a dict or an instance that was changed in place differs in its digest only.
        mutable = {id(value): value for _, value in seen.values if not is_frozen(value)}
        return cls(
            names=tuple(names.values()),
            classes=tuple((found, frozenset(vars(found))) for found in seen.classes),
            cells=tuple(cells.values()),
            functions=tuple(seen.functions),
            values=tuple((value, value_digest(value)) for value in mutable.values()),
            files=tuple((source.filename, _stamp(source.filename)) for source in seen.sources.values()),
        )

    def is_unchanged(self) -> bool:
        """Return whether nothing has changed; the cheap checks come first."""
        for space, name, value in self.names:
            now = space.get(name, ABSENT)
            if now is not value and not _same(now, value):
                return False
        if any(vars(found).keys() != names for found, names in self.classes):
            return False
        for fn, code, defaults, kwdefaults in self.functions:
            if fn.__code__ is not code or fn.__defaults__ is not defaults or fn.__kwdefaults__ is not kwdefaults:
                return False
        for cell, value in self.cells:
            now = cell_value(cell)
            if now is not value and not _same(now, value):
                return False
        if any(value_digest(value) != digest for value, digest in self.values):
            return False
        return all(_stamp(file) == stamp for file, stamp in self.files)


def _same(now: Any, then: Any) -> bool:
    """Return whether a rebound name has an equal plain value: running a notebook cell again changes nothing."""
    digest = atom_digest(now)
    return digest is not None and digest == atom_digest(then)


def _stamp(file: str) -> tuple[int, int] | None:
    try:
        stat = os.stat(file)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size
