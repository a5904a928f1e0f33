"""A handler's parameters: bound as Python binds them, checked against the annotations before anything starts."""

from __future__ import annotations

import inspect
import os
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from mlfn.artifacts.inputs import annotation_name, check_readable, readable_suffixes, wants_input
from mlfn.dispatch.validation import checker
from mlfn.errors import InputNotFoundError, ParameterError, nearest
from mlfn.spec.call_shape import CallShape
from mlfn.spec.data_item import DataItem
from mlfn.worker.context import Context, annotated, context_parameter, raw_annotations

_MISSING = inspect.Parameter.empty


class Signature:
    """The parameters that a caller may pass: the handler's own without its context."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.name = name
        whole = _signature(function)
        self.annotations = _annotations(function)
        self.context = context_parameter(function)
        parameters = [p for p in whole.parameters.values() if p.name != self.context]
        self._python = whole.replace(parameters=parameters, return_annotation=_MISSING)
        self.parameters = {p.name: p for p in parameters}
        self.shape = _shape(whole.parameters.values(), self.context)
        self._checkers: dict[str, Callable[[Any], Any]] = {}

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameters by name, or raise ParameterError that names the one at fault."""
        return self._bound(self._python.bind, args, kwargs)

    def bind_partly(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the given parameters by name; others may be missing."""
        return self._bound(self._python.bind_partial, args, kwargs)

    def _bound(
        self, bind: Callable[..., inspect.BoundArguments], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        try:
            return bind(*args, **kwargs).arguments
        except TypeError as error:
            raise ParameterError(self._explain(args, kwargs, error)) from None

    def required(self) -> list[str]:
        """Return the parameters that have no default."""
        several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        return [p.name for p in self.parameters.values() if p.default is _MISSING and p.kind not in several]

    def arguments(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], ctx: Context
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments of a plain call with `ctx` filled in; a TypeError is Python's own."""
        return self.shape.arguments(self._python.bind(*args, **kwargs).arguments, ctx)

    def check(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return `params` with paths of inputs as DataItem; raise ParameterError for a value that does not fit."""
        return {name: self._checked(name, value) for name, value in params.items()}

    def inputs(self) -> dict[str, str]:
        """Return the parameters for which a text is a path to read, each with the type it is read as."""
        named = {name: annotation_name(annotation) for name, annotation in self.annotations.items()}
        return {name: kind for name, kind in named.items() if kind and wants_input(self.annotations[name])}

    def defaults(self) -> dict[str, Any]:
        """Return the defaults by name."""
        return {p.name: p.default for p in self.parameters.values() if p.default is not _MISSING}

    def _checked(self, name: str, value: Any) -> Any:
        if name == self.shape.varargs:
            return tuple(self._plain(f"{name}[{i}]", name, item) for i, item in enumerate(value))
        if name == self.shape.varkw:
            return {key: self._plain(key, name, item) for key, item in value.items()}
        annotation = self.annotations.get(name, _MISSING)
        refuse_run(value, f"{self.name}({name}=...)")
        if getattr(value, "__mlfn_reference__", False):
            value.refuse_unknown(f"{self.name}({name}=...)")
            return value  # an output of another run: its value may not exist yet
        if isinstance(value, str) and wants_input(annotation):
            if annotation_name(annotation) == "pathlib.Path":
                return Path(value)
            value = DataItem(value)
        if isinstance(value, DataItem):
            return existing_input(value, annotation_name(annotation), f"{self.name}({name}=...)")
        return self._fitting(name, name, value)

    def _plain(self, shown: str, name: str, value: Any) -> Any:
        """Return one value of ``*args`` or ``**kwargs``, which can be neither an input nor an output of another run."""
        refuse_run(value, f"{self.name}({shown}=...)")
        if isinstance(value, DataItem) or getattr(value, "__mlfn_reference__", False):
            raise ParameterError(
                f"{self.name}({shown}={short(value)}) is among *args or **kwargs: give the function a parameter "
                "of its own for an input or for an output of another run, or pass the value itself."
            )
        return self._fitting(shown, name, value)

    def _fitting(self, shown: str, name: str, value: Any) -> Any:
        annotation = self.annotations.get(name, _MISSING)
        if annotation is _MISSING or type(value) is annotation:
            return value
        if name not in self._checkers:
            self._checkers[name] = checker(annotation)
        try:
            return self._checkers[name](value)
        except ValueError as error:
            raise ParameterError(
                f"{self.name}({shown}={short(value)}) does not fit {shown_annotation(annotation)}: {error}"
            ) from None

    def _explain(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], error: TypeError) -> str:
        for name, value in kwargs.items():
            if name not in self.parameters and self.shape.varkw is None:
                if name == self.context:
                    return f"{self.name}({name}=...) is filled in by the run: leave it out."
                return (
                    f"{self.name}() has no parameter {name!r} (value {short(value)}): {nearest(name, self.parameters)}"
                )
        by_position = [
            p.name for p in self.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        given = by_position[: len(args)]
        lacking = [name for name in self.required() if name not in given and name not in kwargs]
        if lacking:
            first = lacking[0]
            wanted = f" ({shown_annotation(self.annotations[first])})" if first in self.annotations else ""
            return f"{self.name}() lacks parameter {first!r}{wanted}: pass it, as in submit({first}=...)."
        if len(args) > len(by_position) and self.shape.varargs is None:
            return (
                f"{self.name}() takes {len(by_position)} parameters by position ({', '.join(by_position) or 'none'}) "
                f"and got {len(args)}: the first too many is {short(args[len(by_position)])}."
            )
        return f"{self.name}(): {error}."


def _shape(parameters: Iterable[inspect.Parameter], context: str | None) -> CallShape:
    """Return how to pass parameters by name; `parameters` are all, the context's among them."""
    items = list(parameters)
    varargs = next((p.name for p in items if p.kind is p.VAR_POSITIONAL), None)
    # What stands before *args can only be given by position when there is more.
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return CallShape(
        positional=tuple(p.name for p in items if p.kind in (kinds if varargs else kinds[:1])),
        varargs=varargs,
        varkw=next((p.name for p in items if p.kind is p.VAR_KEYWORD), None),
        context=context,
    )


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        if sys.version_info >= (3, 14):
            import annotationlib

            return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)
        return inspect.signature(function)
    except ValueError:
        anything = inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)
        return inspect.Signature([anything, inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)])


