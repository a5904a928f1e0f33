"""`Reply`: what an event was answered with, as a client of a service or of a mock has it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mlfn.errors import ServiceError
from mlfn.serving.answers import JSON
from mlfn.serving.returned import LINES


class Reply:
    """What an event was answered with.

    `status` is the HTTP status, `body` the bytes, `headers` by their usual names. Of a mock, `error` is what the handler
    raised, which a client never sees.
    """

    def __init__(
        self,
        status: int,
        body: bytes,
        content_type: str,
        headers: Mapping[str, str],
        error: BaseException | None = None,
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers
        self.error = error

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """Return the body read as JSON; of a stream of JSON lines, a list."""
        if self.content_type == LINES:
            return [json.loads(line) for line in self.body.splitlines()]
        return json.loads(self.body)

    def value(self) -> Any:
        """Return what the function returned, as a client has it: JSON read, text as text, bytes as bytes.

        Raises what the handler raised, and ServiceError for any other answer that is no success.
        """
        if self.error is not None:
            raise self.error
        if self.status >= 400:
            raise ServiceError(f"The answer is {self.status}: {said(self.body)}")
        return read_value(self.body, self.content_type)

    def __repr__(self) -> str:
        shown = self.text if len(self.text) <= 200 else f"{self.text[:200]}..."
        return f"<Reply {self.status} {self.content_type} {shown!r}>"


def read_value(body: bytes, content_type: str) -> Any:
    """Return a body as the value that it is: JSON read, JSON lines as a list, text as text, all else as bytes."""
    kind = content_type.partition(";")[0].strip()
    if kind == JSON:
        return json.loads(body)
    if kind == LINES:
        return [json.loads(line) for line in body.splitlines()]
    return body.decode("utf-8", "replace") if kind.startswith("text/") else body


def said(body: bytes) -> str:
    """Return the words of an answer that is no success."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body.decode("utf-8", "replace")[:500]
