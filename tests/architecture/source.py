"""Read the package's source as syntax trees: what each module imports, and where."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "mlfn"


@dataclass(frozen=True)
class Module:
    """One source file of a package."""

    name: str
    path: Path
    is_package: bool
    tree: ast.Module

    @property
    def room(self) -> str:
        """What lies directly in the package: `store` for `mlfn.store.sql`, "" for the package itself."""
        return self.name.partition(".")[2].partition(".")[0]


@dataclass(frozen=True)
class Import:
    """One imported name; `deferred` when it happens inside a function, `base` what it was imported from."""

    target: str
    line: int
    deferred: bool
    base: str = ""
    for_types: bool = False


@cache
def modules(package: Path = PACKAGE) -> tuple[Module, ...]:
    """Read every module below a package's folder."""
    return tuple(_read(path, package) for path in sorted(package.rglob("*.py")))


def _read(path: Path, package: Path) -> Module:
    parts = path.relative_to(package.parent).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    name = ".".join(parts[:-1] if is_package else parts)
    return Module(name, path, is_package, ast.parse(path.read_text(encoding="utf-8"), str(path)))


def imports(module: Module) -> Iterator[Import]:
    """Yield what a module imports when it runs: what stands in a TYPE_CHECKING block does not."""
    yield from (item for item in all_imports(module) if not item.for_types)


def all_imports(module: Module) -> Iterator[Import]:
    """Yield what a module imports, for types alone as well."""
    yield from _imports_below(module.tree, module, deferred=False, for_types=False)


def _imports_below(node: ast.AST, module: Module, *, deferred: bool, for_types: bool) -> Iterator[Import]:
    for child, guarded in _children(node):
        typed = guarded or for_types
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, deferred, for_types=typed) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = _absolute(child, module)
            # `from a import b` is a.b where b is a module, and a where it is not: the reader decides.
            yield from (Import(f"{base}.{a.name}", child.lineno, deferred, base, for_types=typed) for a in child.names)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports_below(child, module, deferred=deferred or inside, for_types=typed)


def _children(node: ast.AST) -> Iterator[tuple[ast.AST, bool]]:
    """Yield a node's children, and whether each stands there for a type checker alone."""
    guarded = set(map(id, node.body)) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) else ()
    yield from ((child, id(child) in guarded) for child in ast.iter_child_nodes(node))


def _absolute(node: ast.ImportFrom, module: Module) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    # One dot is the module's own package, which is itself for an __init__.
    kept = parts[: len(parts) - node.level + module.is_package]
    return ".".join([*kept, *([node.module] if node.module else [])])


def edges(package: Path = PACKAGE) -> Iterator[tuple[Module, Module, Import]]:
    """Yield (importer, imported, import) for the imports that stay within a package, those for types alone too."""
    known = {module.name: module for module in modules(package)}
    for module in known.values():
        for item in all_imports(module):
            target = _nearest_known(item.target, known)
            if target and target is not module:
                yield module, target, item
            package_asked = known.get(item.base)
            # `from mlfn.cli import exits` asks the package for it, and so needs what its __init__ needs. But for the
            # package that holds all the others.
            if package_asked and package_asked.room and package_asked is not target and package_asked is not module:
                yield module, package_asked, item


def _nearest_known(target: str, known: dict[str, Module]) -> Module | None:
    while target and target not in known:
        target = target.rpartition(".")[0]
    return known.get(target)