def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations that can be resolved here; other parameters stay unchecked."""
    target = annotated(function)
    try:
        return typing.get_type_hints(target, include_extras=True)
    except Exception:  # noqa: BLE001 - a hint may name what only the worker has
        return {
            name: hint
            for name, raw in raw_annotations(target).items()
            if (hint := _resolved(target, raw)) is not _MISSING
        }


def _resolved(target: Any, annotation: Any) -> Any:
    if not isinstance(annotation, str):
        return annotation
    holder = type("Holder", (), {"__annotations__": {"it": annotation}})
    try:
        return typing.get_type_hints(holder, getattr(target, "__globals__", {}), include_extras=True)["it"]
    except Exception:  # noqa: BLE001 - as above
        return _MISSING


def refuse_run(value: Any, where: str) -> None:
    """Refuse a whole run where a value or one of its outputs is wanted."""
    if getattr(type(value), "__mlfn_run__", False):
        raise ParameterError(
            f"{where} got {value!r}, a whole run: pass an output of it, {value.__mlfn_shown_outputs__()}."
        )


def existing_input(item: DataItem, kind: str | None, where: str) -> DataItem:
    """Return `item` by its absolute path; refuse what is not there, naming what lies near it, or cannot be read."""
    try:
        path = item.local_path()
        if os.path.exists(path):
            check_readable(Path(path), kind or item.type)
            return DataItem(path, kind or item.type)
    except ParameterError as error:
        raise ParameterError(f"{where}: {error}") from None
    folder = os.path.dirname(path)
    near = _near(path, folder, kind) if os.path.isdir(folder) else f"{folder} is no folder."
    raise InputNotFoundError(f"{where} names an input that is not there: {path}. {near}")


def _near(path: str, folder: str, kind: str | None) -> str:
    """Return a sentence with the files beside `path` that could be meant: those that can be read as what is wanted."""
    suffixes = readable_suffixes(kind)
    names = [name for name in os.listdir(folder) if not suffixes or os.path.splitext(name)[1].lower() in suffixes]
    if not names:
        return f"Of {', '.join(suffixes) or 'any kind'} there is no file in {folder}."
    hint = nearest(os.path.basename(path), sorted(names)[:50])
    return hint[0].upper() + hint[1:]


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
