"""Parameters that come from other runs: held to their annotations when they are there, as others are by `submit`."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any

from mlfn.artifacts.formats.spark_frames import as_frame_of
from mlfn.artifacts.inputs import annotation_name, read_input, reads_path
from mlfn.artifacts.nested import NESTED
from mlfn.errors import ParameterError
from mlfn.worker.fitting import annotations_of, checker, short, shown_annotation
from mlfn.worker.task import Calling

_CONTAINERS = (list, set, frozenset)
_SCALARS = (bool, int, float, complex, str, bytes)


def checked(
    function: Callable[..., Any], calling: Calling, params: Mapping[str, Any], late: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the late parameters as the function takes them; raise ParameterError, naming the run, for one that does not fit."""
    annotations = annotations_of(function)
    several = (calling.shape.varargs, calling.shape.varkw)
    made: dict[str, Any] = {}
    for name, stored in late.items():
        value = params[name]
        if name not in annotations:
            made[name] = value
        elif name in several:
            parts = value.items() if name == calling.shape.varkw else enumerate(value)
            fitting = {
                key: _fitting(f"{calling.name}({name}[{key!r}]", annotations[name], part, _part(stored, index))
                for index, (key, part) in enumerate(parts)
            }
            made[name] = fitting if name == calling.shape.varkw else tuple(fitting.values())
        else:
            made[name] = _fitting(f"{calling.name}({name}", annotations[name], value, stored)
    return made


def _fitting(where: str, annotation: Any, value: Any, stored: Mapping[str, Any]) -> Any:
    if isinstance(value, Path) and reads_path(annotation):
        return read_input(value, annotation_name(annotation))
    value = as_frame_of(value, annotation_name(annotation))
    if fits_plainly(annotation, value):
        return value
    try:
        return checker(annotation)(value)
    except ImportError:  # an environment without pydantic, which mlfn itself does not need there
        return value
    except ValueError as error:
        raise ParameterError(
            f"{where}={short(value)}) does not fit {shown_annotation(annotation)}: {error}{_origin(annotation, value, stored)}"
        ) from None


def _origin(annotation: Any, value: Any, stored: Mapping[str, Any]) -> str:
    """Return a sentence with the run that the misfit comes from."""
    if "from" in stored:
        return f" It is {stored['from']}."
    args = typing.get_args(annotation)
    if stored.get("packer") != NESTED or not args or not isinstance(value, (list, tuple, dict)):
        return ""
    parts = value.values() if isinstance(value, dict) else value
    for index, part in enumerate(parts):
        if "from" in (leaf := _part(stored, index)) and not fits_plainly(args[-1], part):
            return f" It is {leaf['from']}."
    return ""


def _part(stored: Mapping[str, Any], index: int) -> Mapping[str, Any]:
    items = stored.get("items", ())
    return items[index] if index < len(items) else {}


def fits_plainly(annotation: Any, value: Any) -> bool:
    """Return whether a value fits an annotation for certain; without pydantic, which takes 0.1 s to load."""
    if annotation is Any or type(value) is annotation or (annotation is float and type(value) is int):
        return True
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is None:
        is_class = isinstance(annotation, type) and annotation not in _SCALARS
        return value is None if annotation is None else is_class and _is_instance(value, annotation)
    if origin in (typing.Union, UnionType):
        return any(fits_plainly(arg, value) for arg in args)
    if type(value) is not origin:
        return False
    if origin in _CONTAINERS:
        return all(fits_plainly(args[0], item) for item in value)
    if origin is dict:
        return all(fits_plainly(args[0], key) and fits_plainly(args[1], item) for key, item in value.items())
    if origin is tuple and args[-1:] == (...,):
        return all(fits_plainly(args[0], item) for item in value)
    return origin is tuple and len(args) == len(value) and all(map(fits_plainly, args, value))


def _is_instance(value: Any, cls: type) -> bool:
    """Return whether a value is of a class, or of one by its name: a result may bring the class by another way."""
    named = (cls.__module__, cls.__qualname__)
    return isinstance(value, cls) or any((base.__module__, base.__qualname__) == named for base in type(value).__mro__)
