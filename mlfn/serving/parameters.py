"""From an event to the parameters of a function: JSON, form, query, text, bytes and tables, checked against the annotations."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from typing import Any

from mlfn.artifacts.inputs import annotation_name
from mlfn.dispatch.signature import Signature
from mlfn.errors import meant
from mlfn.serving import bodies
from mlfn.serving.answers import RefusedError, misfit, refusal
from mlfn.serving.events import Event
from mlfn.worker.fitting import short, shown_annotation, type_adapter

_TABLES = ("pandas.DataFrame", "pandas.Series", "numpy.ndarray")


class Parameters:
    """Reads the parameters of one function out of events.

    JSON is held to the annotations as strictly as `submit` holds values; what a form or a query says are texts, of which the
    annotated types are made.
    """

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.name = signature.name
        self._varkw = signature.shape.varkw
        self.annotations = {name: _readable(signature, name) for name in signature.parameters if name != self._varkw}
        self._others = _readable(signature, self._varkw) if self._varkw else Any
        self._required = set(signature.required())
        named = [name for name in self.annotations if name in self._required] or list(self.annotations)
        self.only = named[0] if len(named) == 1 else None
        self._whole = whole = _validator(self.annotations, self._required, allow_more=self._varkw is not None)
        self._from_json: Callable[..., dict[str, Any]] = whole.validate_json
        self._from_python: Callable[..., dict[str, Any]] = whole.validate_python
        self._one: dict[str, Any] = {}
        from pydantic import ValidationError

        self._misfit = ValidationError

    def read(self, event: Event) -> dict[str, Any]:
        """Return the parameters by name; RefusedError with status 400, 413 or 415 for an event that does not fit."""
        body = event.body
        kind = event.content_type
        if kind == "application/json" and body and not event.query:
            return self._checked_json(body if type(body) is bytes else bodies.to_json(body))
        return self._mixed(event)

    def schema(self, references: str) -> dict[str, Any]:
        """Return the JSON schema of a body, with the defaults; of a type that has none, that of anything."""
        from pydantic.errors import PydanticInvalidForJsonSchema

        try:
            found: dict[str, Any] = self._whole.json_schema(ref_template=references)
        except PydanticInvalidForJsonSchema:
            found = {"type": "object", "properties": {name: {} for name in self.annotations}}
            found["required"] = [name for name in self.annotations if name in self._required]
        for name, value in self.signature.defaults().items():
            if isinstance(value, (str, int, float, bool, list, type(None))):
                found["properties"][name] = {**found["properties"].get(name, {}), "default": value}
        return found

    def _checked_json(self, body: bytes) -> dict[str, Any]:
        try:
            found = self._from_json(body, strict=True)
        except self._misfit as error:
            return self._not_an_object(body, error)
        if self._varkw is None:
            return found
        others = [name for name in found if name not in self.annotations]
        return self._with_others(
            {**found, **{name: self._single_json(name, bodies.to_json(found[name])) for name in others}}
        )

    def _not_an_object(self, body: bytes, error: Any) -> dict[str, Any]:
        """Return the only parameter where the body is its value, as in ``[[1, 2], [3, 4]]``; else refuse."""
        first = error.errors(include_url=False, include_context=False)[0]
        if first["type"] == "json_invalid":
            raise refusal(400, f"The body is no JSON: {first['msg'].partition(': ')[2] or first['msg']}.") from None
        if not first["loc"] and first["type"] in ("dict_type", "typed_dict_type"):
            if self.only is None:
                raise refusal(
                    400,
                    f"The body is {_shown_body(body)}, but {self.name}() takes parameters by name: send an object, as in "
                    f"{self.example()}.",
                ) from None
            return {self.only: self._single_json(self.only, body)}
        raise self._explained(error) from None

    def _single_json(self, name: str, body: bytes) -> Any:
        try:
            return self._adapter(name).validate_json(body, strict=True)
        except self._misfit as error:
            raise self._explained(error, name) from None

    def _mixed(self, event: Event) -> dict[str, Any]:
        """Return the parameters of an event that is not plain JSON, or has a query too."""
        texts = self._grouped(event.fields)
        form = bodies.read_form(event)
        if form is not None:
            texts = _joined(texts, self._grouped(form))
            return self._checked_texts(texts, {})
        sort, body = bodies.sort_of(event)
        if sort == "empty":
            return self._checked_texts(texts, {})
        if sort == "json":
            if not texts:
                return self._checked_json(body)
            parsed = bodies.from_json(body)
            if not isinstance(parsed, dict):
                parsed = {self.only: parsed} if self.only and self.only not in texts else parsed
            if not isinstance(parsed, dict):
                raise refusal(400, f"The body is {_shown_body(body)}: with a query, send an object.")
            given = {name: self._single_json(name, bodies.to_json(value)) for name, value in self._known(parsed)}
            return self._checked_texts(texts, given)
        return self._checked_texts(texts, {self._whole_body(): self._of_body(sort, body, event)})

    def _known(self, parsed: Mapping[str, Any]) -> list[tuple[str, Any]]:
        for name in parsed:
            if name not in self.annotations and self._varkw is None:
                raise misfit(self._unknown(name), [{"field": name, "message": "Unknown parameter"}])
        return list(parsed.items())

    def _whole_body(self) -> str:
        """Return the parameter that a body without names is."""
        if self.only is None:
            raise refusal(
                415, f"{self.name}() takes several parameters: send them by name, as JSON such as {self.example()}."
            )
        return self.only

    def _of_body(self, sort: str, body: bytes, event: Event) -> Any:
        name = self._whole_body()
        annotation = self.signature.annotations.get(name)
        if sort in bodies.TABLE_READERS:
            if annotation_name(annotation) != "pandas.DataFrame":
                raise refusal(415, f"{self.name}({name}=...) takes no table, and {event.content_type} is one.")
            return bodies.read_table(sort, body)
        if annotation is bytes:
            return body
        if sort == "bytes":
            raise refusal(415, f"{self.name}({name}=...) takes no bytes: send JSON, such as {self.example()}.")
        text = bodies.as_text(body, event.content_type)
        return text if annotation is str else self._of_text(name, text)

    def _checked_texts(self, texts: Mapping[str, list[Any]], given: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameters of which some are texts, and some are `given` as they are to be."""
        found = dict(given)
        for name, values in texts.items():
            if name in given:
                raise misfit(
                    f"{self.name}({name}=...) stands both in the query and in the body: send it once.",
                    [{"field": name, "message": "Given twice"}],
                )
            if name not in self.annotations and self._varkw is None:
                raise misfit(self._unknown(name), [{"field": name, "message": "Unknown parameter"}])
            found[name] = self._of_texts(name, values)
        for name in self.annotations:
            if name in self._required and name not in found:
                raise misfit(self._lacking(name), [{"field": name, "message": "Field required"}])
        return found if self._varkw is None else self._with_others(found)

    def _of_texts(self, name: str, values: list[Any]) -> Any:
        annotation = self.annotations.get(name, self._others)
        if _takes_several(annotation) and not (len(values) == 1 and str(values[0]).lstrip().startswith("[")):
            return self._fitting(name, values)
        if len(values) > 1:
            raise misfit(
                f"{self.name}({name}=...) is given {len(values)} times: send it once.",
                [{"field": name, "message": "Given more than once"}],
            )
        return self._of_text(name, values[0])

    def _of_text(self, name: str, value: Any) -> Any:
        """Return a parameter made of a text: of the text itself, else of the JSON that it is."""
        try:
            return self._adapter(name).validate_python(value)
        except self._misfit as error:
            text = value.lstrip() if isinstance(value, str) else ""
            if text[:1] in ("{", "["):
                return self._single_json(name, text.encode())
            raise self._explained(error, name) from None

    def _fitting(self, name: str, value: Any) -> Any:
        try:
            return self._adapter(name).validate_python(value)
        except self._misfit as error:
            raise self._explained(error, name) from None

    def _adapter(self, name: str) -> Any:
        if name not in self._one:
            self._one[name] = type_adapter(self.annotations.get(name, self._others))
        return self._one[name]

    def _grouped(self, fields: list[tuple[str, Any]]) -> dict[str, list[Any]]:
        grouped: dict[str, list[Any]] = {}
        for name, value in fields:
            grouped.setdefault(name, []).append(value)
        return grouped

    def _with_others(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters with those that only ``**kwargs`` takes beneath its name."""
        assert self._varkw is not None
        own = {name: value for name, value in found.items() if name in self.annotations}
        return {**own, self._varkw: {name: value for name, value in found.items() if name not in own}}

    def _explained(self, error: Any, name: str = "") -> RefusedError:
        """Return the error for what pydantic found: its first problem in words, and all of them by field."""
        found = error.errors(include_url=False, include_context=False)
        found.sort(
            key=lambda item: item["type"] != "extra_forbidden"
        )  # a name in other letters explains one that is missing
        problems = []
        for item in found[:50]:
            loc = (name, *item["loc"]) if name else item["loc"]
            problems.append({"field": _path(loc), "message": item["msg"]})
        first, loc = found[0], (name, *found[0]["loc"]) if name else found[0]["loc"]
        if len(loc) == 1 and first["type"] == "missing":
            return misfit(self._lacking(loc[0]), problems)
        if len(loc) == 1 and first["type"] == "extra_forbidden":
            return misfit(self._unknown(loc[0]), problems)
        if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            first = {**first, "msg": "There is no such field"}
        wanted = self.signature.annotations.get(str(loc[0])) if loc else None
        message = (
            f"{self.name}({_path(loc)}={short(first['input'])}) does not fit"
            f"{f' {shown_annotation(wanted)}' if wanted is not None else ''}: {first['msg']}."
        )
        return misfit(message, problems)

    def _lacking(self, name: str) -> str:
        annotation = self.signature.annotations.get(name)
        wanted = f" ({shown_annotation(annotation)})" if annotation is not None else ""
        return f"{self.name}() lacks parameter {name!r}{wanted}: send it, as in {self.example()}."

    def _unknown(self, name: str) -> str:
        allowed = ", ".join(self.annotations) or "none"
        return f"{self.name}() has no parameter {name!r}: {meant(name, self.annotations)}Allowed: {allowed}."

    def example(self) -> str:
        """Return the JSON of a call in outline."""
        names = [name for name in self.annotations if name in self._required] or list(self.annotations)[:1]
        return "{" + ", ".join(f'"{name}": ...' for name in names) + "}"


def _validator(annotations: Mapping[str, Any], required: set[str], *, allow_more: bool) -> Any:
    """Return pydantic's validator of a mapping of parameters."""
    import typing_extensions
    from pydantic import ConfigDict, TypeAdapter

    fields = {
        name: typing_extensions.Required[kind] if name in required else typing_extensions.NotRequired[kind]
        for name, kind in annotations.items()
    }
    make: Any = typing_extensions.TypedDict
    whole = make("Parameters", fields)
    # It holds for the dataclasses in it too, which have none of their own.
    whole.__pydantic_config__ = ConfigDict(extra="allow" if allow_more else "forbid", arbitrary_types_allowed=True)
    return TypeAdapter(whole)


def _readable(signature: Signature, name: str) -> Any:
    """Return what pydantic reads a parameter as: its annotation, or a table's plain form; Any for what it cannot read."""
    annotation = signature.annotations.get(name, Any)
    if name == signature.shape.varargs:
        annotation = list[annotation]  # type: ignore[valid-type]
    if (kind := annotation_name(annotation)) in _TABLES:
        return bodies.table_annotation(str(kind), annotation)
    return Any if type_adapter(annotation) is None else annotation


def _takes_several(annotation: Any) -> bool:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _takes_several(typing.get_args(annotation)[0])
    if origin in (list, tuple, set, frozenset) or annotation in (list, tuple, set, frozenset):
        return True
    return origin is not None and any(
        _takes_several(item) for item in typing.get_args(annotation) if origin is typing.Union
    )


def _joined(one: Mapping[str, list[Any]], other: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {name: [*one.get(name, ()), *other.get(name, ())] for name in {**one, **other}}


def _path(loc: Any) -> str:
    """Return where a value stands: ``rows[0][1]``."""
    first, *rest = loc or ("body",)
    return f"{first}" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest)


def _shown_body(body: bytes) -> str:
    parsed = bodies.from_json(body)
    names: dict[type, str] = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(parsed), "a number")
