"""A class as its author wrote it: members and annotations, without those that Python and libraries generate."""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import types
from collections.abc import Callable, Iterable
from typing import Any

from mlfn.code.ownership import is_own_module
from mlfn.host.frozen import frozen

# Set by the interpreter, by abc or by typing: they differ between Python minors, or repeat bases and members.
_GENERATED = {"_abc_impl", "_is_protocol", "_is_runtime_protocol", "__annotate_func__", "__annotate__"}
# The options of Python 3.10: those of later minors must not change the digest.
_DATACLASS_OPTIONS = ("init", "repr", "eq", "order", "unsafe_hash", "frozen")
_HASHED_DUNDERS = {"__slots__"}
# Up to pydantic 2.9 fields are plain members of the class.
_PYDANTIC_FIELDS = ("__pydantic_fields__", "model_fields")
_GENERATED_BY_PYDANTIC = {"model_fields", "model_computed_fields"}
_PYDANTIC_FIELD_PARTS = [
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
_ATTRS_FIELD_PARTS = "validator init repr eq order hash metadata kw_only converter on_setattr".split()  # noqa: SIM905
# attrs puts the source of generated methods into linecache, as a notebook does with its cells.
_GENERATED_BY_ATTRS = "<attrs generated"
# A class has or lacks these methods by its options.
_ATTRS_OPTIONS = ("__init__", "__repr__", "__eq__", "__lt__", "__hash__", "__setattr__")
_PLUMBING = (types.GetSetDescriptorType, types.MemberDescriptorType)


@frozen
class ClassFacts:
    """A class's members and annotations, and the names of the members to watch."""

    members: dict[str, Any]
    annotations: dict[str, Any]
    watched: tuple[str, ...]


def class_facts(cls: type, has_source: Callable[[types.FunctionType], bool]) -> ClassFacts:
    """Return the members and annotations that the author of a class wrote."""
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
        # The methods that typing adds to a protocol differ between Python minors.
        return name in _HASHED_DUNDERS or (
            isinstance(fn, types.FunctionType) and fn.__globals__.get("__name__") != "typing"
        )
    return not (name in _GENERATED_BY_PYDANTIC and _is_pydantic(cls))


def _is_pydantic(cls: type) -> bool:
    return "__pydantic_decorators__" in vars(cls)


def _is_written(value: Any, has_source: Callable[[types.FunctionType], bool]) -> bool:
    """Return whether a member of a generated class has source of the user's."""
    fn = function_of(value)
    if not isinstance(fn, types.FunctionType) or fn.__code__.co_filename.startswith(_GENERATED_BY_ATTRS):
        return False
    return is_own_module(fn.__globals__.get("__name__")) and has_source(fn)


def function_of(value: Any) -> Any:
    """Return the function within a static or class method or a property, and any other value as it is."""
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
        return {"fields": [(name, _set_parts(field, _PYDANTIC_FIELD_PARTS)) for name, field in found.items()]}
    return {}


def _set_parts(field: Any, names: Iterable[str]) -> dict[str, Any]:
    """Return the parts of a field that are set; a part that this version of the library lacks is not."""
    parts = {name: getattr(field, name, None) for name in names}
    return {name: value for name, value in parts.items() if value is not None}


def _attrs_field(field: Any) -> tuple[Any, ...]:
    default = field.default
    # NOTHING is a class in attrs' older versions, the member of an enum in later ones.
    given: tuple[Any, ...] | None = (default,)
    if repr(default) == "NOTHING":
        given = None
    elif type(default).__name__ == "Factory":
        given = ("factory", default.factory, default.takes_self)
    # The parameter of __init__; attrs fills it in where the author gave none.
    alias = getattr(field, "alias", None) or field.name.lstrip("_")
    return (field.name, given, _set_parts(field, _ATTRS_FIELD_PARTS), alias)


def _field(field: dataclasses.Field[Any]) -> tuple[Any, ...]:
    missing = dataclasses.MISSING
    default = None if field.default is missing else (field.default,)
    factory = None if field.default_factory is missing else (field.default_factory,)
    flags = (field.init, field.repr, field.compare, field.hash, field.kw_only)
    return (field.name, default, factory, flags, dict(field.metadata))


def _plain(cls: type) -> dict[str, Any]:
    """Return a dataclass's class-level values other than fields."""
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
    except NameError:  # Python 3.14 evaluates late, and a name may exist for type checkers alone
        return {}
