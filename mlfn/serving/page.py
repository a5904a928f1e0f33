"""The page on which a service can be tried: one file without others, from nowhere else."""

from __future__ import annotations

import html
import json
import pkgutil
from collections.abc import Mapping
from string import Template
from typing import Any

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def page(document: Mapping[str, Any]) -> bytes:
    """Return the page for a service's OpenAPI document, as HTML."""
    content_of_page = pkgutil.get_data("mlfn.serving", "page.html")  # also out of an archive, as in a pod
    assert content_of_page is not None
    template = Template(content_of_page.decode())
    operation = document["paths"]["/"]["post"]
    content = operation["requestBody"]["content"]["application/json"]
    info = document["info"]
    shown = {
        "title": html.escape(info["title"]),
        "version": html.escape(info["version"]),
        "text": html.escape(info["description"]),
        "rows": "".join(_rows(content["schema"], document)),
        "example": html.escape(json.dumps(content["example"], indent=2, ensure_ascii=False)),
        "token": "" if "security" in document else "hidden",
    }
    return template.substitute(shown).encode("utf-8", "replace")


def _rows(schema: Mapping[str, Any], document: Mapping[str, Any]) -> list[str]:
    required = schema.get("required", ())
    return [
        f"<tr><td><code>{html.escape(name)}</code></td><td>{html.escape(_kind(item, document))}</td>"
        f"<td>{'required' if name in required else html.escape(_default(item))}</td></tr>"
        for name, item in schema.get("properties", {}).items()
    ]


def _kind(schema: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    """Return what a schema allows, in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " | ".join(_kind(item, document) for item in schema[key])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items') or {}, document)}"
    return str(schema.get("format") or schema.get("type") or "anything")


def _default(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema["default"], ensure_ascii=False) if "default" in schema else "optional"
