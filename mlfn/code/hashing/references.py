"""A function's own code, and the names and imports by which it uses other code."""

from __future__ import annotations

import ast
import dis
import functools
from collections.abc import Iterable, Iterator
from types import CodeType
from typing import Any

from mlfn.code.global_names import GLOBAL_LOADS, global_names, nested_codes
from mlfn.code.hashing.definitions import find_definition
from mlfn.code.hashing.syntax import Definition, bare, canonical
from mlfn.host.frozen import frozen

Chain = tuple[str, ...]


@frozen
class Import:
    """An import statement within a function: level, module and the names taken from it."""

    level: int
    module: str
    names: tuple[str, ...] = ()


@frozen
class Form:
    """A function's own code: its canonical text, and the names and imports in it.

    A chain is a name with the attributes read from it: ``helpers.clean`` is ``("helpers", "clean")``.
    """

    origin: str
    text: bytes
    chains: tuple[Chain, ...]
    annotation_chains: tuple[Chain, ...]
    imports: tuple[Import, ...]


@functools.lru_cache(maxsize=4096)
def source_form(code: CodeType, filename: str) -> Form | None:
    """Return the form of a code object's source, or None where the source is missing or uncertain.

    `filename` is part of the key alone: code objects compare equal regardless of their file.
    """
    node = find_definition(code, filename)
    if node is None:
        return None
    annotations = tuple(_annotation_chains(node))
    reachable = set(global_names(code)) | set(code.co_freevars)
    body = node.body if isinstance(node.body, list) else [node.body]
    chains = {chain for chain in _chains(body) if chain[0] in reachable}
    return Form("source", canonical(bare(node)), _sorted(chains), _sorted(annotations), tuple(_imports(body)))


def bytecode_references(code: CodeType) -> tuple[tuple[Chain, ...], tuple[Import, ...]]:
    """Return the chains and imports of a code object that has no source."""
    chains: set[Chain] = set()
    imports: list[Import] = []
    for nested in nested_codes(code):
        instructions = list(dis.get_instructions(nested))
        for i, instruction in enumerate(instructions):
            if instruction.opname in GLOBAL_LOADS or instruction.opname in _CELL_LOADS:
                chains.add(_bytecode_chain(instructions, i))
            elif instruction.opname == "IMPORT_NAME":
                level, names = instructions[i - 2].argval, instructions[i - 1].argval
                imports.append(Import(level or 0, instruction.argval, tuple(names or ())))
    reachable = set(global_names(code)) | set(code.co_freevars)
    return _sorted(chain for chain in chains if chain[0] in reachable), tuple(imports)


_CELL_LOADS = {"LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"}


def _bytecode_chain(instructions: list[dis.Instruction], start: int) -> Chain:
    chain = [instructions[start].argval]
    for instruction in instructions[start + 1 :]:
        if instruction.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
            break
        chain.append(instruction.argval)
    return tuple(chain)


def module_imports(source: str) -> tuple[Import, ...]:
    """Return every import statement of a module's text."""
    return tuple(_imports([ast.parse(source)]))


def annotation_chains(text: str) -> tuple[Chain, ...]:
    """Return the chains that an annotation written as a string mentions."""
    try:
        return _sorted(set(_chains([ast.parse(text.strip(), mode="eval").body])))
    except (SyntaxError, ValueError):
        return ()


def _sorted(chains: Iterable[Chain]) -> tuple[Chain, ...]:
    return tuple(sorted(set(chains)))


def _chains(nodes: list[Any]) -> Iterator[Chain]:
    """Yield every name read, with the attributes read from it."""
    for node in nodes:
        chain = _chain(node)
        if chain is not None:
            yield chain
        else:
            yield from _chains(list(ast.iter_child_nodes(node)))


def _chain(node: ast.AST) -> Chain | None:
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        return (node.id, *reversed(attributes))
    return None


def _annotation_chains(node: Definition) -> Iterator[Chain]:
    arguments = node.args
    every = [
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        arguments.vararg,
        arguments.kwarg,
    ]
    annotations: list[Any] = [a.annotation for a in every if a is not None and a.annotation is not None]
    if not isinstance(node, ast.Lambda) and node.returns is not None:
        annotations.append(node.returns)
    for annotation in annotations:
        yield from _chains([annotation])
        for quoted in ast.walk(annotation):
            if isinstance(quoted, ast.Constant) and isinstance(quoted.value, str):
                yield from annotation_chains(quoted.value)


def _imports(nodes: list[Any]) -> Iterator[Import]:
    for root in nodes:
        for node in ast.walk(root):
            if isinstance(node, ast.Import):
                yield from (Import(0, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield Import(node.level, node.module or "", tuple(alias.name for alias in node.names))
