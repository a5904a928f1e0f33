"""Whether a value fits an annotation: as strictly for a field that is given in a mapping as for a plain parameter."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import types
import typing
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from mlfn.errors import nearest
from mlfn.worker.context import annotated, raw_annotations

_UNKNOWN: Any = object()
_INIT_VAR = re.compile(r"(?:\w+\.)*InitVar\[(.*)\]")


def checker(annotation: Any) -> Callable[[Any], Any]:
    """Return a function that gives a value back if it fits, and raises ValueError if not."""
    adapter = type_adapter(annotation)
    if adapter is None:
        return lambda value: value
    has_fields = _has_fields(annotation)

    def check(value: Any) -> Any:
        from pydantic import ValidationError

        built = _with_built(annotation, value) if has_fields else value
        try:
            made = adapter.validate_python(built, strict=True)
        except ValidationError as error:
            if (plain := _plain_number(value)) is None:
                raise ValueError(_said(error)) from None
            check(plain)
            return value
        # As it was given: an int stays an int where a float is declared. But for fields given as a mapping.
        return made if has_fields and _was_built(value, made) else value

    return check


def _said(error: Any) -> str:
    """Return what pydantic found first, and where in the value."""
    first = error.errors()[0]
    where = "".join(f"[{part!r}]" for part in first["loc"])
    return f"{where + ': ' if where else ''}{first['msg']}."


def _with_built(annotation: Any, value: Any) -> Any:
    """Return the value with dataclasses made of the mappings that stand for them, each field held to its annotation.

    pydantic takes a mapping for a model when it is strict, but not for a dataclass.
    """
    if not _has_fields(annotation):
        return value
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _with_built(args[0], value)
    if origin in (typing.Union, types.UnionType):
        return _built_as_one_of(args, value)
    if isinstance(value, Mapping):
        return _built_of_mapping(annotation, args, value)
    if args and isinstance(value, (list, tuple)):
        several = len(args) > 1 and args[-1] is not ...
        kinds = args if several and len(args) == len(value) else args[:1] * len(value)
        parts = [_within(index, kind, item) for index, (kind, item) in enumerate(zip(kinds, value))]
        return parts if isinstance(value, list) else tuple(parts)
    return value


def _built_of_mapping(annotation: Any, args: tuple[Any, ...], value: Mapping[Any, Any]) -> Any:
    from pydantic import ValidationError

    if args:
        return {key: _within(key, args[-1], item) for key, item in value.items()}
    hints = field_hints(annotation)
    if not dataclasses.is_dataclass(annotation):
        return {key: _within(key, hints[key], item) if key in hints else item for key, item in value.items()}
    fields = {
        key: _within(key, hints[key], item, checked=True) if key in hints else item for key, item in value.items()
    }
    adapter = type_adapter(annotation)
    try:
        made = adapter.validate_python(fields) if adapter is not None else value
    except ValidationError as error:
        raise ValueError(_said(error)) from None
    _refuse_strange(annotation, value)
    return made


def _refuse_strange(kind: Any, value: Mapping[Any, Any]) -> None:
    """Refuse what a plain dataclass has no field for; one of pydantic says itself what it does with that."""
    allowed = init_names(kind)
    strange = [key for key in value if key not in allowed]
    if strange and not hasattr(kind, "__pydantic_validator__"):
        raise ValueError(f"[{strange[0]!r}]: is no field of {kind.__qualname__}: {nearest(str(strange[0]), allowed)}")


def init_names(kind: Any) -> list[str]:
    """Return what the `__init__` of a dataclass takes: fields, and `InitVar`s, which `dataclasses.fields` leaves out."""
    fields = {item.name: item.init for item in dataclasses.fields(kind)}
    taken = inspect.signature(kind).parameters
    return [name for name in kind.__dataclass_fields__ if fields.get(name, name in taken)]


def field_hints(annotation: Any, *, include_extras: bool = True) -> dict[str, Any]:
    """Return name -> annotation of a class, as far as it can be resolved here; that of an `InitVar` is what it holds."""
    try:
        kind = _without_init_vars(annotation) if sys.version_info < (3, 11) else annotation
        hints = typing.get_type_hints(kind, include_extras=include_extras)
    except Exception:  # noqa: BLE001 - a hint may name what only the worker has
        return {}
    return {name: hint.type if isinstance(hint, dataclasses.InitVar) else hint for name, hint in hints.items()}


def _without_init_vars(kind: Any) -> Any:
    """Return a class with the same annotations, those of an `InitVar` as what it holds: Python 3.10 resolves none as a text."""
    texts = [
        (name, text) for base in reversed(kind.__mro__) for name, text in vars(base).get("__annotations__", {}).items()
    ]
    if not any(isinstance(text, str) and "InitVar" in text for _, text in texts):
        return kind
    held = {name: _INIT_VAR.sub(r"\1", text) if isinstance(text, str) else text for name, text in texts}
    return type(kind.__name__, (), {"__annotations__": held, "__module__": kind.__module__})


def _built_as_one_of(kinds: Iterable[Any], value: Any) -> Any:
    """Return the value built as the first kind that it fits; raise what the first that may be built said."""
    first: ValueError | None = None
    for kind in kinds:
        try:
            return checker(kind)(value)
        except ValueError as error:
            if _has_fields(kind):
                first = first or error
    if first is not None and isinstance(value, (Mapping, list, tuple)):
        raise first
    return value


def _within(key: Any, annotation: Any, value: Any, *, checked: bool = False) -> Any:
    """Return a part of a value built, and `checked` if it must be; what it says of itself is said of the part."""
    try:
        return checker(annotation)(value) if checked else _with_built(annotation, value)
    except ValueError as error:
        raise ValueError(f"[{key!r}]{'' if str(error).startswith('[') else ': '}{error}") from None


def type_adapter(annotation: Any) -> Any:
    """Return pydantic's TypeAdapter for an annotation; None for a type that it cannot read."""
    from pydantic import ConfigDict, TypeAdapter

    annotation = _with_readable_dicts(annotation)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that an annotation, such as `any`, is no type
        for config in (ConfigDict(arbitrary_types_allowed=True), None):  # models bring a configuration of their own
            with suppress(Exception):  # a type that pydantic cannot read is a type that is not checked
                return TypeAdapter(annotation, config=config)
    return None


