"""`Answer`: what an event is answered with, and the answers to what does not fit or fails."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"
Pieces = Any
"""An iterator or an asynchronous iterator of bytes."""


class Answer:
    """A status, a body and its content type. `pieces` stand for the body where it is streamed.

    `error` is what the handler raised, for the log and for tests, never for the client; after an answer that is `fatal` the
    worker is not fit for another event.
    """

    __slots__ = ("body", "content_type", "error", "fatal", "headers", "pieces", "status")

    def __init__(
        self,
        body: bytes = b"",
        content_type: str = JSON,
        status: int = 200,
        *,
        headers: Sequence[tuple[str, str]] = (),
        pieces: Pieces = None,
        error: BaseException | None = None,
        fatal: bool = False,
    ) -> None:
        self.body = body
        self.content_type = content_type
        self.status = status
        self.headers = headers
        self.pieces = pieces
        self.error = error
        self.fatal = fatal


class RefusedError(Exception):
    """An event that the function cannot be called with; `answer` says why."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.body.decode())
        self.answer = answer


def problem(status: int, message: str, **more: Any) -> Answer:
    """Return the answer to an event that is not handled: its words, and by name what else a client can use."""
    return Answer(json.dumps({"error": message, **more}, ensure_ascii=False).encode("utf-8", "replace"), JSON, status)


def refusal(status: int, message: str, **more: Any) -> RefusedError:
    """Return the error whose answer is that `problem`."""
    return RefusedError(problem(status, message, **more))


def misfit(message: str, problems: Sequence[Mapping[str, Any]]) -> RefusedError:
    """Return the error for parameters that do not fit; the first problem's field is that of the whole."""
    return refusal(400, message, field=problems[0]["field"], problems=list(problems))


def failure(name: str, request: str, error: BaseException) -> Answer:
    """Return the answer where the handler failed: the client gets the number under which the log says why."""
    if isinstance(error, MemoryError):
        answer = problem(500, f"{name} ran out of memory. Its log has this request.", request=request)
        answer.fatal = True
    else:
        answer = problem(500, f"{name} failed. Its log has this request, with the reason.", request=request)
    answer.error = error
    return answer
