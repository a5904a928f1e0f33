"""A function's source as a canonical form: what it does, not how it is written.

Comments, blank lines, positions, quotes, parentheses and docstrings leave no trace; so do the decorators of the
function itself, whose effect is in the objects they return. The serialisation is our own, from class names and
non-empty fields, because ``ast.dump`` differs between Python minors.
"""

from __future__ import annotations
import __future__

import ast
import dis
import functools
import linecache
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Any

from mlfn.codenames import GLOBAL_LOADS, global_names, nested_codes

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Chain = tuple[str, ...]

_SKIPPED_FIELDS = {"ctx", "type_comment", "kind", "type_ignores"}
_FUTURE_FLAGS = functools.reduce(
    int.__or__, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)
# pytest compiles asserts into code that no source has.
_REWRITTEN_BY_PYTEST = "@pytest_ar"


@dataclass(frozen=True)
class Import:
    """An import statement within a function: level, module and the names taken from it."""

    level: int
    module: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Form:
    """A function's own code: its canonical text, and the names by which it reaches further.

    A chain is a name with the attributes read from it: ``helpers.clean`` is ``("helpers", "clean")``.
    """

    origin: str
    text: bytes
    chains: tuple[Chain, ...]
    annotation_chains: tuple[Chain, ...]
    imports: tuple[Import, ...]


@functools.lru_cache(maxsize=4096)
def source_form(code: CodeType, filename: str) -> Form | None:
    """Return the canonical form of a code object's source, or None where there is none that is certainly its own.

    `filename` is part of the key alone: code objects compare equal regardless of their file.
    """
    lines = _lines(filename)
    if not lines:
        return None
    node = _find_node(code, "".join(lines), filename)
    if node is None:
        return None
    annotations = tuple(_annotation_chains(node))
    reachable = set(global_names(code)) | set(code.co_freevars)
    body = node.body if isinstance(node.body, list) else [node.body]
    chains = {chain for chain in _chains(body) if chain[0] in reachable}
    return Form("source", canonical(_bare(node)), _sorted(chains), _sorted(annotations), tuple(_imports(body)))


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


def canonical_module(source: str) -> bytes:
    """Return the canonical form of a whole module."""
    return canonical(ast.parse(source))


def annotation_chains(text: str) -> tuple[Chain, ...]:
    """Return the chains that an annotation written as a string mentions."""
    try:
        return _sorted(set(_chains([ast.parse(text.strip(), mode="eval").body])))
    except (SyntaxError, ValueError):
        return ()


def _sorted(chains: Iterable[Chain]) -> tuple[Chain, ...]:
    return tuple(sorted(set(chains)))


# -- finding the definition --------------------------------------------------------------------------------------------


def _lines(filename: str) -> list[str]:
    linecache.checkcache(filename)
    return linecache.getlines(filename)


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

    A file that was edited since it was imported holds another function under the same name and line: only a
    definition that gives the same instructions is taken. Lines may have moved.
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
    """Return the node, or one of several that say the same; None where they differ."""
    forms = {canonical(_bare(node)) for node in nodes}
    return nodes[0] if len(forms) == 1 else None


def _same_code(a: CodeType, b: CodeType) -> bool:
    """Return whether two code objects do the same, wherever their lines are."""
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
    """Return the definitions that start where `code` does and bear its name."""
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
    if not spans:  # Python 3.10 knows no columns
        return nodes
    start, end = min(s[0] for s in spans), max(s[1] for s in spans)
    holding = [node for node in nodes if _body_span(node)[0] <= start and end <= _body_span(node)[1]]
    return sorted(holding, key=lambda node: _body_span(node)[0], reverse=True)[:1]


def _spans(code: CodeType) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    positions = getattr(code, "co_positions", None)
    for line, end_line, column, end_column in positions() if positions else ():
        # The bookkeeping at a function's start has an empty span.
        if None in (line, end_line, column, end_column) or (line, column) == (end_line, end_column):
            continue
        yield (line, column), (end_line, end_column)


def _body_span(node: Definition) -> tuple[tuple[int, int], tuple[int, int]]:
    body: list[Any] = node.body if isinstance(node.body, list) else [node.body]
    return (body[0].lineno, body[0].col_offset), (body[-1].end_lineno, body[-1].end_col_offset)


# -- canonical form ----------------------------------------------------------------------------------------------------


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
    # A function of which nothing is left does what `pass` does.
    return body[1:] or [ast.Pass()] if _is_docstring(body[0]) else body


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _constant(value: object) -> str:
    # ascii, not repr: what counts as printable differs between Python minors. It escapes what would end a token.
    return ascii(value)


def _bare(node: Definition) -> ast.AST:
    """Return the definition without its own decorators."""
    if isinstance(node, ast.Lambda) or not node.decorator_list:
        return node
    fields = {name: getattr(node, name) for name in node._fields if hasattr(node, name)}
    return type(node)(**{**fields, "decorator_list": []})


# -- names -------------------------------------------------------------------------------------------------------------


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
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
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
