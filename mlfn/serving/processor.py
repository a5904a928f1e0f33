"""What runs in Nuclio's own processor: a deployed module calls it with nuclio-sdk's context and event."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlfn.code.payload import unpack_pinned
from mlfn.errors import PayloadError
from mlfn.serving.adapter import Adapter, adapter_of
from mlfn.serving.answers import Answer, problem
from mlfn.serving.classic import ClassicAdapter
from mlfn.serving.events import Event
from mlfn.settings.secrets import Secret
from mlfn.worker import context as user_context
from mlfn.worker.execution import resolve_secrets

FOLDER = "/opt/nuclio/mlfn"
VARIABLE = "MLFN_SERVICE_FOLDER"


class Service:
    """One function in one worker of the processor; `payload` names the code that it was deployed with.

    Its folder holds the payload, and `service.json`: name, project, outputs, secrets, and the pin of the payload.
    """

    def __init__(self, payload: str) -> None:
        self._payload = payload
        self._adapter: Adapter | None = None

    def start(self, context: Any) -> None:
        """Load the function, and begin it; what fails ends the worker, whose log says why."""
        user_context.in_worker = True
        folder = Path(os.environ.get(VARIABLE, FOLDER))
        facts = json.loads((folder / "service.json").read_bytes())
        if facts["payload"] != self._payload:
            raise PayloadError(
                f"{folder} holds {facts['payload'][:12]}, and {self._payload[:12]} was deployed: deploy again."
            )
        function = unpack_pinned((folder / "payload").read_bytes(), pin=facts["pin"], role="function")
        wanted = tuple(Secret(**item) for item in facts["secrets"])
        secrets = resolve_secrets(wanted, os.environ, folder / "no-file-of-secrets")
        self.use(function, context, facts, secrets)

    def use(self, function: Callable[..., Any], context: Any, facts: dict[str, Any], secrets: dict[str, str]) -> None:
        """Begin with a function that is loaded."""
        adapter = adapter_of(
            function, name=facts["name"], project=facts["project"], outputs=tuple(facts["outputs"]), secrets=secrets
        )
        if isinstance(adapter, ClassicAdapter):
            adapter.context = context  # the processor's own
        adapter.start()
        self._adapter = adapter

    def handle(self, context: Any, event: Any) -> Any:
        """Return nuclio-sdk's Response to its event; for an asynchronous function, a coroutine of it."""
        assert self._adapter is not None
        made = _event_of(event)
        if not self._adapter.is_async:
            return _response(context, _whole(self._adapter.handle(made)))

        async def answer() -> Any:
            assert self._adapter is not None
            return _response(context, await _whole_later(await self._adapter.handle_async(made)))

        return answer()


def _event_of(event: Any) -> Event:
    headers = [
        (str(name).lower().encode("latin-1", "replace"), str(value).encode("latin-1", "replace"))
        for name, value in (event.headers or {}).items()
    ]
    fields = {str(name): str(value) for name, value in (event.fields or {}).items()}
    made = Event(
        event.body if event.body is not None else b"",
        content_type=event.content_type or "",
        method=event.method or "",
        path=event.path or "/",
        raw_headers=headers,
        trigger=event.trigger.kind,
        trigger_name=event.trigger.name,
        topic=event.topic or "",
        url=event.url or "",
        shard=event.shard_id if event.shard_id is not None else -1,
        offset=event.offset or 0,
    )
    made.original = event
    made.use_fields(list(fields.items()))
    return made


def _whole(answer: Answer) -> Answer:
    """Return an answer with its whole body: the processor takes no stream."""
    if answer.pieces is None:
        return answer
    if hasattr(answer.pieces, "__anext__"):
        return asyncio.run(_whole_later(answer))
    try:
        answer.body = b"".join(answer.pieces)
    except Exception as error:  # noqa: BLE001 - of the handler
        return _broken(error)
    return answer


async def _whole_later(answer: Answer) -> Answer:
    if answer.pieces is None:
        return answer
    try:
        answer.body = b"".join([piece async for piece in answer.pieces])
    except Exception as error:  # noqa: BLE001 - of the handler
        return _broken(error)
    return answer


def _broken(error: Exception) -> Answer:
    answer = problem(500, "The stream broke off.")
    answer.error = error
    return answer


def _response(context: Any, answer: Answer) -> Any:
    """Return a Response as the processor sends it whole: a body of text or bytes, and headers of text alone."""
    body: str | bytes = answer.body
    is_text = answer.content_type.startswith(("text/", "application/json"))
    return context.Response(
        body=answer.body.decode() if is_text and _is_utf8(answer.body) else body,
        content_type=answer.content_type or "text/plain",
        status_code=answer.status,
        headers=dict(answer.headers),
    )


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
