"""Finds the definition in a source text that a code object was compiled from."""

from __future__ import annotations
import __future__

import ast
import functools
import linecache
from collections.abc import Iterator
from types import CodeType
from typing import Any

from mlfn.code.global_names import global_names, nested_codes
from mlfn.code.hashing.syntax import Definition, bare, canonical

_FUTURE_FLAGS = functools.reduce(
    int.__or__, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)
# pytest compiles asserts into code that no source has.
_REWRITTEN_BY_PYTEST = "@pytest_ar"


def find_definition(code: CodeType, filename: str) -> Definition | None:
    """Return the definition that `code` was compiled from, or None where it is uncertain."""
    linecache.checkcache(filename)
    lines = linecache.getlines(filename)
    return _find_node(code, "".join(lines), filename) if lines else None


def qualified_name(code: CodeType) -> str:
    """Return a code object's qualified name, which a function made from it may have changed."""
    known: str | None = getattr(code, "co_qualname", None)
    if known is not None:
        return known
    # Python 3.10 stores the last part only.
    tree = _parse("".join(linecache.getlines(code.co_filename)))
    found = _names_at(tree, code.co_firstlineno, "") if tree is not None else ()
    return next((name for name in found if name.rpartition(".")[2] == code.co_name), code.co_name)


def _names_at(node: ast.AST, line: int, prefix: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        within = prefix
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            name = prefix + getattr(child, "name", "<lambda>")
            if _first_line(child) == line:
                yield name
            within = f"{name}.<locals>."
        elif isinstance(child, ast.ClassDef):
            within = f"{prefix}{child.name}."
        yield from _names_at(child, line, within)


@functools.lru_cache(maxsize=64)
def _parse(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None


@functools.lru_cache(maxsize=64)
def _compiled(text: str, filename: str, flags: int) -> tuple[CodeType, ...]:
    try:
        whole = compile(text, filename, "exec", flags=flags, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError):
        return ()
    return tuple(nested_codes(whole))


def _find_node(code: CodeType, text: str, filename: str) -> Definition | None:
    """Return the one definition in `text` that compiles to `code`.

    A file that was edited since it was imported may hold another function under the same name and line, so the definition
    must give the same instructions. Lines may have moved.
    """
    tree = _parse(text)
    if tree is None:
        return None
    if _REWRITTEN_BY_PYTEST in set(global_names(code)):
        return _only(_definitions(tree, code))
    twins = [c for c in _compiled(text, filename, code.co_flags & _FUTURE_FLAGS) if _same_code(c, code)]
    exact = [c for c in twins if c == code]
    found = [node for twin in (exact or twins) for node in _definitions(tree, twin)]
    return _only(found)


def _only(nodes: list[Definition]) -> Definition | None:
    """Return the node, or one of several equal ones; None where they differ."""
    forms = {canonical(bare(node)) for node in nodes}
    return nodes[0] if len(forms) == 1 else None


def _same_code(a: CodeType, b: CodeType) -> bool:
    """Return whether two code objects are equal except for their lines."""
    if (a.co_name, a.co_code, a.co_names, a.co_varnames) != (b.co_name, b.co_code, b.co_names, b.co_varnames):
        return False
    if (a.co_freevars, a.co_cellvars, a.co_flags) != (b.co_freevars, b.co_cellvars, b.co_flags):
        return False
    if len(a.co_consts) != len(b.co_consts):
        return False
    return all(_same_const(x, y) for x, y in zip(a.co_consts, b.co_consts))


def _same_const(x: Any, y: Any) -> bool:
    if isinstance(x, CodeType) and isinstance(y, CodeType):
        return _same_code(x, y)
    # repr tells 1 from True and 0.0 from -0.0, which compare equal; sets have no order to compare by.
    return type(x) is type(y) and (x == y if isinstance(x, frozenset) else repr(x) == repr(y))


def _definitions(tree: ast.Module, code: CodeType) -> list[Definition]:
    """Return the definitions with the first line and the name of `code`."""
    kinds: tuple[type[Any], ...] = (
        (ast.Lambda,) if code.co_name == "<lambda>" else (ast.FunctionDef, ast.AsyncFunctionDef)
    )
    found = [
        node
        for node in _nodes(tree)
        if isinstance(node, kinds)
        and _first_line(node) == code.co_firstlineno
        and getattr(node, "name", "<lambda>") == code.co_name
    ]
    return _innermost(found, code) if len(found) > 1 else found


@functools.lru_cache(maxsize=64)
def _nodes(tree: ast.Module) -> tuple[Definition, ...]:
    return tuple(n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)))


def _first_line(node: Definition) -> int:
    decorators = getattr(node, "decorator_list", [])
    lines: list[int] = [node.lineno, *(d.lineno for d in decorators)]
    return min(lines)


def _innermost(nodes: list[Definition], code: CodeType) -> list[Definition]:
    """Return, of definitions on one line, the smallest whose body holds all instructions of `code`."""
    spans = list(_spans(code))
    if not spans:  # Python 3.10 has no columns
        return nodes
    start, end = min(s[0] for s in spans), max(s[1] for s in spans)
    holding = [node for node in nodes if _body_span(node)[0] <= start and end <= _body_span(node)[1]]
    return sorted(holding, key=lambda node: _body_span(node)[0], reverse=True)[:1]


def _spans(code: CodeType) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    positions = getattr(code, "co_positions", None)
    for line, end_line, column, end_column in positions() if positions else ():
        # The instructions that set a function up have an empty span.
        if None in (line, end_line, column, end_column) or (line, column) == (end_line, end_column):
            continue
        yield (line, column), (end_line, end_column)


def _body_span(node: Definition) -> tuple[tuple[int, int], tuple[int, int]]:
    body: list[Any] = node.body if isinstance(node.body, list) else [node.body]
    return (body[0].lineno, body[0].col_offset), (body[-1].end_lineno, body[-1].end_col_offset)
