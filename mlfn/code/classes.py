"""A class of the user's as a recipe, and the class that another process makes of it.

A class is made without the hooks that ran when its author defined it (``__init_subclass__``, a metaclass, an enum's
``__init__``): what they did to the class is among its members, and what they did elsewhere is done already. Where a class of
the same identity is known, it is that one. This file travels to the worker: it may need the standard library and cloudpickle
only.
"""

from __future__ import annotations

import abc
import copyreg
import enum
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from mlfn.code.bundle import SourceFinder, find_global
from mlfn.code.worker_modules import is_rebuilt

Reduced = tuple[Any, ...]
IsOwn = Callable[[Any], bool]

# Run for each subclass, by Python and by pydantic.
_HOOKS = ("__init_subclass__", "__pydantic_init_subclass__")
# Made anew with the class, or written by Python 3.14 on demand.
_MADE_WITH_CLASS = {"__dict__", "__weakref__", "__annotate_func__", "_abc_impl"}
_MADE_WITH_MEMBER = {"_value_", "_name_", "__objclass__", "_sort_order_", "_inverted_"}
_METHODS = (types.FunctionType, staticmethod, classmethod)

_lock = threading.RLock()
# Classes that have all their members: those that this process packed or rebuilt.
_complete: weakref.WeakSet[type] = weakref.WeakSet()
# By class, the digest of what its author wrote: without what it uses, which a part of its identity is.
_definitions: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()


def reduce_class(cls: type, is_own: IsOwn) -> Reduced:
    """Return a recipe of a class for pickle; `is_own` tells classes that travel as code from installed ones."""
    generic = vars(cls).get("__pydantic_generic_metadata__") or {}
    if generic.get("origin") is not None:
        # A parametrized model is made by its origin, which keeps it: Box[int] stays one class.
        return parametrized, (generic["origin"], tuple(generic["args"]))
    _complete.add(cls)
    metaclass = type(cls)
    makers = tuple(kind for kind in type.mro(metaclass) if issubclass(kind, type) and not is_own(kind))
    hooks = tuple((base, hook) for base in cls.__mro__[1:] for hook in _HOOKS if hook in vars(base) and is_own(base))
    make: Callable[..., type] = make_class
    recipe: Reduced = (
        _identity(cls),
        _definitions.get(cls),
        metaclass,
        makers,
        cls.__name__,
        cls.__bases__,
        _namespace(cls),
        hooks,
    )
    states: dict[str, Any] = {}
    if issubclass(cls, enum.Enum):
        make = make_enum
        members = {name: _member_parts(member) for name, member in cls.__members__.items()}
        recipe = (*recipe, members, vars(cls).get("_boundary_"))
        states = {name: _member_state(member) for name, member in cls.__members__.items() if member.name == name}
    registered = [found for ref in abc._get_dump(cls)[0] if (found := ref())] if _is_abstract(cls) else []  # type: ignore[attr-defined]
    return make, recipe, (makers, _members(cls), registered, states), None, None, complete_class


def parametrized(origin: Any, arguments: tuple[Any, ...]) -> Any:
    """Return ``origin[arguments]``."""
    return origin[arguments if len(arguments) != 1 else arguments[0]]


def _identity(cls: type) -> str:
    return str(_cloudpickle()._get_or_create_tracker_id(cls))


def _namespace(cls: type) -> dict[str, Any]:
    """Return what a class has to be made with, as it cannot be set later."""
    kept = {name: vars(cls)[name] for name in ("__module__", "__slots__", "__orig_bases__") if name in vars(cls)}
    own_dict = vars(cls).get("__dict__")
    return {
        **kept,
        "__qualname__": cls.__qualname__,
        **({"__dict__": own_dict} if isinstance(own_dict, property) else {}),
    }


def _members(cls: type) -> dict[str, Any]:
    made = {*_MADE_WITH_CLASS, "__slots__", "__orig_bases__"}
    # Copies of the names, as cloudpickle takes: whether a string is interned would show in the payload.
    members = {
        "".join(name): value for name, value in vars(cls).items() if name not in made and not _is_slot(cls, value)
    }
    if members.get("__pydantic_complete__"):
        # All that was around its definition, a notebook's whole namespace with some releases: for names yet to be resolved.
        members["__pydantic_parent_namespace__"] = None
    if not issubclass(cls, enum.Enum):
        return members
    # The metaclass writes all names with one underscore but methods.
    return {
        name: value
        for name, value in members.items()
        if name not in cls.__members__ and (not _is_sunder(name) or isinstance(value, _METHODS))
    }


def _is_slot(cls: type, value: Any) -> bool:
    return isinstance(value, types.MemberDescriptorType) and value.__objclass__ is cls


