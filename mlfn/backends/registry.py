"""Kinds, places, engines and strategies by name, as classes; which there are stands in `mlfn.settings.members`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from mlfn.backends.kinds.base import Command, Kind, Launch, Manifest
from mlfn.backends.places.base import Capabilities, LogRequest
from mlfn.errors import OptionError
from mlfn.settings import members
from mlfn.spec.plan import Plan, Selected

# Started while the rest is still being loaded.
_HEAD_STARTS = {"local": "mlfn.backends.places.local.fork_server:launch_early"}


# Their logs are files of the data folder: known without loading them.
_LOGS_IN_FOLDER = frozenset({"local", "inline", "dask"})


def head_start(engine: str) -> None:
    """Start what first runs at this place, or engine, will wait for."""
    if engine in _HEAD_STARTS:
        members.load_target("place", engine, _HEAD_STARTS[engine])()


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
    changed = {f.name: getattr(options, f.name) for f in fields(options)}
    return {name: _json(value) for name, value in changed.items() if value != getattr(plain, name)}


def _json(value: Any) -> Any:
    """Return the value of an option as a spec holds it: what has a JSON of its own, such as a trigger, as that."""
    if isinstance(value, (list, tuple)):
        return [_json(item) for item in value]
    return value.to_json() if hasattr(value, "to_json") else value


def injected_by(kind: Any) -> Mapping[str, str]:
    """Return what a kind supplies to handlers, as its INJECTS says it; of a kind as `kind_options` takes it."""
    injects: Mapping[str, str] = {} if kind is None else getattr(kind_options(kind)[1], "INJECTS", {})
    return injects


def check_machine(plan: Plan, environ: Mapping[str, str]) -> None:
    """Raise MlfnError where this machine lacks what runs of a plan's kind need."""
    check = getattr(members.load("kind", plan.kind.name)(**plan.kind.options), "check_machine", None)
    if check is not None:
        check(environ)


def launch_of(plan: Plan) -> Launch:
    """Return what a plan's kind asks its place to create; OptionError for what it cannot have there."""
    kind: Kind = members.load("kind", plan.kind.name)(**plan.kind.options)
    return kind.launch(plan, capabilities(engine_of(plan).name))


def engine_of(plan: Plan) -> Selected:
    """Return what holds a plan's executions: the place that the user chose, or the engine that its kind names for that.

    An engine is made with the options of the place and those of the kind.

    Raises:
        OptionError: the kind does not run at this place.

    """
    return _engine(plan.kind, plan.place)


def declared_engine(kind: Any, place: Selected) -> Selected:
    """Return what `engine_of` will return for a declared kind, before there is a plan."""
    name, options = kind_options(kind)
    return _engine(Selected(name, changed_options(options)), place)


def _engine(kind: Selected, place: Selected) -> Selected:
    name = engine_name(kind.name, place.name)
    return place if name == place.name else Selected(name, {**place.options, **kind.options})


@functools.cache
def engine_name(kind: str, place: str) -> str:
    """Return the name of what holds the executions of a kind at a place."""
    engines: Mapping[str, str] | None = getattr(members.load("kind", kind), "ENGINES", None)
    if engines is None:
        return place
    if place not in engines:
        places = " or ".join(f"on={name!r}" for name in sorted(engines))
        raise OptionError(f"kind={kind!r} does not run on={place!r}: {places} is allowed.")
    return engines[place]


def ranks_of(plan: Plan) -> int:
    """Return in how many processes side by side a run of the plan calls its handler."""
    launch = launch_of(plan)
    command = launch.command if isinstance(launch, Manifest) else launch
    return command.ranks if isinstance(command, Command) else 1


@functools.cache
def place_class(name: str) -> Any:
    """Return the class of the place that users call `name`."""
    return members.load("place", name)


@functools.cache
def host_class(place: str) -> Any:
    """Return the class of what deploys services at a place; OptionError where nothing does."""
    known = members.targets("host")
    if place not in known:
        places = " or ".join(f"on={name!r}" for name in sorted(known))
        raise OptionError(f"on={place!r} has no services: {places} is allowed.")
    return members.load("host", place)


@functools.cache
def engine_class(name: str) -> Any:
    """Return the class of what holds executions under this name, as `engine_of` and the store have it."""
    is_place = name in members.BUILT_IN["place"] or name not in members.targets("engine")
    return place_class(name) if is_place else members.load("engine", name)


def log_reader(engine: str) -> Callable[[LogRequest, int], bytes] | None:
    """Return what reads logs at this place or engine; None where all of them are files of the data folder."""
    return None if engine in _LOGS_IN_FOLDER else engine_class(engine).read_log


@functools.cache
def capabilities(engine: str) -> Capabilities:
    """Return what the place or the engine of this name can."""
    found: Capabilities = engine_class(engine).CAPABILITIES
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
