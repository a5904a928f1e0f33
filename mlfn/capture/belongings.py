"""The user's own modules and classes that a value brings along."""

from __future__ import annotations

import functools
import types
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

from mlfn.capture.codehash import raw_function, value_digest, walk
from mlfn.capture.ownership import is_own_module
from mlfn.payload import track_class
from mlfn.payload.culprit import slot_names

# A value is scanned for its classes, not read: these hold none of the user's, or too many values to look at.
_ATOMS = (type(None), bool, int, float, complex, str, bytes, bytearray)
_DATA = ("numpy", "pandas", "torch", "pyarrow", "polars", "scipy")
_BUDGET = 20_000

_modules: weakref.WeakKeyDictionary[type, tuple[str, ...]] = weakref.WeakKeyDictionary()


def own_modules_of(value: Any) -> tuple[str, ...]:
    """Return the own modules whose code a value needs: an argument's, for its payload."""
    found: set[str] = set()
    for item in _reached(value):
        found.update(_modules_of_class(item) if isinstance(item, type) else walk(item).own_modules)
    return tuple(sorted(found))


def track(classes: Iterable[type]) -> None:
    """Give own classes an identity that other processes share.

    A function packed yesterday and an argument packed today by another process bring the same class to the
    worker.
    """
    for cls in classes:
        if cls not in _modules:
            _modules_of_class(cls)


def _modules_of_class(cls: type) -> tuple[str, ...]:
    if cls not in _modules:
        # What a factory makes twice stays two classes, though they say the same.
        if "<locals>" not in cls.__qualname__:
            track_class(cls, f"{cls.__module__}:{cls.__qualname__}:{value_digest(cls).hex()}")
        seen = walk(cls)
        _modules[cls] = tuple(seen.own_modules)
        track(seen.classes)
    return _modules[cls]


def _reached(value: Any) -> Iterator[Any]:
    """Yield the functions and own classes within a value."""
    waiting = [value]
    visited: set[int] = set()
    while waiting and len(visited) < _BUDGET:
        item = waiting.pop()
        if type(item) in _ATOMS or id(item) in visited:
            continue
        visited.add(id(item))
        if (
            isinstance(item, (types.FunctionType, types.MethodType, functools.partial))
            or raw_function(item) is not item
        ):
            yield item
        elif isinstance(item, type):
            yield from _own((item,))
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
    if str(type(item).__module__).partition(".")[0] not in _DATA:
        yield from getattr(item, "__dict__", {}).values()
        yield from _slot_values(item)


def _slot_values(item: Any) -> Iterator[Any]:
    if isinstance(item, (dict, list, tuple, set, frozenset)):
        return
    for name in slot_names(type(item)):
        if hasattr(item, name):
            yield getattr(item, name)
