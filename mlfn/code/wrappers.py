"""Objects of the standard library that wrap the user's functions and types, and that pickle takes by name alone or not at all.

A cache travels empty. This file travels to the worker: it may need the standard library only.
"""

from __future__ import annotations

import contextvars
import dataclasses
import functools
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from mlfn.code.bundle import find_global

Reduced = tuple[Any, ...]
#: whether a worker finds an object under its module and this name
IsNamed = Callable[[Any, str], bool]

_LRU_CACHE = type(functools.lru_cache(len))
_SINGLEDISPATCH_CODE = functools.singledispatch(len).__code__  # type: ignore[attr-defined]
# Known by what they are, which pickle would take for what they are like.
_SENTINELS = {type(vars(dataclasses)[name]): name for name in ("MISSING", "KW_ONLY", "_HAS_DEFAULT_FACTORY")}
_DESCRIPTORS = (functools.cached_property, functools.singledispatchmethod)
# A lock up to Python 3.11, and what Python 3.13 knows of the instances.
_CACHES = {"lock", "_method_cache", "_all_weakrefable_instances"}
_WRITTEN_BY_FUNCTOOLS = {
    *functools.WRAPPER_ASSIGNMENTS,
    *("__wrapped__", "cache_parameters", "register", "dispatch", "registry", "_clear_cache"),
}


def reduce_wrapper(obj: Any, is_named: IsNamed) -> Reduced | None:
    """Return a recipe for pickle of an object that pickle cannot take, or takes by a name that no worker knows; else None."""
    if isinstance(obj, _DESCRIPTORS):
        return make_descriptor, (type(obj),), {key: value for key, value in vars(obj).items() if key not in _CACHES}
    kind = type(obj)
    if kind is contextvars.ContextVar:  # without a value: that is of a context
        return _reduce_context_var(obj, is_named)
    if kind in _SENTINELS:
        return find_global, ("dataclasses", _SENTINELS[kind])
    reduce = _BY_NAME.get(kind)
    if reduce is None and kind.__module__ == "typing_extensions":
        reduce = _EXTENSIONS.get(kind.__name__)
    if reduce is None and isinstance(obj, types.FunctionType) and obj.__code__ is _SINGLEDISPATCH_CODE:
        reduce = _reduce_singledispatch
    if reduce is None or is_named(obj, getattr(obj, "__qualname__", None) or obj.__name__):
        return None
    return reduce(obj)


def _reduce_context_var(found: Any, is_named: IsNamed) -> Reduced:
    # It does not know its module; a copy of a library's would be another variable than the library's own.
    for module in [module for name, module in list(sys.modules.items()) if name != "__main__"]:
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is found and is_named(found, name):
                return find_global, (module.__name__, name)
    return make_context_var, (found.name, *default_of(found))


def default_of(variable: contextvars.ContextVar[Any]) -> tuple[Any, ...]:
    """Return a context variable's default, if it has one."""
    try:
        return (contextvars.Context().run(variable.get),)
    except LookupError:
        return ()


def make_context_var(name: str, *default: Any) -> contextvars.ContextVar[Any]:
    """Return a context variable, with the default if one is given."""
    return contextvars.ContextVar(name, default=default[0]) if default else contextvars.ContextVar(name)


# -- functions -----------------------------------------------------------------------------------------------


def _reduce_cache(cached: Any) -> Reduced:
    return make_cache, (cached.__wrapped__, cached.cache_parameters()), _set_attributes(cached)


def make_cache(function: Any, parameters: Mapping[str, Any]) -> Any:
    """Return a function with an empty cache."""
    return functools.lru_cache(**parameters)(function)


def _reduce_singledispatch(function: Any) -> Reduced:
    registry = dict(function.registry)
    implementations = {cls: fn for cls, fn in registry.items() if cls is not object}
    attributes = _set_attributes(function)
    state = (implementations, attributes)
    return make_singledispatch, (registry[object],), state, None, None, register_all


def make_singledispatch(function: Any) -> Any:
    """Return a generic function with its default implementation alone."""
    return functools.singledispatch(function)


def register_all(function: Any, state: tuple[Mapping[type, Any], dict[str, Any]]) -> None:
    """Register the implementations of a generic function, and set its attributes."""
    implementations, attributes = state
    for cls, implementation in implementations.items():
        function.register(cls, implementation)
    vars(function).update(attributes)


def _set_attributes(wrapper: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(wrapper).items() if name not in _WRITTEN_BY_FUNCTOOLS}


def make_descriptor(kind: type) -> Any:
    """Return a descriptor without its function, and with empty caches."""
    made: Any = object.__new__(kind)
    empty = next(base for base in _DESCRIPTORS if issubclass(kind, base))(_no_function)
    vars(made).update({key: value for key, value in vars(empty).items() if key in _CACHES})
    return made


def _no_function(_: Any) -> None:
    """Do nothing."""


# -- types ---------------------------------------------------------------------------------------------------


def _reduce_new_type(found: Any) -> Reduced:
    return make_new_type, (found.__qualname__, found.__supertype__, found.__module__)


def make_new_type(qualname: str, supertype: Any, module: str) -> Any:
    """Return a NewType."""
    new_type: Any = typing.NewType
    made = new_type(qualname, supertype)
    made.__module__ = module
    return made


def _reduce_type_parameter(found: Any) -> Reduced:
    options = {key: getattr(found, f"__{key}__", None) for key in ("bound", "covariant", "contravariant")}
    given = {key: value for key, value in options.items() if value}
    if getattr(found, "__infer_variance__", False):
        given = {key: value for key, value in given.items() if key == "bound"}
    return make_type_parameter, (type(found), found.__name__, given, found.__module__)


def make_type_parameter(kind: Any, name: str, options: dict[str, Any], module: str) -> Any:
    """Return a ParamSpec or TypeVarTuple."""
    made = kind(name, **options)
    made.__module__ = module
    return made


# Python 3.10 has them from typing_extensions alone.
_EXTENSIONS: dict[str, Callable[[Any], Reduced]] = {
    "NewType": _reduce_new_type,
    **dict.fromkeys(("ParamSpec", "TypeVarTuple"), _reduce_type_parameter),
}
_BY_NAME: dict[type, Callable[[Any], Reduced]] = {
    _LRU_CACHE: _reduce_cache,
    typing.NewType: _reduce_new_type,
    typing.ParamSpec: _reduce_type_parameter,
    getattr(typing, "TypeVarTuple", typing.ParamSpec): _reduce_type_parameter,  # since Python 3.11
}
