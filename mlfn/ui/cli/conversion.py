"""Text from a command line -> a value of the annotated type."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import datetime
import enum
import inspect
import json
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from mlfn.artifacts.inputs import annotation_name, wants_input
from mlfn.errors import ParameterError, nearest
from mlfn.worker.fitting import field_hints, init_names, type_adapter

MISSING = inspect.Parameter.empty
_NUMBER = r"(\d+(?:\.\d+)?)"
_SPAN = re.compile(rf"(?:{_NUMBER}d)? ?(?:{_NUMBER}h)? ?(?:{_NUMBER}m(?:in)?)? ?(?:{_NUMBER}s)?|{_NUMBER}")
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
    if _is_enum(kind):
        members = list(kind)
        texts = all(isinstance(member.value, str) for member in members)
        return {member.value if texts else member.name: member for member in members}
    return None


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, enum.Enum)


def _span(text: str) -> datetime.timedelta | None:
    """Return the time that a text such as ``1h``, ``1h30m`` or ``90`` (seconds) names; None for another text."""
    found = _SPAN.fullmatch(text.strip())
    if found is None or not any(found.groups()):
        return None
    days, hours, minutes, seconds, alone = (float(part or 0) for part in found.groups())
    return datetime.timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds + alone)


def fields_of(annotation: Any) -> dict[str, Any]:
    """Return name -> annotation of a dataclass's, pydantic model's or TypedDict's fields; empty for anything else."""
    kind = bare(annotation)
    if not isinstance(kind, type):
        return {}
    if dataclasses.is_dataclass(kind):
        names = init_names(kind)
    elif isinstance(getattr(kind, "model_fields", None), Mapping):
        names = list(kind.model_fields)  # type: ignore[attr-defined]
    elif typing.is_typeddict(kind):
        names = list(kind.__annotations__)
    else:
        return {}
    hints = field_hints(kind, include_extras=False)
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
        if text in listed:
            return listed[text]
        if _is_enum(kind) and text in kind.__members__:
            return kind[text]
        raise ParameterError(f"{what} = {text!r}: {nearest(text, listed)}")
    if kind is datetime.timedelta and (span := _span(text)) is not None:
        return span
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        with contextlib.suppress(ParameterError):
            return _validated(annotation, lambda adapter: adapter.validate_python(plain(text), strict=True), what, text)
    if text.lstrip()[:1] in ("{", "[", '"'):
        document = _in_json(annotation, text)
        return _validated(annotation, lambda adapter: adapter.validate_json(document), what, text)
    return _validated(annotation, lambda adapter: adapter.validate_strings(text), what, text)


def _in_json(annotation: Any, text: str) -> str:
    """Return JSON with values in place of what people write for them: names of members of an enum, times as ``1h``."""
    try:
        data = json.loads(text)
    except ValueError:  # pydantic says what is wrong with it
        return text
    valued = _valued(annotation, data)
    return text if valued == data else json.dumps(valued)


def _valued(annotation: Any, data: Any) -> Any:
    kind = bare(annotation)
    if isinstance(data, str):
        if kind is datetime.timedelta and (span := _span(data)) is not None:
            return span.total_seconds()
        if _is_enum(kind):
            named: Any = kind
            if data in named.__members__ and all(data != member.value for member in named):
                return named[data].value
    elif isinstance(data, list):
        return [_valued(_element(kind, at), item) for at, item in enumerate(data)]
    elif isinstance(data, dict):
        fields, args = fields_of(kind), typing.get_args(kind)
        return {name: _valued(fields.get(name, args[-1] if args else MISSING), item) for name, item in data.items()}
    return data


def _validated(annotation: Any, validate: Any, what: str, given: Any) -> Any:
    from pydantic import ValidationError

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
    hint = " A time is written as 1h30m, 45s or 01:30:00." if first["type"].startswith("time_delta") else ""
    raise ParameterError(f"{what} = {given!r} does not fit: {where + ': ' if where else ''}{first['msg']}.{hint}")
