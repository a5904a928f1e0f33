"""Annotations as they stand, and the parameter that a run fills in: light enough for the decorator."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from mlfn.user_context import Context


def context_parameter(function: Callable[..., Any]) -> str | None:
    """Return the name of the parameter that a run fills with its Context, if the handler has one."""
    annotations = raw_annotations(annotated(function))
    for name, annotation in annotations.items():
        if name != "return" and (annotation is Context or _says_context(annotation)):
            return name
    code = getattr(annotated(function), "__code__", None)
    if code is None:
        return None
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return "context" if "context" in names and "context" not in annotations else None


def _says_context(annotation: Any) -> bool:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__forward_arg__", "")
    return text.strip("'\" ") in ("Context", "mlfn.Context", "mlrun.Context")


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
