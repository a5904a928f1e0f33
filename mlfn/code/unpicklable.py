"""The path to the value that pickle refuses, as ``train -> config.logger -> lock``."""

from __future__ import annotations

import functools
import itertools
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from mlfn.code.bundle import FunctionBundle
from mlfn.code.global_names import global_names

Edge = tuple[str, Any]
ATOMS = (type(None), bool, int, float, complex, str, bytes, bytearray)
# What wraps a function without a name of its own in a path, and the attributes that hold what it wraps.
_WRAPPERS = (staticmethod, classmethod, property, functools.cached_property, type(functools.lru_cache(len)))
_WRAPPED = ("__func__", "__wrapped__", "func", "fget", "fset", "fdel")
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
        if isinstance(value, ATOMS) or id(value) in seen or len(seen) >= _TRIES or len(edges) > _DEPTH:
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
    if isinstance(value, FunctionBundle):
        yield ("through", ""), value.function
        yield from _edges("name", value.names.items())
        return
    if isinstance(value, types.ModuleType):
        names = attributes.get(value.__name__, vars(value).keys())
        yield from _edges("attr", ((name, vars(value)[name]) for name in sorted(names) if name in vars(value)))
        return
    if isinstance(value, types.FunctionType):
        yield from _edges("name", _function_children(value))
    elif isinstance(value, types.MethodType):
        yield from _edges("attr", (("__self__", value.__self__), ("__func__", value.__func__)))
    elif isinstance(value, _WRAPPERS):
        parts = (getattr(value, name, None) for name in _WRAPPED)
        yield from ((("through", ""), part) for part in parts if part is not None)
        return
    elif isinstance(value, functools.partial):
        yield ("attr", "func"), value.func
        yield from _edges("item", enumerate(value.args))
        yield from _edges("name", value.keywords.items())
    elif isinstance(value, dict):
        yield from _edges("item", value.items())
    elif isinstance(value, (list, tuple)):
        yield from _edges("item", enumerate(value))
    elif isinstance(value, (set, frozenset)):
        yield from _edges("item", ((item, item) for item in value))
    yield from _edges("attr", _attribute_children(value))
    classes = value.__bases__ if isinstance(value, type) else (type(value),)
    yield from _edges("name", ((cls.__qualname__, cls) for cls in classes))


def _edges(kind: str, children: Iterable[tuple[Any, object]]) -> Iterator[tuple[Edge, object]]:
    return (((kind, label), child) for label, child in list(itertools.islice(children, _ITEMS)))


def _function_children(function: types.FunctionType) -> Iterator[tuple[str, object]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        with suppress(ValueError):  # not assigned yet
            yield name, cell.cell_contents
    for name in sorted(set(global_names(function.__code__))):
        if name in function.__globals__:
            yield name, function.__globals__[name]
    yield from default_values(function).items()


def default_values(function: types.FunctionType) -> dict[str, Any]:
    """Return the defaults of a function by parameter."""
    positional = function.__code__.co_varnames[: function.__code__.co_argcount]
    defaults = function.__defaults__ or ()
    return {**dict(zip(positional[len(positional) - len(defaults) :], defaults)), **(function.__kwdefaults__ or {})}


def _attribute_children(value: object) -> Iterator[tuple[str, object]]:
    namespace = getattr(value, "__dict__", None)
    if isinstance(namespace, Mapping):
        yield from list(namespace.items())
    if not isinstance(value, type):
        yield from ((name, getattr(value, name)) for name in slot_names(type(value)) if hasattr(value, name))


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