def _has_fields(annotation: Any) -> bool:
    """Say whether a mapping may stand for it or for a part of it: a dataclass or a pydantic model."""
    if typing.get_args(annotation):
        return any(_has_fields(item) for item in typing.get_args(annotation))
    return hasattr(annotation, "__pydantic_validator__") or dataclasses.is_dataclass(annotation)


def _was_built(value: Any, made: Any) -> bool:
    """Say whether an object was made of a mapping, in the value or within its containers."""
    if isinstance(value, Mapping):
        if not isinstance(made, Mapping):
            return True
        return any(_was_built(value[key], made[key]) for key in value if key in made)
    if isinstance(value, (list, tuple)) and isinstance(made, (list, tuple)):
        return any(map(_was_built, value, made))
    return False


def _with_readable_dicts(annotation: Any) -> Any:
    """Return the annotation with `typing.TypedDict` as pydantic reads it: before Python 3.12 only that of an extension."""
    if sys.version_info >= (3, 12):
        return annotation
    if typing.is_typeddict(annotation):
        return _readable_dict(annotation)
    args = typing.get_args(annotation)
    readable = tuple(_with_readable_dicts(arg) for arg in args)
    if all(new is old for new, old in zip(readable, args, strict=True)):
        return annotation
    origin = typing.get_origin(annotation)
    if origin is types.UnionType:
        return typing.Union[readable]  # noqa: UP007 - made of a tuple
    if isinstance(annotation, types.GenericAlias) and isinstance(origin, type):
        return types.GenericAlias(origin, readable)
    return annotation.copy_with(readable) if hasattr(annotation, "copy_with") else annotation


def _readable_dict(annotation: Any) -> Any:
    import typing_extensions  # comes with pydantic

    if type(annotation).__module__ == "typing_extensions":
        return annotation
    hints = typing.get_type_hints(annotation, include_extras=True)
    kept = {
        key: typing_extensions.Required[hint]
        if key in annotation.__required_keys__
        else typing_extensions.NotRequired[hint]
        for key, hint in ((key, _with_readable_dicts(hint)) for key, hint in hints.items())
    }
    return typing_extensions.TypedDict(annotation.__name__, kept)  # type: ignore[operator]


def _plain_number(value: Any) -> Any:
    """Return the Python number inside a NumPy scalar."""
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        item = value.item()
        return item if type(item) in (bool, int, float, complex) else None
    return None


def annotations_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations that can be resolved here; other parameters stay unchecked."""
    target = annotated(function)
    try:
        return typing.get_type_hints(target, include_extras=True)
    except Exception:  # noqa: BLE001 - a hint may name what only the worker has
        return {
            name: hint
            for name, raw in raw_annotations(target).items()
            if (hint := _resolved(target, raw)) is not _UNKNOWN
        }


def _resolved(target: Any, annotation: Any) -> Any:
    if not isinstance(annotation, str):
        return annotation
    holder = type("Holder", (), {"__annotations__": {"it": annotation}})
    try:
        return typing.get_type_hints(holder, getattr(target, "__globals__", {}), include_extras=True)["it"]
    except Exception:  # noqa: BLE001 - as above
        return _UNKNOWN


def short(value: Any) -> str:
    """Return the repr of a value, cut."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def shown_annotation(annotation: Any) -> str:
    """Return an annotation as its author would write it."""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        module = "" if annotation.__module__ == "builtins" else f"{annotation.__module__}."
        return module + annotation.__qualname__
    return str(annotation).replace("typing.", "")
