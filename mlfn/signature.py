"""A handler's parameters: bound as Python would, checked against its annotations before anything starts."""

from __future__ import annotations

import inspect
import os
import sys
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlfn.errors import InputNotFoundError, ParameterError, nearest
from mlfn.execution import CallShape
from mlfn.hints import annotated, context_parameter, raw_annotations
from mlfn.inputs import DataItem
from mlfn.packers import annotation_name, wants_input

_MISSING = inspect.Parameter.empty


class Signature:
    """What a caller may pass: the handler's own parameters without its context."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.name = name
        whole = _signature(function)
        self.annotations = _annotations(function)
        self.context = context_parameter(function)
        parameters = [p for p in whole.parameters.values() if p.name != self.context]
        self._python = whole.replace(parameters=parameters, return_annotation=_MISSING)
        self.parameters = {p.name: p for p in parameters}
        self.shape = CallShape(
            positional=tuple(p.name for p in parameters if p.kind is p.POSITIONAL_ONLY),
            varargs=next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None),
            varkw=next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None),
            context=self.context,
        )
        if self.shape.varargs:
            # What stands before *args can only be given by position when there is more.
            before = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
            self.shape = CallShape(tuple(before), self.shape.varargs, self.shape.varkw, self.context)
        self._checkers: dict[str, Callable[[Any], Any]] = {}

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameters by name, or raise ParameterError that names the one at fault."""
        try:
            return self._python.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise ParameterError(self._explain(args, kwargs, error)) from None

    def bind_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
        """Return the arguments as Python binds them, for a plain call; its TypeError is Python's own."""
        return self._python.bind(*args, **kwargs)

    def check(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return `params` with texts that name inputs as DataItem; raise ParameterError for one that does not fit."""
        return {name: self._checked(name, value) for name, value in params.items()}

    def _checked(self, name: str, value: Any) -> Any:
        if name in (self.shape.varargs, self.shape.varkw):
            return value
        annotation = self.annotations.get(name, _MISSING)
        if annotation is _MISSING or type(value) is annotation:
            return value
        if getattr(value, "__mlfn_reference__", False):
            return value  # an output of another run: its value is not there yet
        if isinstance(value, str) and wants_input(annotation):
            if annotation_name(annotation) == "pathlib.Path":
                return Path(value)
            value = DataItem(value)
        if isinstance(value, DataItem):
            return _existing(value, annotation_name(annotation), f"{self.name}({name}=...)")
        if name not in self._checkers:
            self._checkers[name] = _checker(annotation)
        try:
            return self._checkers[name](value)
        except ValueError as error:
            raise ParameterError(
                f"{self.name}({name}={_short(value)}) does not fit {shown_annotation(annotation)}: {error}"
            ) from error

    def _explain(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], error: TypeError) -> str:
        for name, value in kwargs.items():
            if name not in self.parameters and self.shape.varkw is None:
                if name == self.context:
                    return f"{self.name}({name}=...) is filled in by the run: leave it out."
                return (
                    f"{self.name}() has no parameter {name!r} (value {_short(value)}): {nearest(name, self.parameters)}"
                )
        given = list(self.parameters)[: len(args)]
        required = [
            p
            for p in self.parameters.values()
            if p.default is _MISSING and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
        lacking = [p.name for p in required if p.name not in given and p.name not in kwargs]
        if lacking:
            first = lacking[0]
            wanted = f" ({shown_annotation(self.annotations[first])})" if first in self.annotations else ""
            return f"{self.name}() lacks parameter {first!r}{wanted}: pass it, as in submit({first}=...)."
        if len(args) > len(self.parameters):
            return f"{self.name}() takes {len(self.parameters)} parameters ({', '.join(self.parameters)}) and got {len(args)} by position."
        return f"{self.name}(): {error}."


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
    """Return resolved annotations; one that cannot be resolved here leaves its parameter unchecked."""
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


def _checker(annotation: Any) -> Callable[[Any], Any]:
    """Return a function that gives a value back if it fits, and raises ValueError if not."""
    adapters = type_adapter(annotation)
    if adapters is None:
        return lambda value: value
    adapter = adapters

    def check(value: Any) -> Any:
        from pydantic import ValidationError

        try:
            adapter.validate_python(value, strict=True)
            return value  # as it was given: an int stays an int where a float is declared
        except ValidationError as error:
            said = error.errors()[0]
        plain = _plain_number(value)
        if plain is not None:
            return check(plain) and value
        if isinstance(value, Mapping):  # fields of a model, dataclass or TypedDict
            try:
                return adapter.validate_python(dict(value))
            except ValidationError as error:
                said = error.errors()[0]
        where = "".join(f"[{part!r}]" for part in said["loc"])
        raise ValueError(f"{where + ': ' if where else ''}{said['msg']}.")

    return check


def type_adapter(annotation: Any) -> Any:
    """Return pydantic's TypeAdapter for an annotation; None for a type that it cannot read."""
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter

    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:
        pass  # models bring a configuration of their own
    except Exception:  # noqa: BLE001 - a type that pydantic cannot read is a type that is not checked
        return None
    try:
        return TypeAdapter(annotation)
    except Exception:  # noqa: BLE001 - as above
        return None


def _plain_number(value: Any) -> Any:
    """Return the Python number inside a NumPy scalar."""
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        item = value.item()
        return item if type(item) in (bool, int, float, complex) else None
    return None


def _existing(item: DataItem, kind: str | None, where: str) -> DataItem:
    path = item.local_path()
    if os.path.exists(path):
        return DataItem(path, kind)
    folder = os.path.dirname(path)
    near = (
        nearest(os.path.basename(path), os.listdir(folder)[:50]) if os.path.isdir(folder) else f"{folder} is no folder."
    )
    raise InputNotFoundError(f"{where} names an input that is not there: {path}. {near}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def shown_annotation(annotation: Any) -> str:
    """Return an annotation as its author would write it."""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return (
            annotation.__qualname__
            if annotation.__module__ == "builtins"
            else f"{annotation.__module__}.{annotation.__qualname__}"
        )
    return str(annotation).replace("typing.", "")
