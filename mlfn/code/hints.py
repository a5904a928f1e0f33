"""The classes and types that annotations written as text name: `typing.get_type_hints`, and what builds on it, asks for them in a run."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mlfn.code.hashing.classes import annotations_of
from mlfn.code.hashing.references import annotation_chains

_TYPES = (type, typing.NewType, typing.TypeVar, types.UnionType)


def hinted_types(namespace: Mapping[str, Any], owners: Iterable[Any]) -> dict[str, Any]:
    """Return by name the types of a module that its functions and classes among `owners` name, and what these types name."""
    module = namespace.get("__name__")
    waiting = [owner for owner in owners if _module_of(owner) == module]
    found: dict[str, Any] = {}
    while waiting:
        for name in _names(waiting.pop()):
            value = namespace.get(name)
            if name in found or not (isinstance(value, _TYPES) or typing.get_origin(value) is not None):
                continue
            found[name] = value
            if isinstance(value, type) and _module_of(value) == module:
                waiting += [value, *(item for item in vars(value).values() if isinstance(item, types.FunctionType))]
    return found


def _module_of(owner: Any) -> Any:
    return getattr(owner, "__module__", None)


def _names(owner: Any) -> Iterator[str]:
    for annotation in annotations_of(owner).values():
        if isinstance(annotation, str):
            yield from (chain[0] for chain in annotation_chains(annotation))
