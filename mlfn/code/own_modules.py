"""The user's own modules and classes that must travel with a value."""

from __future__ import annotations

import functools
import types
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

from mlfn.code.classes import track_class
from mlfn.code.hashing.function import definition_digest, raw_function, walk
from mlfn.code.identities import identity_of
from mlfn.code.ownership import is_own_module
from mlfn.code.sizes import DATA_LIBRARIES
from mlfn.code.unpicklable import ATOMS, slot_names

_BUDGET = 20_000

_modules: weakref.WeakKeyDictionary[type, tuple[str, ...]] = weakref.WeakKeyDictionary()


def own_modules_of(value: Any) -> tuple[str, ...]:
    """Return the own modules whose code a value needs."""
    found: set[str] = set()
    for item in _reached(value):
        found.update(_modules_of_class(item) if isinstance(item, type) else walk(item).own_modules)
    return tuple(sorted(found))


def track(classes: Iterable[type]) -> None:
    """Give own classes an identity that other processes share.

    A function and an argument that two processes packed then bring the same class to the worker.
    """
    for cls in classes:
        if cls not in _modules:
            _modules_of_class(cls)


def _modules_of_class(cls: type) -> tuple[str, ...]:
    if cls not in _modules:
        # Two classes that a factory makes stay two, though their digests are equal.
        if "<locals>" not in cls.__qualname__:
            track_class(cls, identity_of(cls), definition_digest(cls).hex())
        seen = walk(cls)
        _modules[cls] = tuple(seen.own_modules)
        track(seen.classes)
    return _modules[cls]


def _reached(value: Any) -> Iterator[Any]:
    """Yield the functions, own classes and own modules within a value."""
    waiting = [value]
    visited: set[int] = set()
    while waiting and len(visited) < _BUDGET:
        item = waiting.pop()
        if type(item) in ATOMS or id(item) in visited:
            continue
        visited.add(id(item))
        if (
            isinstance(item, (types.FunctionType, types.MethodType, functools.partial))
            or raw_function(item) is not item
        ):
            yield item
        elif isinstance(item, type):
            yield from _own((item,))
        elif isinstance(item, types.ModuleType):
            if is_own_module(item):
                yield item
        else:
            yield from _own(type(item).__mro__)
            waiting.extend(_parts(item))


def _own(classes: Iterable[type]) -> Iterator[type]:
    return (cls for cls in classes if isinstance(cls.__module__, str) and is_own_module(cls.__module__))


def _parts(item: Any) -> Iterator[Any]:
    if isinstance(item, dict):
        yield from item.keys()
        yield from item.values()
    elif isinstance(item, (list, tuple, set, frozenset)):
        yield from item
    # An array or a frame has no class of the user's, and too many values to scan.
    if str(type(item).__module__).partition(".")[0] not in DATA_LIBRARIES:
        yield from getattr(item, "__dict__", {}).values()
        if not isinstance(item, (dict, list, tuple, set, frozenset)):
            yield from (getattr(item, name) for name in slot_names(type(item)) if hasattr(item, name))
