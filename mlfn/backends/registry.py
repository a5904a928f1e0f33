"""Kinds, places and strategies by name, as classes; which there are stands in `mlfn.settings.members`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from mlfn.backends.kinds.base import Kind, Launch
from mlfn.backends.places.base import Capabilities, LogRequest
from mlfn.errors import OptionError
from mlfn.settings import members
from mlfn.spec.plan import Plan

# Started while the rest is still being loaded.
_HEAD_STARTS = {"local": "mlfn.backends.places.local.fork_server:launch_early"}


# Their logs are files of the data folder: known without loading them.
_LOGS_IN_FOLDER = frozenset({"local", "inline"})


def head_start(place: str) -> None:
    """Start what first runs at this place will wait for."""
    if place in _HEAD_STARTS:
        members.load_target("place", place, _HEAD_STARTS[place])()


def kind_options(kind: Any) -> tuple[str, Any]:
    """Return (name, options) for a kind's name, or for an instance of its options; imports no other kind."""
    if kind is None or isinstance(kind, str):
        return kind or "job", members.load("kind", kind or "job")()
    is_class = isinstance(kind, type)
    target = _target_of(kind if is_class else type(kind))
    known = members.targets("kind")
    name = next((name for name, of in known.items() if of == target), None)
    if name is None:
        raise OptionError(
            f"kind={kind!r} is no kind: a name ({', '.join(sorted(known))}) or its options, as in mlfn.Job(fresh=True), is "
            "allowed."
        )
    if is_class:
        shown = f"mlfn.{kind.__name__}" if kind.__module__.startswith("mlfn.") else kind.__name__
        raise OptionError(f"kind={shown} is the class: add (), as in kind={shown}().")
    return name, kind


def changed_options(options: Any) -> dict[str, Any]:
    """Return the options of a kind that differ from its defaults: a new option then changes no old hash."""
    plain = type(options)()
    return {
        f.name: getattr(options, f.name) for f in fields(options) if getattr(options, f.name) != getattr(plain, f.name)
    }


def launch_of(plan: Plan) -> Launch:
    """Return what a plan's kind asks its place to create; OptionError for what it cannot have there."""
    kind: Kind = members.load("kind", plan.kind.name)(**plan.kind.options)
    return kind.launch(plan, capabilities(plan.place.name))


@functools.cache
def place_class(name: str) -> Any:
    """Return the class of the place called `name`."""
    return members.load("place", name)


def log_reader(place: str) -> Callable[[LogRequest, int], bytes] | None:
    """Return what reads logs at the place called `place`; None where all of them are files of the data folder."""
    return None if place in _LOGS_IN_FOLDER else place_class(place).read_log


@functools.cache
def capabilities(place: str) -> Capabilities:
    """Return what the place called `place` can."""
    found: Capabilities = place_class(place).CAPABILITIES
    return found


def strategy_class(name: str) -> Any:
    """Return the class of the strategy called `name`, or at ``package.module:Class`` where it has no name."""
    return members.load_target("strategy", name, name) if ":" in name else members.load("strategy", name)


def strategy_name(strategy: Any) -> str:
    """Return the name by which `strategy_class` finds a strategy's class again."""
    path = _target_of(type(strategy))
    return next((name for name, target in members.targets("strategy").items() if target == path), path)


def _target_of(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"