def _is_sunder(name: str) -> bool:
    return name.startswith("_") and name.endswith("_") and not name.startswith("__")


def _is_abstract(cls: type) -> bool:
    return isinstance(cls, abc.ABCMeta)


def _member_parts(member: enum.Enum) -> tuple[tuple[Any, ...], Any]:
    """Return the arguments that make a member as its data type, an int say, and its value."""
    parts = object.__reduce_ex__(member, 2)
    arguments = parts[1][1:] if parts[0] is copyreg.__newobj__ else parts[1]  # type: ignore[attr-defined]
    return tuple(arguments), member._value_


def _member_state(member: enum.Enum) -> dict[str, Any]:
    return {name: value for name, value in vars(member).items() if name not in _MADE_WITH_MEMBER}


# -- making --------------------------------------------------------------------------------------------------


def make_class(
    identity: str,
    definition: str | None,
    metaclass: type,
    makers: tuple[type, ...],
    name: str,
    bases: tuple[type, ...],
    namespace: dict[str, Any],
    hooks: tuple[tuple[type, str], ...],
) -> type:
    """Return the class of this identity; where there is none, a new one that lacks its members."""
    known = _known_class(identity, definition, bases, namespace)
    if known is not None:
        return known
    with _without(hooks):
        return _tracked(identity, definition, _made(metaclass, makers, name, bases, namespace))


def _made(
    metaclass: type, makers: tuple[Any, ...], name: str, bases: tuple[type, ...], namespace: dict[str, Any]
) -> type:
    for maker in makers[:-1]:
        # A library's metaclass may want what its author gave to the class statement: then there is the next one.
        with suppress(Exception):
            cls: type = maker.__new__(metaclass, name, bases, dict(namespace))
            maker.__init__(cls, name, bases, dict(namespace))
            return cls
    return type.__new__(metaclass, name, bases, dict(namespace))


def make_enum(
    identity: str,
    definition: str | None,
    metaclass: type,
    makers: tuple[type, ...],
    name: str,
    bases: tuple[type, ...],
    namespace: dict[str, Any],
    hooks: tuple[tuple[type, str], ...],
    members: Mapping[str, tuple[tuple[Any, ...], Any]],
    boundary: Any,
) -> type:
    """Return the enum of this identity; where there is none, a new one whose members lack their attributes."""
    known = _known_class(identity, definition, bases, namespace)
    if known is not None:
        return known
    prepare = next(vars(maker)["__prepare__"] for maker in makers if "__prepare__" in vars(maker))
    body = prepare.__get__(None, metaclass)(name, bases)
    for key, value in namespace.items():
        body[key] = value
    for key, stand_in in _STAND_INS.items():
        body[key] = stand_in
    for key, parts in members.items():
        body[key] = _MemberParts(*parts)
    more = {} if boundary is None else {"boundary": boundary}
    with _without(hooks):
        return _tracked(identity, definition, makers[0].__new__(metaclass, name, bases, body, **more))


class _MemberParts:
    """Stands for a member in the body of an enum."""

    def __init__(self, arguments: tuple[Any, ...], value: Any) -> None:
        self.arguments = arguments
        self.value = value


def _new_member(cls: Any, *given: Any) -> Any:
    parts = given[0]
    if isinstance(parts, tuple):  # where the data type is a tuple
        parts = parts[0]
    # A ``__new__`` of C takes what ``copy`` would give it; one of the user's ran when the enum was defined.
    make = next(base.__new__ for base in cls._member_type_.__mro__ if isinstance(base.__new__, types.BuiltinMethodType))
    member = make(cls) if make is object.__new__ else make(cls, *parts.arguments)
    member._value_ = parts.value
    return member


def _init_member(self: Any, *given: Any) -> None:
    """Do nothing."""


def _reduce_member(self: Any, protocol: int) -> Any:
    return enum.Enum.__reduce_ex__(self, protocol)


# In the body of an enum, in place of what ran when its author defined it; Python 3.10 asks for ``__reduce_ex__``.
_STAND_INS = {"__new__": _new_member, "__init__": _init_member, "__reduce_ex__": _reduce_member}


def complete_class(cls: type, state: Any) -> None:
    """Set the members of a class that this process made, once."""
    if cls in _complete:
        return
    _complete.add(cls)
    makers, members, registered, states = state
    set_member = makers[0].__setattr__  # not its own metaclass's, which may refuse
    line = members.pop("__firstlineno__", None)
    for name, value in members.items():
        set_member(cls, name, value)
    if line is not None:
        set_member(cls, "__firstlineno__", line)  # last: setting ``__module__`` removes it
    if issubclass(cls, enum.Enum):
        _complete_members(cls, states)
    for subclass in registered:
        abc.ABCMeta.register(cls, subclass)  # type: ignore[arg-type]


