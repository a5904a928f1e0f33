"""The handler contract on the embedded server: real sockets, real processes."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import mlfn
from mlfn.testing.handler import Reply, functions
from mlfn.testing.handler.cases import TableCases
from mlfn.testing.handler.client import Caller


@pytest.fixture(autouse=True)
def data(local: Path) -> Iterator[None]:
    """Give the case a data folder, and end the services that it has deployed there."""
    yield
    for service in mlfn.services():
        service.delete()


class TestEmbeddedServer(TableCases):
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
