"""The handler contract on Nuclio's own processor."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from urllib.parse import urlsplit

from mlfn.testing.handler import Reply, functions
from mlfn.testing.handler.cases import TableCases
from mlfn.testing.handler.client import Caller


class TestProcessor(TableCases):
    def serve(self, name: str) -> Caller:
        service = getattr(functions, name).deploy()
        address = urlsplit(service.url).netloc

        def call(method: str, path: str = "/", *, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
            connection = http.client.HTTPConnection(address, timeout=30)
            connection.request(method, path, body=body or None, headers=dict(headers or {}))
            answer = connection.getresponse()
            found = {key.lower(): value for key, value in answer.getheaders()}
            reply = Reply(answer.status, answer.read(), found)
            connection.close()
            return reply

        return call
