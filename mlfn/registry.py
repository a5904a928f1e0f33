"""The one place where the name of a kind or place becomes a class."""

from __future__ import annotations

import importlib
from dataclasses import fields
from typing import Any

from mlfn.errors import OptionError, UnknownNameError, nearest

_KINDS = {"job": "mlfn.kinds.job:Job"}
_PLACES = {"local": "mlfn.places.local:LocalPlace", "inline": "mlfn.places.inline:InlinePlace"}

# What a place can start while the rest is still being loaded.
_HEAD_STARTS = {"local": "mlfn.worker.launch:launch_spare"}


def head_start(place: str) -> None:
    """Begin what a first run at this place will wait for."""
    if place in _HEAD_STARTS:
        _load(_HEAD_STARTS, place, "place")()


def kind_options(kind: Any) -> tuple[str, Any]:
    """Return (name, options) for a kind's name, or for an instance of its options."""
    if kind is None:
        return kind_options("job")
    if isinstance(kind, str):
        return kind, _load(_KINDS, kind, "kind")()
    for name in _KINDS:
        if isinstance(kind, _load(_KINDS, name, "kind")):
            return name, kind
    raise OptionError(
        f"kind={kind!r} is no kind: a name ({', '.join(_KINDS)}) or its options, as in mlfn.Job(fresh=True), is allowed."
    )


def changed_options(options: Any) -> dict[str, Any]:
    """Return the options of a kind that differ from its defaults: a new option then changes no old hash."""
    plain = type(options)()
    return {
        f.name: getattr(options, f.name) for f in fields(options) if getattr(options, f.name) != getattr(plain, f.name)
    }


def place_class(name: str) -> Any:
    """Return the class of the place called `name`."""
    return _load(_PLACES, name, "place")


def _load(table: dict[str, str], name: str, what: str) -> Any:
    if name not in table:
        raise UnknownNameError(f"No {what} is called {name!r}: {nearest(name, table)}")
    module, _, attribute = table[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
