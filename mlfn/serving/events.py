"""`Event`: what calls a function, whichever trigger it came through."""

from __future__ import annotations

import functools
import itertools
import os
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

RawHeaders = Iterable[tuple[bytes, bytes]]


class Event:
    """One event. The server makes one for each request: headers and query are read when they are asked for.

    `body` is bytes, but where an engine has parsed it already; `trigger` and `trigger_name` say what it came through, and
    `original` is the event of the engine itself, where there is one.
    """

    __slots__ = (
        "_fields",
        "_headers",
        "_id",
        "body",
        "content_type",
        "method",
        "offset",
        "original",
        "path",
        "query",
        "raw_headers",
        "shard",
        "timestamp",
        "topic",
        "trigger",
        "trigger_name",
        "url",
    )

    def __init__(
        self,
        body: Any = b"",
        *,
        content_type: str = "",
        method: str = "POST",
        path: str = "/",
        query: bytes = b"",
        raw_headers: RawHeaders = (),
        trigger: str = "http",
        trigger_name: str = "http",
        topic: str = "",
        url: str = "",
        shard: int = -1,
        offset: int = 0,
        event_id: str = "",
    ) -> None:
        self.body = body
        self.content_type = content_type
        self.method = method
        self.path = path
        self.query = query
        self.raw_headers = raw_headers
        self.trigger = trigger
        self.trigger_name = trigger_name
        self.topic = topic
        self.url = url
        self.shard = shard
        self.offset = offset
        self.original: Any = None
        self.timestamp = time.time()
        self._id = event_id
        self._headers: dict[str, str] | None = None
        self._fields: list[tuple[str, str]] | None = None

    @property
    def id(self) -> str:
        """Its own id, under which the log has it."""
        if not self._id:
            self._id = f"{_process_id()}{next(_numbers):08x}"
        return self._id

    @property
    def headers(self) -> dict[str, str]:
        """The headers by their usual names, as in ``Content-Type``; of one given twice, the last."""
        if self._headers is None:
            self._headers = {usual_name(name): value.decode("latin-1") for name, value in self.raw_headers}
        return self._headers

    @property
    def fields(self) -> list[tuple[str, str]]:
        """The names and values of the query, in their order."""
        if self._fields is None:
            text = self.query.decode("utf-8", "replace")
            self._fields = parse_qsl(text, keep_blank_values=True, max_num_fields=1000) if text else []
        return self._fields

    def use_fields(self, fields: list[tuple[str, str]]) -> None:
        """Take the names and values of the query as an engine has read them."""
        self._fields = fields
        self.query = b"?" if fields else b""

    def header(self, name: bytes) -> str:
        """Return a header by its name in small letters; an empty text where it is not there."""
        for key, value in self.raw_headers:
            if key == name:
                return value.decode("latin-1")
        return ""


_numbers = itertools.count(1)


@functools.cache
def _process_id() -> str:
    """Return what the ids of this process begin with: to draw each whole takes as long as a handler does."""
    return os.urandom(8).hex()


os.register_at_fork(after_in_child=_process_id.cache_clear)


@functools.lru_cache(maxsize=1024)
def usual_name(name: bytes) -> str:
    """Return the name of a header as it is usually written: ``X-Request-Id``."""
    return "-".join(part.capitalize() for part in name.decode("latin-1").split("-"))
