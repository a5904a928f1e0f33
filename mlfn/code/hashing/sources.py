"""The text of the user's own modules that functions import while they run."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Iterator

from mlfn.code.bundle import ModuleSource, locate_module
from mlfn.code.hashing.references import Import, module_imports
from mlfn.code.hashing.syntax import canonical_module
from mlfn.code.ownership import is_own_module


def imported_modules(statement: Import, package: str) -> Iterator[str]:
    """Yield the names of all modules that an import statement may load."""
    base = statement.module
    if statement.level:
        parents = package.split(".")[: len(package.split(".")) - statement.level + 1]
        base = ".".join([*parents, *([statement.module] if statement.module else [])])
    yield from _with_parents(base)
    yield from (f"{base}.{name}" for name in statement.names)


def _with_parents(name: str) -> Iterator[str]:
    pieces = name.split(".")
    yield from (".".join(pieces[: i + 1]) for i in range(len(pieces)))


def own_sources(names: Iterable[str]) -> dict[str, ModuleSource]:
    """Return the text of the own modules among `names`, and of the own modules that these import."""
    found: dict[str, ModuleSource] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found or not name or name.partition(".")[0] in sys.stdlib_module_names:
            continue
        source = locate_module(name) if is_own_module(name) else None
        if source is not None:
            found[name] = source
            package = name if source.is_package else name.rpartition(".")[0]
            waiting += [m for statement in _imports_of(source) for m in imported_modules(statement, package)]
    return found


def _imports_of(source: ModuleSource) -> tuple[Import, ...]:
    try:
        return module_imports(source.source)
    except SyntaxError:  # importing it raises the same, here and in the worker
        return ()


@functools.lru_cache(maxsize=256)
def module_text(source: str) -> bytes:
    """Return the canonical form of a module's text, or the text itself where it is no Python."""
    try:
        return canonical_module(source)
    except SyntaxError:
        return source.encode()
