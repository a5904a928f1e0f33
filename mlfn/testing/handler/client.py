"""What a case sends to a handler, and what comes back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from mlfn.host.frozen import frozen


@frozen
class Reply:
    """An answer as a client of HTTP has it; names of headers in small letters."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def content_type(self) -> str:
        """The content type without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip()

    def json(self) -> Any:
        """Return the body read as JSON."""
        return json.loads(self.body)


class Caller(Protocol):
    """Sends requests to one served function."""

    def __call__(
        self, method: str, path: str = "/", *, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send one request, and return its answer."""
        ...
