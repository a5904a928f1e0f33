"""What of a class is the user's: its members and annotations, without what Python and libraries generate."""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from mlfn.capture.ownership import is_own_module

# Set by the interpreter, by abc or by typing: they differ between Python minors or say again what bases and
# members do.
_GENERATED = {"_abc_impl", "_is_protocol", "_is_runtime_protocol", "__annotate_func__", "__annotate__"}
# Options that every Python from 3.10 knows: those of later minors must not change the digest there.
_DATACLASS_OPTIONS = ("init", "repr", "eq", "order", "unsafe_hash", "frozen")
_TELLING_DUNDERS = {"__slots__"}
# Of pydantic's fields, what their author says; up to pydantic 2.9 they were plain members of the class.
_PYDANTIC_FIELDS = ("__pydantic_fields__", "model_fields")
_GENERATED_BY_PYDANTIC = {"model_fields", "model_computed_fields"}
_SAID_OF_A_PYDANTIC_FIELD = [
    "annotation",
    "default",
    "default_factory",
    "alias",
    "alias_priority",
    "validation_alias",
    "serialization_alias",
    "title",
    "description",
    "examples",
    "exclude",
    "discriminator",
    "json_schema_extra",
    "frozen",
    "validate_default",
    "init",
    "init_var",
    "kw_only",
    "repr",
    "metadata",
]
_SAID_OF_AN_ATTRS_FIELD = [
    "validator",
    "init",
    "repr",
    "eq",
    "order",
    "hash",
    "metadata",
    "kw_only",
    "converter",
    "on_setattr",
]
# attrs leaves the source of what it generates where a notebook leaves its cells.
_GENERATED_BY_ATTRS = "<attrs generated"
# The methods that a class has or has not by its options.
_ATTRS_OPTIONS = ("__init__", "__repr__", "__eq__", "__lt__", "__hash__", "__setattr__")
_PLUMBING = (types.GetSetDescriptorType, types.MemberDescriptorType)


@dataclass(frozen=True)
class ClassFacts:
    """A class's members and annotations, and the names of those to watch."""

    members: dict[str, Any]
    annotations: dict[str, Any]
    watched: tuple[str, ...]


def class_facts(cls: type, has_source: Callable[[types.FunctionType], bool]) -> ClassFacts:
    """Return what of a class is written by its author."""
    generated = _is_generated(cls)
    members = {
        name: value
        for name, value in vars(cls).items()
        if _is_authored(cls, name, value) and (not generated or _is_written(value, has_source))
    }
    watched = tuple(members)
    members.update(_declared(cls))
    return ClassFacts(members, annotations_of(cls), watched)


def _is_generated(cls: type) -> bool:
    """Return whether methods of this class come from a generator, and its fields from a declaration."""
    return (
        "__dataclass_fields__" in vars(cls)
        or "__attrs_attrs__" in vars(cls)
        or issubclass(cls, enum.Enum)
        or (issubclass(cls, tuple) and hasattr(cls, "_fields"))
    )


def _is_authored(cls: type, name: str, value: Any) -> bool:
    if name in _GENERATED or isinstance(value, _PLUMBING):
        return False
    if name.startswith("__") and name.endswith("__"):
        fn = function_of(value)
        # What typing puts into a protocol differs between Python minors.
        return name in _TELLING_DUNDERS or (
            isinstance(fn, types.FunctionType) and fn.__globals__.get("__name__") != "typing"
        )
    return not (name in _GENERATED_BY_PYDANTIC and _is_pydantic(cls))


def _is_pydantic(cls: type) -> bool:
    return "__pydantic_decorators__" in vars(cls)


def _is_written(value: Any, has_source: Callable[[types.FunctionType], bool]) -> bool:
    """Return whether a member of a generated class stands in somebody's source."""
    fn = function_of(value)
    if not isinstance(fn, types.FunctionType) or fn.__code__.co_filename.startswith(_GENERATED_BY_ATTRS):
        return False
    return is_own_module(fn.__globals__.get("__name__")) and has_source(fn)


def function_of(value: Any) -> Any:
    """Return the function within a static or class method or a property; anything else as it is."""
    if isinstance(value, (staticmethod, classmethod)):
        return value.__func__
    if isinstance(value, property):
        return value.fget
    return value.func if isinstance(value, functools.cached_property) else value


def _declared(cls: type) -> dict[str, Any]:
    """Return the declaration of a generated class: fields, members, options."""
    if issubclass(cls, enum.Enum):
        return {"members": [(name, member.value) for name, member in cls.__members__.items()]}
    if issubclass(cls, tuple) and (names := getattr(cls, "_fields", None)) is not None:
        return {"fields": names, "field defaults": getattr(cls, "_field_defaults", {})}
    if "__dataclass_fields__" in vars(cls):
        params = vars(cls).get("__dataclass_params__")
        options = [getattr(params, name, None) for name in _DATACLASS_OPTIONS]
        fields: list[Any] = [_field(f) for f in vars(cls)["__dataclass_fields__"].values()]
        return {"options": options, "fields": fields, "class values": _plain(cls)}
    if "__attrs_attrs__" in vars(cls):
        options = [name for name in _ATTRS_OPTIONS if vars(cls).get(name) is not None]
        return {"options": options, "fields": [_attrs_field(field) for field in vars(cls)["__attrs_attrs__"]]}
    if _is_pydantic(cls):
        found: dict[str, Any] = next((vars(cls)[name] for name in _PYDANTIC_FIELDS if name in vars(cls)), {})
        return {"fields": [(name, _said(field, _SAID_OF_A_PYDANTIC_FIELD)) for name, field in found.items()]}
    return {}


def _said(field: Any, names: Iterable[str]) -> dict[str, Any]:
    """Return what a field's author said; what this version of the library does not know was not said."""
    said = {name: getattr(field, name, None) for name in names}
    return {name: value for name, value in said.items() if value is not None}


def _attrs_field(field: Any) -> tuple[Any, ...]:
    default = field.default
    # A class in attrs' older versions, the member of an enum in later ones.
    given: tuple[Any, ...] | None = (default,)
    if repr(default) == "NOTHING":
        given = None
    elif type(default).__name__ == "Factory":
        given = ("factory", default.factory, default.takes_self)
    said = _said(field, _SAID_OF_AN_ATTRS_FIELD)
    # The parameter of __init__; attrs fills it in where its author says nothing.
    alias = getattr(field, "alias", None) or field.name.lstrip("_")
    return (field.name, given, said, alias)


def _field(field: dataclasses.Field[Any]) -> tuple[Any, ...]:
    missing = dataclasses.MISSING
    default = None if field.default is missing else (field.default,)
    factory = None if field.default_factory is missing else (field.default_factory,)
    flags = (field.init, field.repr, field.compare, field.hash, field.kw_only)
    return (field.name, default, factory, flags, dict(field.metadata))


def _plain(cls: type) -> dict[str, Any]:
    """Return a dataclass's class-level values that are no fields."""
    fields = vars(cls)["__dataclass_fields__"]
    return {
        name: value
        for name, value in vars(cls).items()
        if not name.startswith("_")
        and name not in fields
        and not isinstance(value, _PLUMBING)
        and not isinstance(function_of(value), types.FunctionType)
    }


def annotations_of(owner: Any) -> dict[str, Any]:
    """Return the annotations of a class or function; none where they cannot be evaluated."""
    try:
        return dict(inspect.get_annotations(owner))
    except NameError:  # Python 3.14 evaluates late, and a name may be for type checkers alone
        return {}
