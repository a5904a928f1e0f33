"""Puts a value into a copy of a parameter at a dotted path: the swept field of a nested config.

>>> place({"model": {"depth": 4, "width": 8}}, "model.depth", 16)
{'model': {'depth': 16, 'width': 8}}
"""

from __future__ import annotations

import copy
import dataclasses
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

from mlfn.errors import ParameterError, nearest
from mlfn.sweep.params.listed import short
from mlfn.worker.fitting import checker


def place(base: Any, dotted_key: str, value: Any) -> Any:
    """Return a copy of `base` with `value` at the path; other parts are shared, and `base` is unchanged.

    Mappings, dataclasses, pydantic models, named tuples, lists and tuples (by index) may be nested in each other. A field
    must be there already, and a value must fit the annotation of its field, if that has one; it is placed as it is
    in a dataclass, and as the model itself takes it in a model. Raises ParameterError.
    """
    return _placed(base, dotted_key.split("."), value, dotted_key)


def placed_in(function: str, point: Mapping[str, Any], base_of: Callable[[str, str], Any]) -> dict[str, Any]:
    """Return the parameters that a point changes; errors name the function.

    `base_of(name, key)` gives a parameter of which a dotted key changes a part, unless the point has it too.
    """
    placed = {key: value for key, value in point.items() if "." not in key}
    for key, value in point.items():
        name = key.partition(".")[0]
        if name != key:
            base = placed[name] if name in placed else base_of(name, key)
            try:
                placed[name] = place({name: base}, key, value)[name]
            except ParameterError as error:
                raise ParameterError(f"{function}(): {error}") from error.__cause__
    return placed


def _placed(base: Any, path: list[str], value: Any, whole: str) -> Any:
    member = _member_for(base)
    if member is None:
        raise ParameterError(
            f"{whole}={short(value)}: {_above(path, whole)} is {short(base)} ({type(base).__name__}), which has no fields to "
            "sweep. Allowed: a mapping, dataclass, pydantic model, named tuple, list or tuple."
        )
    fields, get, replace = member
    # A mapping may have keys with dots in them.
    name = ".".join(path) if isinstance(base, Mapping) and ".".join(path) in base else path[0]
    key = name if not isinstance(base, (list, tuple)) or name in fields(base) else _index(base, name, path, whole)
    if key not in fields(base):
        kind = type(base).__name__
        raise ParameterError(
            f"{whole}={short(value)}: {_above(path, whole)} ({kind}) has no {name!r}. {nearest(name, map(str, fields(base)))}"
        )
    is_last = len(path) == 1 or name != path[0]
    new = value if is_last else _placed(get(base, key), path[1:], value, whole)
    try:
        return replace(base, key, new)
    except ParameterError:
        raise
    except ValueError as error:
        raise ParameterError(f"{whole}={short(value)} does not fit {type(base).__name__}.{name}: {error}") from error


def _above(path: list[str], whole: str) -> str:
    above = whole.split(".")[: -len(path)]
    return repr(".".join(above)) if above else "the parameter"


def _index(base: Any, name: str, path: list[str], whole: str) -> int | str:
    if not name.lstrip("-").isdecimal():
        return name
    index = int(name)
    if not -len(base) <= index < len(base):
        raise ParameterError(f"{whole}: {_above(path, whole)} has {len(base)} items, and no item {index}.")
    return index % len(base)


_Member = tuple[
    Callable[[Any], Iterable[Any]],  # the fields that it has
    Callable[[Any, Any], Any],  # one of them
    Callable[[Any, Any, Any], Any],  # a copy with one replaced
]


def _member_for(base: Any) -> _Member | None:
    if isinstance(base, type):
        return None
    if hasattr(type(base), "model_fields") and hasattr(base, "model_copy"):
        return (lambda model: type(model).model_fields), getattr, _replace_in_model
    if dataclasses.is_dataclass(base):
        return (lambda it: [field.name for field in dataclasses.fields(it) if field.init]), getattr, _replace_by_name
    if isinstance(base, Mapping):
        return list, lambda mapping, key: mapping[key], _replace_in_mapping
    if isinstance(base, tuple) and hasattr(base, "_fields"):
        return (lambda it: it._fields), getattr, _replace_by_name
    if isinstance(base, (list, tuple)):
        return (lambda items: range(len(items))), lambda items, index: items[index], _replace_in_list
    return None


def _replace_by_name(base: Any, name: str, value: Any) -> Any:
    replace: Any = dataclasses.replace if dataclasses.is_dataclass(base) else type(base)._replace
    annotation = _hints(type(base)).get(name)
    return replace(base, **{name: value if annotation is None else checker(annotation)(value)})


def _hints(kind: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except Exception:  # noqa: BLE001 - a hint may name a missing type: then nothing is checked
        return {}


def _replace_in_model(base: Any, name: str, value: Any) -> Any:
    from pydantic import ValidationError

    kind, field = type(base), type(base).model_fields[name]
    if kind.model_config.get("frozen") or field.frozen:
        checked = checker(Annotated[field.annotation, field])(value)
        return base.model_copy(update={name: checked})
    copied = base.model_copy()
    try:
        kind.__pydantic_validator__.validate_assignment(copied, name, value)
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"]) from error
    return copied


def _replace_in_mapping(base: Any, key: str, value: Any) -> Any:
    copied = copy.copy(base) if hasattr(base, "__setitem__") else dict(base)
    copied[key] = value
    return copied


def _replace_in_list(base: Any, index: int, value: Any) -> Any:
    items = list(base)
    items[index] = value
    return items if isinstance(base, list) else tuple(items)