def _complete_members(cls: Any, states: Mapping[str, dict[str, Any]]) -> None:
    for name in (*_STAND_INS, "__new_member__", "_new_member_"):
        if vars(cls).get(name) in _STAND_INS.values():
            type.__delattr__(cls, name)
    for name, attributes in states.items():
        vars(cls._member_map_[name]).update(attributes)


@contextmanager
def _without(hooks: tuple[tuple[type, str], ...]) -> Iterator[None]:
    """Make a class in this thread without running these hooks, which ran when its author defined it."""
    with _lock, ExitStack() as stack:
        for base, name in hooks:
            hook = vars(base).get(name)
            if hook is not None:  # else the base lacks its members yet
                type.__setattr__(base, name, classmethod(_quiet(base, name, hook)))
                stack.callback(type.__setattr__, base, name, hook)
        yield


def _quiet(base: type, name: str, hook: Any) -> Callable[..., None]:
    here = threading.get_ident()

    def run(cls: type, **options: Any) -> None:
        if threading.get_ident() != here:
            hook.__get__(None, cls)(**options)
        else:
            getattr(super(base, cls), name)()

    return run


# -- identities ----------------------------------------------------------------------------------------------


def _known_class(
    identity: str, definition: str | None, bases: tuple[type, ...], namespace: Mapping[str, Any]
) -> type | None:
    known = find_class(identity)
    return (
        _defined_class(identity, definition, known) or known or _imported_class(identity, definition, bases, namespace)
    )


def find_class(identity: str) -> type | None:
    """Return the class that this process knows under an identity."""
    found: type | None = getattr(_cloudpickle(), "_DYNAMIC_CLASS_TRACKER_BY_ID", {}).get(identity)
    return found


def _defined_class(identity: str, definition: str | None, known: type | None) -> type | None:
    """Return the class of a module that is loaded here, a script above all, where it has this identity or definition."""
    module, _, rest = identity.partition(":")
    qualname, _, digest = rest.partition(":")
    found: Any = sys.modules.get(module) if digest and not is_rebuilt(module) else None
    for part in qualname.split("."):
        found = vars(found).get(part) if isinstance(found, (type, types.ModuleType)) else None
    if found is known or not isinstance(found, type):
        return known
    from mlfn.code.identities import (
        is_same_class,
    )  # in the user's process alone: a worker's modules are made of what travels

    if not is_same_class(found, identity, definition):
        return None
    with _lock:
        _cloudpickle()._DYNAMIC_CLASS_TRACKER_BY_ID[identity] = found
    _complete.add(found)
    return found


def _imported_class(
    identity: str, definition: str | None, bases: tuple[type, ...], namespace: Mapping[str, Any]
) -> type | None:
    """Return the class that a module defines whose text travelled too: what the function imports while it runs is this one."""
    module, qualname = namespace.get("__module__"), namespace["__qualname__"]
    if module not in SourceFinder.came or "<" in qualname:
        return None
    found: Any = None
    with suppress(Exception, SystemExit):  # what fails here is raised where the function imports the module
        found = find_global(str(module), qualname)
    slots = namespace.get("__slots__")
    if not isinstance(found, type) or found.__bases__ != bases or vars(found).get("__slots__") != slots:
        return None
    return _tracked(identity, definition, found)


def _tracked(identity: str, definition: str | None, cls: type) -> type:
    tracked: type = _cloudpickle()._lookup_class_or_track(identity, cls)
    if definition is not None:
        _definitions[tracked] = definition
    return tracked


def track_class(cls: type, identity: str, definition: str) -> None:
    """Register a class with cloudpickle under `identity`, in place of a random number.

    A class that arrives under a registered identity is the registered one, the latest of several.
    """
    module = _cloudpickle()
    with _lock:
        # Private to cloudpickle: with a release that lacks them only the shared identity is lost.
        by_class = getattr(module, "_DYNAMIC_CLASS_TRACKER_BY_CLASS", None)
        by_id = getattr(module, "_DYNAMIC_CLASS_TRACKER_BY_ID", None)
        if by_class is not None and by_id is not None and cls not in by_class:
            by_class[cls], by_id[identity] = identity, cls
    _definitions[cls] = definition
    _complete.add(cls)  # it is defined here: a copy that arrives sets no member of it


def fill_class(cls: type, state: Any) -> None:
    """Set the members of a class in a payload of mlfn 0.2 and earlier, once."""
    if cls not in _complete:
        _complete.add(cls)
        _cloudpickle()._class_setstate(cls, state)


def _cloudpickle() -> Any:
    import cloudpickle

    return cloudpickle.cloudpickle
