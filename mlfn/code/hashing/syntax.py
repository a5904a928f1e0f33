"""Source in a canonical form, without what does not change its behaviour.

Comments, blank lines, positions, quotes, parentheses and docstrings leave no trace. The serialisation is our
own, from class names and non-empty fields, because ``ast.dump`` differs between Python minors.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

_SKIPPED_FIELDS = {"ctx", "type_comment", "kind", "type_ignores"}


def canonical_module(source: str) -> bytes:
    """Return the canonical form of a whole module."""
    return canonical(ast.parse(source))


def canonical(node: ast.AST) -> bytes:
    """Return a node as text: class names and non-empty fields, without docstrings and positions."""
    return "".join(_tokens(node)).encode("utf-8", "surrogatepass")


def _tokens(value: object) -> Iterator[str]:
    if isinstance(value, ast.AST):
        yield f"{type(value).__name__}("
        for name in value._fields:
            yield from _field_tokens(value, name)
        yield ")"
    elif isinstance(value, list):
        yield "["
        for item in value:
            yield from _tokens(item)
            yield ","
        yield "]"
    else:
        yield f"{type(value).__name__}:{_constant(value)}"


def _field_tokens(node: ast.AST, name: str) -> Iterator[str]:
    value = getattr(node, name, None)
    is_constant = name == "value" and isinstance(node, (ast.Constant, ast.MatchSingleton))
    if name in _SKIPPED_FIELDS or (not is_constant and (value is None or value == [])):
        return
    if name == "body" and isinstance(value, list):
        value = _without_docstring(node, value)
    if isinstance(node, ast.JoinedStr):
        # Python 3.12 ends a format spec with an empty string.
        value = [part for part in node.values if not (isinstance(part, ast.Constant) and part.value == "")]
    yield f"{name}="
    yield from _tokens(value)
    yield ";"


def _without_docstring(node: ast.AST, body: list[ast.stmt]) -> list[ast.stmt]:
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)):
        return body
    # A function with only a docstring equals one with `pass`.
    return body[1:] or [ast.Pass()] if _is_docstring(body[0]) else body


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _constant(value: object) -> str:
    # ascii, not repr: printable characters differ between Python minors. It also escapes the characters that end a token.
    return ascii(value)


def bare(node: Definition) -> ast.AST:
    """Return a definition without its own decorators."""
    if isinstance(node, ast.Lambda) or not node.decorator_list:
        return node
    undecorated = copy.copy(node)
    undecorated.decorator_list = []
    return undecorated
