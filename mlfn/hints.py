"""Annotations as they stand, and the parameter that a run fills in: light enough for the decorator."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from functools import partial
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from mlfn.user_context import Context


def context_parameter(function: Callable[..., Any]) -> str | None:
    """Return the name of the parameter that a run fills with its Context, if the handler has one."""
    target = annotated(function)
    annotations = raw_annotations(target)
    for name, annotation in annotations.items():
        if name != "return" and _is_context(annotation, target):
            return name
    code = getattr(target, "__code__", None)
    if code is None:
        return None
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return "context" if "context" in names and "context" not in annotations else None


def _is_context(annotation: Any, target: Any) -> bool:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__forward_arg__", None)
    if text is not None:
        return _says_context(text, target)
    return annotation is Context or (Context in get_args(annotation) and get_origin(annotation) in _WRAPPERS)


def _says_context(text: str, target: Any) -> bool:
    """Say whether an annotation that is a text means ours; evaluating it whole could import what is not there."""
    match = _CONTEXT.fullmatch(text.strip("'\" "))
    if match is None:
        return False
    first, *rest = (match["name"] or match["alone"]).split(".")
    # A name that is imported for type checkers only cannot be looked up: what it says must do.
    found = getattr(target, "__globals__", {}).get(first, _UNKNOWN)
    for name in rest:
        found = getattr(found, name, _UNKNOWN) if found is not _UNKNOWN else found
    return found is Context if found is not _UNKNOWN else first in ("Context", "mlfn", "mlrun")


_UNKNOWN = object()
_WRAPPERS = (Union, UnionType, Annotated)
_CONTEXT = re.compile(
    r"(?P<alone>(?:\w+\.)*Context)(?: *\| *None)?|(?:\w+\.)?Optional\[ *(?P<name>(?:\w+\.)*Context) *\]"
)


def annotated(function: Callable[..., Any]) -> Any:
    """Return what carries the annotations of a function, partial or callable object."""
    while isinstance(function, partial):
        function = function.func
    if inspect.isroutine(function) or isinstance(function, type):
        return vars(function).get("__init__", function) if isinstance(function, type) else function
    return type(function).__call__


def raw_annotations(target: Any) -> dict[str, Any]:
    """Return annotations unresolved where they are texts."""
    if sys.version_info >= (3, 14):
        import annotationlib

        return dict(annotationlib.get_annotations(target, format=annotationlib.Format.FORWARDREF))
    return dict(getattr(target, "__annotations__", {}))
