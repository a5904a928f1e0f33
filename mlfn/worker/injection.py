"""Parameters that a run fills in, and that no caller passes: its Context, and what its kind supplies."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from mlfn.worker.context import annotated, raw_annotations

_CONTEXT = "mlfn.worker.context.Context"
_UNKNOWN = object()
_WRAPPERS = (Union, UnionType, Annotated)
_TEXT = re.compile(r"(?P<alone>[\w.]+)(?: *\| *None)?|(?:\w+\.)?Optional\[ *(?P<name>[\w.]+) *\]")


def context_parameter(function: Callable[..., Any]) -> str | None:
    """Return the name of the parameter that a run fills with its Context, if the handler has one."""
    target = annotated(function)
    annotations = raw_annotations(target)
    for name, annotation in annotations.items():
        if name != "return" and _means(annotation, target, _CONTEXT, roots=("mlfn", "mlrun")):
            return name
    code = getattr(target, "__code__", None)
    if code is None:
        return None
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return "context" if "context" in names and "context" not in annotations else None


def injected_parameters(function: Callable[..., Any], injects: Mapping[str, str]) -> dict[str, str]:
    """Return what a kind supplies by the name of the parameter, for those annotated with one of the types in `injects`.

    No annotation is evaluated: the client need not have the library that the type is of.
    """
    if not injects:
        return {}
    target = annotated(function)
    return {
        name: what
        for name, annotation in raw_annotations(target).items()
        for path, what in injects.items()
        if name != "return" and _means(annotation, target, path, roots=(path.partition(".")[0],))
    }


def _means(annotation: Any, target: Any, path: str, *, roots: Collection[str]) -> bool:
    """Say whether an annotation is the class at a dotted path, which may also be an option, or a text."""
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__forward_arg__", None)
    if text is not None:
        return _says(text, target, path, roots)
    inner = get_args(annotation) if get_origin(annotation) in _WRAPPERS else ()
    return any(_path_of(item) == path for item in (annotation, *inner))


def _says(text: str, target: Any, path: str, roots: Collection[str]) -> bool:
    """Say whether an annotation that is a text means the class; evaluating it whole could import what is not there."""
    match, own = _TEXT.fullmatch(text.strip("'\" ")), path.rpartition(".")[2]
    if match is None:
        return False
    first, *rest = (match["name"] or match["alone"]).split(".")
    # A name that is imported for type checkers only cannot be looked up: what it says must do.
    found = getattr(target, "__globals__", {}).get(first, _UNKNOWN)
    for name in rest:
        found = getattr(found, name, _UNKNOWN) if found is not _UNKNOWN else found
    if found is not _UNKNOWN:
        return _path_of(found) == path
    return [first, *rest][-1] == own and first in (own, *roots)


def _path_of(item: Any) -> str | None:
    return f"{item.__module__}.{item.__qualname__}" if isinstance(item, type) else None
