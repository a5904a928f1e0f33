"""`Application`: requests to events, answers to responses; a plain ASGI application."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from mlfn.backends.hosts.run_files import RUNS_PATH, TOKEN_HEADER
from mlfn.backends.hosts.server_options import ServerOptions
from mlfn.serving.adapter import Adapter
from mlfn.serving.answers import Answer, problem
from mlfn.serving.events import Event
from mlfn.serving.returned import piece_type
from mlfn.serving.server.calls import Calls
from mlfn.serving.server.journals import AccessLog
from mlfn.serving.server.limits import Gate
from mlfn.serving.server.pages import INTERNAL, Page, Pages
from mlfn.serving.server.statistics import Slot, Statistics

MOST_OF_RUN = 256 * 2**20  # bytes of a run's parameters
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Application:
    """Serves one function. `is_draining` says that this process takes no further connections."""

    def __init__(
        self,
        adapter: Adapter,
        options: ServerOptions,
        calls: Calls,
        statistics: Statistics,
        slot: Slot,
        access: AccessLog,
        fatal: Callable[[], None],
        runs: Callable[[str, str, bytes, bytes], Awaitable[Answer]] | None = None,
    ) -> None:
        self._adapter = adapter
        self._options = options
        self._calls = calls
        self._statistics = statistics
        self._slot = slot
        self._access = access
        self._fatal = fatal
        self._runs = runs
        self._gate = Gate(options, share=options.workers)
        self.is_draining = False
        self.requests = 0  # those that are not answered yet
        self._pages = Pages(adapter, options, statistics)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        begun = time.perf_counter()
        self.requests += 1
        event = Event(
            method=scope["method"], path=scope["path"], query=scope["query_string"], raw_headers=scope["headers"]
        )
        try:
            headers = dict(scope["headers"])
            answer = await self._answer(event, headers, receive, send)
            size = await self._respond(answer, headers.get(b"origin"), send, head=scope["method"] == "HEAD")
        finally:
            self.requests -= 1
        took = time.perf_counter() - begun
        if not isinstance(answer, Page):
            self._slot.count(answer.status, took)
        self._access.add(event.method, event.path, answer.status, took, size, event._id)
        if answer.fatal:
            self._fatal()

    async def _answer(self, event: Event, headers: dict[bytes, bytes], receive: Receive, send: Send) -> Answer:
        path = event.path
        if path == f"{INTERNAL}health":
            return problem(503, "It ends.") if self.is_draining else self._pages.health()
        origin = headers.get(b"origin")
        if origin is not None and event.method == "OPTIONS" and b"access-control-request-method" in headers:
            return self._gate.preflight(origin)
        if self._pages.is_open(path):
            return self._pages.page()
        is_run = path.startswith(RUNS_PATH) and TOKEN_HEADER.encode() in headers
        refused = None if is_run else self._gate.refuse(headers)
        if refused is not None:
            return refused
        if path.startswith(INTERNAL) and not is_run and path not in self._pages:
            return problem(404, f"There is no {path}.")
        if event.method in ("GET", "HEAD"):
            shown = self._pages.shown(path, headers)
            if shown is not None:
                return shown
        body = await self._body(
            headers.get(b"content-length"), receive, MOST_OF_RUN if is_run else self._options.max_body
        )
        if isinstance(body, Answer):
            return body
        if is_run and self._runs is not None:
            return await self._runs(event.method, path, body, headers[TOKEN_HEADER.encode()])
        event.body = body
        event.content_type = headers.get(b"content-type", b"").decode("latin-1")
        return self._calls.answer_now(event, send) or await self._calls.answer(event)

    async def _body(self, length: bytes | None, receive: Receive, most: int) -> bytes | Answer:
        """Return the whole body, or the refusal of one that is too large, or that does not arrive in time."""
        if length is not None and length.isdigit() and int(length) > most:
            return too_large(most)
        if getattr(getattr(receive, "__self__", None), "more_body", True) is False:  # all of it is there, as a rule
            body: bytes = (await receive()).get("body", b"")
            return body if len(body) <= most else too_large(most)
        task = asyncio.current_task()
        assert task is not None
        timer = asyncio.get_running_loop().call_later(self._options.request_time, task.cancel)
        try:
            return await self._parts(receive, most)
        except asyncio.CancelledError:
            return too_slow(self._options.request_time)
        finally:
            timer.cancel()

    async def _parts(self, receive: Receive, most: int) -> bytes | Answer:
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return problem(400, "The request broke off.")
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > most:
                return too_large(most)
            parts.append(part)
            more = message.get("more_body", False)
        return b"".join(parts)

    async def _respond(self, answer: Answer, origin: bytes | None, send: Send, *, head: bool) -> int:
        """Send an answer, and return its size."""
        if answer.pieces is not None:
            return await self._stream(answer, origin, send)
        body = answer.body
        headers = [(b"content-length", str(len(body)).encode())]
        if answer.content_type and answer.status != 204:
            headers.append((b"content-type", answer.content_type.encode("latin-1", "replace")))
        await send(
            {"type": "http.response.start", "status": answer.status, "headers": self._headers(headers, answer, origin)}
        )
        await send({"type": "http.response.body", "body": b"" if head or answer.status == 204 else body})
        return len(body)

    async def _stream(self, answer: Answer, origin: bytes | None, send: Send) -> int:
        pieces, size = answer.pieces, 0
        try:
            piece = await self._calls.next_piece(pieces)
            kind = answer.content_type or piece_type(piece)
            headers = self._headers([(b"content-type", kind.encode("latin-1", "replace"))], answer, origin)
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            while piece is not None:
                size += len(piece)
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                piece = await self._calls.next_piece(pieces)
        except Exception as error:
            # What was sent cannot be taken back: the connection is cut, and no client takes it for a whole answer.
            answer.error = error
            raise
        await send({"type": "http.response.body", "body": b""})
        return size

    def _headers(
        self, headers: list[tuple[bytes, bytes]], answer: Answer, origin: bytes | None
    ) -> list[tuple[bytes, bytes]]:
        if answer.headers:
            headers += [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in answer.headers]
        if origin is not None:
            headers += [(name.encode(), value.encode("latin-1")) for name, value in self._gate.cors_headers(origin)]
        if self.is_draining or answer.fatal:
            headers.append((b"connection", b"close"))
        return headers


def too_large(most: int) -> Answer:
    """Return the refusal of a body that is too large."""
    return problem(
        413, f"The body is larger than {most} bytes, the most that is taken: Http(max_body=...) raises that."
    )


def too_slow(seconds: float) -> Answer:
    """Return the refusal of a request that does not arrive."""
    answer = problem(408, f"The request did not arrive within {seconds:g} seconds.")
    answer.headers = [("Connection", "close")]
    return answer
