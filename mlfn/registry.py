"""The one place where the name of a kind or place becomes a class."""

from __future__ import annotations

import importlib
from dataclasses import fields
from typing import Any

from mlfn.errors import OptionError, UnknownNameError, nearest

_KINDS = {"job": "mlfn.kinds.job:Job"}
_PLACES = {"local": "mlfn.places.local:LocalPlace", "inline": "mlfn.places.inline:InlinePlace"}

_STRATEGIES = {
    "grid": "mlfn.sweep.grid:Grid",
    "zip": "mlfn.sweep.zipped:Zip",
    "random": "mlfn.sweep.drawn:Random",
    "rows": "mlfn.sweep.rows:Rows",
    "search": "mlfn.sweep.optuna.search:Search",
    "given": "mlfn.sweep.given:Given",
    "ask_tell": "mlfn.sweep.ask_tell:AskTell",
}

# What a place can start while the rest is still being loaded.
_HEAD_STARTS = {"local": "mlfn.worker.launch:launch_early"}


def head_start(place: str) -> None:
    """Begin what first runs at this place will wait for."""
    if place in _HEAD_STARTS:
        _load(_HEAD_STARTS, place, "place")()


def kind_options(kind: Any) -> tuple[str, Any]:
    """Return (name, options) for a kind's name, or for an instance of its options."""
    if kind is None:
        return kind_options("job")
    if isinstance(kind, str):
        return kind, _load(_KINDS, kind, "kind")()
    for name in _KINDS:
        options = _load(_KINDS, name, "kind")
        if isinstance(kind, options):
            return name, kind
        if kind is options:
            raise OptionError(f"kind=mlfn.{kind.__name__} is the class: add (), as in kind=mlfn.{kind.__name__}().")
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


def strategy_class(name: str) -> Any:
    """Return the class of the strategy called `name`; one of a third party is called ``package.module:Class``."""
    return _load({**_STRATEGIES, name: name} if ":" in name else _STRATEGIES, name, "strategy")


def strategy_name(strategy: Any) -> str:
    """Return the name by which `strategy_class` finds a strategy's class again."""
    kind = type(strategy)
    path = f"{kind.__module__}:{kind.__qualname__}"
    return next((name for name, target in _STRATEGIES.items() if target == path), path)


def _load(table: dict[str, str], name: str, what: str) -> Any:
    if name not in table:
        raise UnknownNameError(f"No {what} is called {name!r}: {nearest(name, table)}")
    module, _, attribute = table[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
