"""The handler contract on the mock, and on what is deployed to Nuclio; the embedded server's member is in tests/integration."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

import nuclio_sdk

from mlfn.backends.hosts.server_options import ServerOptions
from mlfn.serving.processor import Service
from mlfn.testing.handler import Reply, functions
from mlfn.testing.handler.cases import TableCases
from mlfn.testing.handler.client import Caller

HTTP = sys.modules["nuclio_sdk.event"].TriggerInfo("http", "http")


class TestMock(TableCases):
    def serve(self, name: str) -> Caller:
        mock = getattr(functions, name).mock()

        def call(method: str, path: str = "/", *, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
            plain, _, query = path.partition("?")
            answer = mock.request(
                method, plain, body=body, headers=headers, query=parse_qs(query, keep_blank_values=True)
            )
            made = {name.lower(): value for name, value in answer.headers.items()}
            return Reply(answer.status, answer.body, {**made, "content-type": answer.content_type})

        return call


class TestModuleOfProcessor(TableCases):
    """What is deployed to Nuclio's processor, called as its Python wrapper calls it; the wrapper's own part is its `answered`."""

    def serve(self, name: str) -> Caller:
        function = getattr(functions, name)
        context = nuclio_sdk.Context(nuclio_sdk.Logger(logging.INFO), nuclio_sdk.Platform("local"), "0", HTTP)
        service = Service("0123")
        outputs = function.__mlfn_declared__.outputs
        options = ServerOptions(name=name, project="p", version="0123", binding={}, outputs=outputs, host="0.0.0.0")
        service.use(function._code, context, options, {})

        def call(method: str, path: str = "/", *, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
            return answered(service.handle(context, event_of(method, path, body, dict(headers or {}))))

        return call


def event_of(method: str, path: str, body: bytes, headers: dict[str, str]) -> Any:
    """Return an event as the wrapper makes it: the last of two fields wins, and plain JSON is parsed."""
    plain, _, query = path.partition("?")
    content_type = headers.get("Content-Type", "")
    parsed: Any = body
    if content_type == "application/json":
        with suppress(ValueError):
            parsed = json.loads(body)
    return nuclio_sdk.Event(
        body=parsed if body or content_type else None,
        content_type=content_type,
        trigger=HTTP,
        fields={key: values[-1] for key, values in parse_qs(query, keep_blank_values=True).items()},
        headers=headers,
        _id="always the same",
        method=method,
        path=plain,
        size=len(body),
        shard_id=-1,
    )


def answered(made: Any) -> Reply:
    """Return what a client gets for a handler's Response, as the wrapper sends it: whole, JSON and base64."""
    made = asyncio.run(made) if inspect.iscoroutine(made) else made
    assert isinstance(made.body, (str, bytes)) and all(type(value) is str for value in made.headers.values())
    sent = nuclio_sdk.Response.from_entrypoint_output(json.dumps, made)
    body = base64.b64decode(sent["body"]) if sent["body_encoding"] == "base64" else sent["body"].encode()
    headers = {key.lower(): value for key, value in sent["headers"].items()}
    return Reply(sent["status_code"], body, {**headers, "content-type": sent["content_type"]})
