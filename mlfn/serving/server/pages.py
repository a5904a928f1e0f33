"""What a service shows besides its function: its health, counts, description, and the page to try it."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Mapping
from typing import Any

from mlfn.backends.hosts.server_options import ServerOptions
from mlfn.serving.adapter import Adapter
from mlfn.serving.answers import Answer
from mlfn.serving.openapi import openapi
from mlfn.serving.page import POLICY, page
from mlfn.serving.server.limits import is_loopback
from mlfn.serving.server.statistics import Statistics
from mlfn.serving.typed import TypedAdapter

INTERNAL = "/__internal/"
"""Paths that begin so are the server's own, as with Nuclio."""


class Page(Answer):
    """A page of the server's own: no request of the function, so not counted as one."""

    __slots__ = ()


class Pages(Container[str]):
    """The pages of one function, by their paths."""

    def __init__(self, adapter: Adapter, options: ServerOptions, statistics: Statistics) -> None:
        self._adapter = adapter
        self._options = options
        self._statistics = statistics
        self._document: dict[str, Any] | None = None
        self._made = {
            f"{INTERNAL}health": self.health,
            f"{INTERNAL}metrics": self._metrics,
            **({} if not isinstance(adapter, TypedAdapter) else self._typed()),
        }

    def _typed(self) -> dict[str, Callable[[], Page]]:
        return {
            "/metrics": self._metrics,
            "/openapi.json": lambda: Page(json.dumps(self._described()).encode()),
            "/docs": self.page,
        }

    def __contains__(self, path: object) -> bool:
        return path in self._made

    def is_open(self, path: str) -> bool:
        """Say whether a path is the page to try it, which a browser asks for without the token: the page asks whoever tries it."""
        return path == "/docs" and path in self and bool(self._options.token) and is_loopback(self._options.host)

    def shown(self, path: str, headers: Mapping[bytes, bytes]) -> Page | None:
        """Return the page of a path; None where the path is the function's own."""
        made = self._made.get(path)
        if made is None and path == "/" and "/docs" in self and b"text/html" in headers.get(b"accept", b""):
            made = self.page
        return made() if made is not None else None

    def health(self) -> Page:
        """Return what a probe gets."""
        return Page(json.dumps({"status": "ready", "version": self._options.version}).encode())

    def page(self) -> Page:
        """Return the page to try it."""
        return Page(page(self._described()), "text/html; charset=utf-8", headers=[("Content-Security-Policy", POLICY)])

    def _metrics(self) -> Page:
        text = self._statistics.prometheus(self._options.name)
        return Page(text.encode(), "text/plain; version=0.0.4; charset=utf-8")

    def _described(self) -> dict[str, Any]:
        assert isinstance(self._adapter, TypedAdapter)
        if self._document is None:
            self._document = openapi(
                self._adapter.parameters,
                version=self._options.version[:12],
                outputs=self._options.outputs,
                needs_token=self._options.token is not None,
            )
        return self._document
