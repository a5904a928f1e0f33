"""Text from a command line -> a value of the annotated type."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import enum
import inspect
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from mlfn.artifacts.inputs import annotation_name, wants_input
from mlfn.errors import ParameterError, nearest

MISSING = inspect.Parameter.empty
_MANY = (list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Set)


def plain(text: str) -> Any:
    """Return the JSON that `text` is, else the text: for a parameter without an annotation."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def bare(annotation: Any) -> Any:
    """Return an annotation without None and Annotated; a union of several types stays."""
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif origin in (typing.Union, types.UnionType):
            members = [item for item in typing.get_args(annotation) if item is not type(None)]
            if len(members) != 1:
                return annotation
            annotation = members[0]
        elif hasattr(annotation, "__supertype__"):  # NewType
            annotation = annotation.__supertype__
        else:
            return annotation


def is_flag(annotation: Any, default: Any) -> bool:
    """Return whether a parameter is a switch."""
    return bare(annotation) is bool or (annotation is MISSING and isinstance(default, bool))


def is_many(annotation: Any) -> bool:
    """Return whether a parameter takes several texts."""
    kind = bare(annotation)
    return (typing.get_origin(kind) or kind) in _MANY


def choices(annotation: Any) -> dict[str, Any] | None:
    """Return text -> value for a Literal or an Enum; None for what has no list of values."""
    kind = bare(annotation)
    if typing.get_origin(kind) is typing.Literal:
        return {str(value): value for value in typing.get_args(kind)}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        members = list(kind)
        texts = all(isinstance(member.value, str) for member in members)
        return {member.value if texts else member.name: member for member in members}
    return None


def fields_of(annotation: Any) -> dict[str, Any]:
    """Return name -> annotation of a dataclass's, pydantic model's or TypedDict's fields; empty for anything else."""
    kind = bare(annotation)
    if not isinstance(kind, type):
        return {}
    if dataclasses.is_dataclass(kind):
        names = [item.name for item in dataclasses.fields(kind) if item.init]
    elif isinstance(getattr(kind, "model_fields", None), Mapping):
        names = list(kind.model_fields)  # type: ignore[attr-defined]
    elif typing.is_typeddict(kind):
        names = list(kind.__annotations__)
    else:
        return {}
    hints = typing.get_type_hints(kind)
    return {name: hints.get(name, MISSING) for name in names}


def metavar(annotation: Any, default: Any = MISSING) -> str:
    """Return the placeholder of a value in help."""
    if (listed := choices(annotation)) is not None:
        return f"[{'|'.join(listed)}]"
    kind = bare(annotation)
    if kind is MISSING:
        kind = type(default) if type(default) in (int, float, str) else MISSING
    words = {int: "INTEGER", float: "FLOAT", str: "TEXT", bool: "true|false", MISSING: "VALUE"}
    if isinstance(kind, type) and kind in words:
        return words[kind]
    if wants_input(annotation):
        return "PATH" if annotation_name(annotation) == "pathlib.Path" else "FILE"
    if is_many(annotation):
        return f"{metavar(_element(kind, 0))}..."
    return "JSON" if fields_of(annotation) or (typing.get_origin(kind) or kind) in (dict, Mapping) else "VALUE"


def convert(annotation: Any, texts: Sequence[str], *, what: str, default: Any = MISSING) -> Any:
    """Return the value of `texts`, or raise ParameterError that names `what`.

    One text for most types; several, or one with commas, or one JSON list, for a list, tuple or set.
    """
    if is_many(annotation) and not (len(texts) == 1 and texts[0].lstrip().startswith("[")):
        return _many(annotation, texts, what)
    return _one(annotation, texts[-1], what, default)


def assemble(annotation: Any, base: Any, parts: Mapping[tuple[str, ...], Sequence[str]], *, what: str) -> Any:
    """Return a dataclass, model or TypedDict: `base` (a value, or MISSING) with the fields that `parts` give as text."""
    data: Any = {} if base is MISSING or base is None else _as_dict(base)
    for path, texts in parts.items():
        owner, inner = data, annotation
        for name in path[:-1]:
            inner = fields_of(inner)[name]
            owner[name] = _as_dict(owner[name]) if owner.get(name) is not None else {}
            owner = owner[name]
        where = f"{what}.{'.'.join(path)}"
        owner[path[-1]] = convert(fields_of(inner)[path[-1]], texts, what=where)
    return _validated(annotation, lambda adapter: adapter.validate_python(data), what, data)


def _as_dict(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    return {name: getattr(value, name) for name in fields_of(type(value))}


def _many(annotation: Any, texts: Sequence[str], what: str) -> Any:
    kind = bare(annotation)
    items = texts[0].split(",") if len(texts) == 1 else list(texts)
    items = [] if items == [""] else items
    values = [_one(_element(kind, index), item.strip(), what, MISSING) for index, item in enumerate(items)]
    return _validated(annotation, lambda adapter: adapter.validate_python(values), what, ",".join(items))


def _element(kind: Any, index: int) -> Any:
    """Return the annotation of one item."""
    args = [arg for arg in typing.get_args(kind) if arg is not ...]
    return args[min(index, len(args) - 1)] if args else MISSING


def _one(annotation: Any, text: str, what: str, default: Any) -> Any:
    if annotation is MISSING or annotation in (Any, object):
        return text if isinstance(default, str) else plain(text)
    kind = bare(annotation)
    if text in ("none", "None", "null") and type(None) in typing.get_args(annotation):
        return None
    if kind is str or wants_input(annotation):
        return text
    if (listed := choices(annotation)) is not None:
        if text not in listed:
            raise ParameterError(f"{what} = {text!r}: {nearest(text, listed)}")
        return listed[text]
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        with contextlib.suppress(ParameterError):
            return _validated(annotation, lambda adapter: adapter.validate_python(plain(text), strict=True), what, text)
    if text.lstrip()[:1] in ("{", "[", '"'):
        return _validated(annotation, lambda adapter: adapter.validate_json(text), what, text)
    return _validated(annotation, lambda adapter: adapter.validate_strings(text), what, text)


def _validated(annotation: Any, validate: Any, what: str, given: Any) -> Any:
    from pydantic import ValidationError

    from mlfn.worker.fitting import type_adapter

    adapter = type_adapter(annotation)
    if adapter is None:
        return given
    try:
        return validate(adapter)
    except NotImplementedError:  # raised by pydantic for a class that it knows only by isinstance
        raise ParameterError(f"{what} = {given!r} does not fit: {annotation!r} cannot be written as text.") from None
    except ValidationError as error:
        first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    raise ParameterError(f"{what} = {given!r} does not fit: {where + ': ' if where else ''}{first['msg']}.")
