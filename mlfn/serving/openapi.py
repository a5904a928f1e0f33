"""The description of a service as an OpenAPI document, out of the function's signature."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from mlfn.artifacts.inputs import annotation_name
from mlfn.serving.answers import BYTES, JSON, TEXT
from mlfn.serving.bodies import TABLES
from mlfn.serving.parameters import Parameters
from mlfn.worker.context import annotated
from mlfn.worker.fitting import type_adapter

_REFS = "#/components/schemas/{model}"
_DEEPEST = 4  # levels of an example


def openapi(
    parameters: Parameters, *, version: str, outputs: tuple[str, ...] = (), needs_token: bool = False
) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of a function."""
    name = parameters.name
    definitions: dict[str, Any] = {}
    body = _defined(parameters.schema(_REFS), definitions)
    body["title"] = name
    responses = {"200": _answer(parameters, outputs, definitions), "400": _problem("A parameter does not fit")}
    responses |= {"500": _problem("The function failed"), "503": _problem("All workers are busy")}
    text = inspect.getdoc(annotated(parameters.signature.function)) or ""
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": text.partition("\n")[0],
        "requestBody": {
            "required": bool(body.get("required")),
            "content": {
                kind: {"schema": body, "example": example_of(body, definitions)} for kind in _taken(parameters)
            },
        },
        "responses": responses,
    }
    components: dict[str, Any] = {"schemas": {**definitions, "Problem": _PROBLEM}}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": name, "version": version, "description": text},
        "paths": {"/": {"post": operation}},
        "components": components,
    }
    if needs_token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def example_of(schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int = 0) -> Any:
    """Return a value that a schema allows: its default or first choice where it has one."""
    if "$ref" in schema:
        return example_of(definitions.get(schema["$ref"].rpartition("/")[2], {}), definitions, depth)
    given = [schema[key] for key in ("default", "const") if schema.get(key) is not None]
    given += [schema[key][0] for key in ("examples", "enum") if schema.get(key)]
    if given:
        return given[0]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return example_of(schema[key][0], definitions, depth)
    return _example_of_type(schema, definitions, depth) if depth <= _DEEPEST else None


def _example_of_type(schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int) -> Any:
    kind = schema.get("type")
    if kind == "object":
        properties: Mapping[str, Any] = schema.get("properties", {})
        return {name: example_of(item, definitions, depth + 1) for name, item in properties.items()}
    if kind == "array":
        items = schema.get("prefixItems") or [schema.get("items") or {}]
        return [example_of(item, definitions, depth + 1) for item in items]
    text = _TEXTS.get(schema.get("format", ""), "text")
    plain = {"integer": schema.get("minimum", 1), "number": 1.0, "boolean": True, "string": text}
    return plain.get(str(kind))


_TEXTS = {"date": "2026-01-31", "date-time": "2026-01-31T12:00:00Z", "uuid": "00000000-0000-4000-8000-000000000000"}
_PROBLEM = {
    "type": "object",
    "properties": {
        "error": {"type": "string"},
        "field": {"type": "string"},
        "request": {"type": "string"},
    },
    "required": ["error"],
}


def _defined(schema: Mapping[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without its definitions, which go to those of the document."""
    definitions.update(schema.get("$defs", {}))
    return {name: value for name, value in schema.items() if name != "$defs"}


def _taken(parameters: Parameters) -> list[str]:
    """Return the content types that a function takes."""
    only = parameters.only
    annotation = parameters.signature.annotations.get(only) if only else None
    kinds = [JSON]
    if annotation_name(annotation) == "pandas.DataFrame":
        kinds += TABLES
    if annotation is bytes:
        kinds.append(BYTES)
    if annotation is str:
        kinds.append("text/plain")
    return kinds


def _answer(parameters: Parameters, outputs: tuple[str, ...], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the response of a success, as the returned type says."""
    wanted = parameters.signature.annotations.get("return", Any)
    if wanted in (str, bytes):
        return {"description": "What it returns", "content": {TEXT if wanted is str else BYTES: {}}}
    if annotation_name(wanted) == "pandas.DataFrame":
        rows = {"schema": {"type": "array", "items": {"type": "object"}}}
        return {"description": "A table", "content": {JSON: rows, **{kind: {} for kind in TABLES}}}
    schema: dict[str, Any] = {}
    adapter = None if len(outputs) > 1 else type_adapter(wanted)
    if adapter is not None:
        with suppress(Exception):  # a type without a schema is described as anything
            schema = _defined(adapter.json_schema(mode="serialization", ref_template=_REFS), definitions)
    if len(outputs) > 1:
        schema = {"type": "object", "properties": {name: {} for name in outputs}}
    return {"description": "What it returns", "content": {JSON: {"schema": schema}}}


def _problem(text: str) -> dict[str, Any]:
    return {"description": text, "content": {JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
