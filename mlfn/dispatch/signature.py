"""A handler's parameters: bound as Python binds them, checked against the annotations before anything starts."""

from __future__ import annotations

import dataclasses
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from mlfn.artifacts.inputs import annotation_name, check_readable, readable_suffixes, reads_path, wants_input
from mlfn.artifacts.nested import SCALARS, is_reference, stand_ins
from mlfn.errors import InputNotFoundError, ParameterError, nearest
from mlfn.spec.call_shape import CallShape
from mlfn.spec.data_item import DataItem
from mlfn.spec.options import Options
from mlfn.worker.context import Context
from mlfn.worker.fitting import annotations_of, checker, short, shown_annotation
from mlfn.worker.injection import context_parameter, injected_parameters

_MISSING = inspect.Parameter.empty
NOTHING: Mapping[str, str] = {}


class Signature:
    """The parameters that a caller may pass: the handler's own without its context and what its kind `injects`."""

    def __init__(self, function: Callable[..., Any], name: str, injects: Mapping[str, str] = NOTHING) -> None:
        self.name = name
        self.function = function
        whole = _signature(function)
        self.context = context_parameter(function)
        injected = injected_parameters(function, injects)
        self.shape = _shape(whole.parameters.values(), self.context, injected)
        self.annotations = {key: item for key, item in annotations_of(function).items() if key not in injected}
        called = [p for p in whole.parameters.values() if p.name != self.context]
        parameters = [p for p in called if p.name not in injected]
        self._called = whole.replace(parameters=called, return_annotation=_MISSING)
        self._python = whole.replace(parameters=parameters, return_annotation=_MISSING)
        self.parameters = {p.name: p for p in parameters}
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
        return self.shape.arguments(self._called.bind(*args, **kwargs).arguments, ctx)

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
        annotation = self.annotations.get(name, _MISSING)
        if name not in (self.shape.varargs, self.shape.varkw) and isinstance(value, (str, os.PathLike)):
            value = self._read(value, annotation)
        if isinstance(value, DataItem):
            return existing_input(value, annotation_name(annotation), f"{self.name}({name}=...)")
        if type(value) not in SCALARS and (found := stand_ins(value, name)):
            check_stand_ins(self.name, found)
            # It is checked where the run runs: what it holds may not exist yet.
            made: Any = annotation if dataclasses.is_dataclass(annotation) and isinstance(value, dict) else None
            return value if made is None else made(**value)
        if name == self.shape.varargs:
            return tuple(self._fitting(f"{name}[{i}]", name, item) for i, item in enumerate(value))
        if name == self.shape.varkw:
            return {key: self._fitting(key, name, item) for key, item in value.items()}
        return self._fitting(name, name, value)

    def _read(self, value: str | os.PathLike[str], annotation: Any) -> Any:
        """Return what a text or path names where the annotation wants what a file holds; else the value itself."""
        if wants_input(annotation) if isinstance(value, str) else reads_path(annotation):
            path = os.fspath(value)
            return Path(path) if annotation_name(annotation) == "pathlib.Path" else DataItem(path)
        return value

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
                if name == self.context or name in self.shape.injected:
                    return f"{self.name}({name}=...) is filled in by the run: leave it out."
                if name in {option.name for option in fields(Options)}:
                    option = f"{name}={short(value)}"
                    return f"{name}= is an option of {self.name}, and no parameter: give it by .with_options({option})."
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


def _shape(parameters: Iterable[inspect.Parameter], context: str | None, injected: Mapping[str, str]) -> CallShape:
    """Return how to pass parameters by name; `parameters` are all, those that the run fills in among them."""
    items = list(parameters)
    varargs = next((p.name for p in items if p.kind is p.VAR_POSITIONAL), None)
    # What stands before *args can only be given by position when there is more.
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return CallShape(
        positional=tuple(p.name for p in items if p.kind in (kinds if varargs else kinds[:1])),
        varargs=varargs,
        varkw=next((p.name for p in items if p.kind is p.VAR_KEYWORD), None),
        context=context,
        injected=injected,
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


def check_stand_ins(function: str, found: Iterable[tuple[str, Any]]) -> None:
    """Refuse what stands for no value: a whole run, an output or file that is not there."""
    for place, item in found:
        where = f"{function}({place}=...)"
        if isinstance(item, DataItem):
            existing_input(item, None, where)
        elif is_reference(item):
            item.refuse_unknown(where)
        else:
            raise ParameterError(f"{where} got {item!r}, {item.__mlfn_refused__()}.")


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
