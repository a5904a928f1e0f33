"""The OpenAPI document of a function, and the page to try it."""

from __future__ import annotations

import re
from typing import Any

import mlfn
from mlfn.dispatch.signature import Signature
from mlfn.serving.openapi import openapi
from mlfn.serving.page import page
from mlfn.serving.parameters import Parameters
from mlfn.testing.handler import functions


def described(name: str, **more: Any) -> dict[str, Any]:
    function = getattr(functions, name).__mlfn_function__
    return openapi(Parameters(Signature(function, name)), version="0123", **more)


def schema(document: dict[str, Any]) -> dict[str, Any]:
    content = document["paths"]["/"]["post"]["requestBody"]["content"]
    found: dict[str, Any] = content["application/json"]["schema"]
    return found


def test_parameters_have_their_types_and_defaults() -> None:
    document = described("typed")

    assert schema(document)["required"] == ["rows"]
    assert schema(document)["properties"]["scale"]["default"] == 1.0
    assert document["info"]["description"].startswith("Add up each row.")
    assert document["paths"]["/"]["post"]["responses"]["200"]["content"]["application/json"]["schema"] == {
        "items": {"type": "number"},
        "type": "array",
    }


def test_classes_are_components() -> None:
    document = described("rich")

    assert document["components"]["schemas"]["Point"]["properties"]["x"]["type"] == "integer"
    assert schema(document)["properties"]["point"] == {"$ref": "#/components/schemas/Point"}
    assert "$defs" not in str(document)


def test_the_example_can_be_sent() -> None:
    for name in ("typed", "rich", "text", "named", "with_context", "streamed", "table"):
        document = described(name)
        [example] = {
            str(item.get("example")) for item in document["paths"]["/"]["post"]["requestBody"]["content"].values()
        }
        sent = document["paths"]["/"]["post"]["requestBody"]["content"]["application/json"]["example"]

        answer = getattr(functions, name).mock().post(sent)
        assert answer.status in (200, 500) and "does not fit" not in answer.text, (name, example, answer)


def test_a_type_without_schema_is_anything() -> None:
    class Own: ...

    def strange(own: Own, n: int = 1) -> Own:
        return own

    strange.__annotations__ = {"own": Own, "n": int, "return": Own}
    document = openapi(Parameters(Signature(strange, "strange")), version="0")

    assert schema(document)["required"] == ["own"]


def test_a_token_is_described() -> None:
    assert described("typed", needs_token=True)["security"] == [{"token": []}]
    assert "security" not in described("typed")


def test_the_page_loads_nothing_from_elsewhere() -> None:
    shown = page(described("rich")).decode()

    assert not re.search(r"(src|href)=\"?(https?:)?//", shown)
    assert "<code>point</code>" in shown and "RED" not in shown
    assert "$title" not in shown and "$rows" not in shown


def test_the_page_escapes_what_a_function_says() -> None:
    def risky(x: str = "</textarea><script>alert(1)</script>") -> str:
        """Do <b>this</b>."""
        return x

    shown = page(openapi(Parameters(Signature(risky, "risky")), version="0")).decode()

    assert "<script>alert" not in shown and "<b>this" not in shown


def test_the_kind_is_public() -> None:
    assert mlfn.Nuclio().http == mlfn.Http()
