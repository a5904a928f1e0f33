"""The path to the value that pickle refuses, as ``train -> config.logger -> lock``."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from mlfn.payload.codenames import global_names
from mlfn.payload.parcel import Parcel

Edge = tuple[str, Any]
_ATOMS = (type(None), bool, int, float, complex, str, bytes, bytearray)
_DEPTH = 16
_TRIES = 2000
_ITEMS = 500


def find_culprit(
    obj: object, dump: Callable[[object], bytes], attributes: Mapping[str, Collection[str]]
) -> tuple[tuple[Edge, ...], object] | None:
    """Return the edges to the innermost value that `dump` refuses, and that value.

    `attributes` are those with which a module object travels.
    """
    seen: dict[int, object] = {}

    def visit(value: object, edges: tuple[Edge, ...]) -> tuple[tuple[Edge, ...], object] | None:
        if isinstance(value, _ATOMS) or id(value) in seen or len(seen) >= _TRIES or len(edges) > _DEPTH:
            return None
        seen[id(value)] = value
        if _dumps(value, dump):
            return None
        for edge, child in _children(value, attributes):
            found = visit(child, (*edges, edge))
            if found is not None:
                return found
        return edges, value

    return visit(obj, ())


def _dumps(value: object, dump: Callable[[object], bytes]) -> bool:
    try:
        dump(value)
    except Exception:  # noqa: BLE001 - a user's __reduce__ may raise anything
        return False
    return True


def _children(value: Any, attributes: Mapping[str, Collection[str]]) -> Iterator[tuple[Edge, object]]:
    if isinstance(value, Parcel):
        yield ("through", ""), value.function
        yield from ((("name", name), item) for name, item in value.names.items())
        return
    if isinstance(value, types.ModuleType):
        names = attributes.get(value.__name__, vars(value).keys())
        yield from ((("attr", name), vars(value)[name]) for name in sorted(names) if name in vars(value))
        return
    if isinstance(value, types.FunctionType):
        yield from _function_children(value)
    elif isinstance(value, types.MethodType):
        yield ("attr", "__self__"), value.__self__
        yield ("attr", "__func__"), value.__func__
    elif isinstance(value, functools.partial):
        yield ("attr", "func"), value.func
        yield from ((("item", i), item) for i, item in enumerate(value.args))
        yield from ((("name", k), item) for k, item in value.keywords.items())
    elif isinstance(value, dict):
        yield from ((("item", k), item) for k, item in list(value.items())[:_ITEMS])
    elif isinstance(value, (list, tuple)):
        yield from ((("item", i), item) for i, item in enumerate(value[:_ITEMS]))
    elif isinstance(value, (set, frozenset)):
        yield from ((("item", item), item) for item in list(value)[:_ITEMS])
    yield from _attribute_children(value)


def _function_children(function: types.FunctionType) -> Iterator[tuple[Edge, object]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        try:
            yield ("name", name), cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    for name in sorted(set(global_names(function.__code__))):
        if name in function.__globals__:
            yield ("name", name), function.__globals__[name]
    for i, item in enumerate(function.__defaults__ or ()):
        position = function.__code__.co_argcount - len(function.__defaults__ or ()) + i
        yield ("name", function.__code__.co_varnames[position]), item
    yield from ((("name", name), item) for name, item in (function.__kwdefaults__ or {}).items())


def _attribute_children(value: object) -> Iterator[tuple[Edge, object]]:
    namespace = getattr(value, "__dict__", None)
    if isinstance(namespace, Mapping):
        yield from ((("attr", name), item) for name, item in list(namespace.items())[:_ITEMS])
    if isinstance(value, type):
        return
    for name in slot_names(type(value)):
        if hasattr(value, name):
            yield ("attr", name), getattr(value, name)


def slot_names(cls: type) -> list[str]:
    """Return the names of all slots of a class, its bases' included, in order of definition."""
    names: dict[str, None] = {}
    for base in reversed(cls.__mro__):
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            if name not in ("__dict__", "__weakref__"):
                private = name.startswith("__") and not name.endswith("__")
                names[f"_{base.__name__.lstrip('_')}{name}" if private else name] = None
    return list(names)


def render_path(name: str, edges: Sequence[Edge]) -> str:
    """Write edges as ``train -> config.logger -> lock``: arrows into a function and to the culprit."""
    text = name
    for i, (kind, label) in enumerate(edges):
        if kind == "through":
            continue
        if kind == "item":
            text += f"[{label!r}]"
        elif kind == "name" or i == len(edges) - 1:
            text += f" -> {label}"
        else:
            text += f".{label}"
    return text
