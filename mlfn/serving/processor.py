"""What runs in Nuclio's own processor: a deployed module calls it with nuclio-sdk's context and event."""

from __future__ import annotations

import base64
import functools
import gc
import json
import os
import sys
import zlib
from asyncio import events
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlfn.backends.hosts.server_options import ServerOptions
from mlfn.backends.kinds.nuclio.configuration import CODE, TOKEN
from mlfn.code.payload import unpack_pinned
from mlfn.errors import PayloadError
from mlfn.serving.adapter import Adapter, adapter_of
from mlfn.serving.answers import Answer
from mlfn.serving.classic import ClassicAdapter
from mlfn.serving.events import Event
from mlfn.serving.front import Front, say_failure
from mlfn.settings.secrets import Secret
from mlfn.worker import context as user_context
from mlfn.worker.execution import resolve_secrets

VARIABLE = "MLFN_SERVICE_FOLDER"


class Service:
    """One function in one worker of the processor; `payload` names the code that it was deployed with; None is any.

    On the machine that deployed it the code is in the folder of a server. Elsewhere it is in a variable, with the pin by which it
    is checked, its secrets, and what a server is told.
    """

    def __init__(self, payload: str | None = None) -> None:
        self._payload = payload
        self._adapter: Adapter | None = None
        self._front: Front | None = None
        self._is_classic = False
        self._trigger: Any = None
        self._users_end: Callable[[], Any] | None = None

    def start(self, context: Any) -> None:
        """Load the function, and begin it; what fails ends the worker, whose log says why."""
        if VARIABLE in os.environ:
            self._start_here(context, Path(os.environ[VARIABLE]))
        else:
            self._start_elsewhere(context)
        assert self._front is not None
        self._front.begin()
        gc.freeze()  # what is loaded by now stays: no collection need look at it

    def _start_here(self, context: Any, folder: Path) -> None:
        from mlfn.serving.server.worker import load_function

        try:
            options = ServerOptions.read(folder)
            function, secrets = load_function(options)
            self.use(function, context, options, secrets, folder=folder)
        except BaseException as error:
            say_failure(folder, error)
            raise

    def _start_elsewhere(self, context: Any) -> None:
        from mlfn.serving.server import journals

        user_context.in_worker = True
        facts = json.loads(zlib.decompress(base64.b64decode(os.environ.pop(CODE))))
        if self._payload not in (None, facts["payload"]):
            raise PayloadError(
                f"The variable {CODE} holds {facts['payload'][:12]}, and {self._payload[:12]} was deployed: deploy again."
            )
        function = unpack_pinned(base64.b64decode(facts["code"]), pin=facts["pin"], role="function")
        wanted = tuple(Secret(**item) for item in facts["secrets"])
        secrets = resolve_secrets(wanted, os.environ, Path(os.devnull))
        options = ServerOptions.of_json({**facts["server"], "binding": {}, "token": os.environ.pop(TOKEN, None)})
        journals.set_up([*secrets.values(), *options.secrets])
        self.use(function, context, options, secrets)

    def use(
        self,
        function: Callable[..., Any],
        context: Any,
        options: ServerOptions,
        secrets: dict[str, str],
        *,
        folder: Path | None = None,
    ) -> None:
        """Begin with a function that is loaded."""
        adapter = adapter_of(
            function, name=options.name, project=options.project, outputs=options.outputs, secrets=secrets
        )
        self._keep_log_from_answers(context, options.name)
        self._trigger = context.trigger
        if isinstance(adapter, ClassicAdapter):
            adapter.context = context  # the processor's own
        self._end_at_once(context.platform)
        loop = events._get_running_loop()
        events._set_running_loop(None)
        try:
            adapter.start()
        finally:
            events._set_running_loop(loop)
        self._adapter = adapter
        self._is_classic = isinstance(adapter, ClassicAdapter)
        self._front = Front(adapter, function, options, folder, context)

    def handle(self, context: Any, event: Any) -> Any:
        """Return nuclio-sdk's Response to its event; for an asynchronous function, a coroutine of it."""
        assert self._adapter is not None
        assert self._front is not None
        front = self._front
        made, headers = event_of(event, self._trigger)
        if self._is_classic:
            made.original = _decoded(event, made, self._trigger)
        # A handler may run a loop of its own, and the wrapper calls it within one.
        loop = events._get_running_loop()
        events._set_running_loop(None)
        try:
            answer = front.refused_or_own(made, headers)
            if answer is None and not self._adapter.is_async:
                answer = front.answer(made)
        finally:
            events._set_running_loop(loop)
        if answer is None:
            return self._answer_later(context, made, headers)
        front.note(made, headers, answer)
        return _response(context, answer)

    async def _answer_later(self, context: Any, made: Event, headers: dict[bytes, bytes]) -> Any:
        assert self._front is not None
        answer = await self._front.answer_async(made)
        self._front.note(made, headers, answer)
        return _response(context, answer)

    def _keep_log_from_answers(self, context: Any, name: str) -> None:
        """Have the handler's log go where all of the service's goes.

        The processor reads logs and answers from one stream: a long line, or lines of several threads, would shift the answers,
        and each client would get that of another.
        """
        import logging

        import nuclio_sdk

        context.logger = nuclio_sdk.Logger(logging.DEBUG, f"mlfn.run.{name}")
        logging.getLogger("nuclio_sdk").propagate = False

    def _end_at_once(self, platform: Any) -> None:
        """Have this worker leave when it is told to end: the processor waits for that, and else for all of its time."""

        def keep(callback: Callable[[], Any]) -> None:
            self._users_end = callback

        platform.set_termination_callback(self._end)
        platform.set_termination_callback = keep

    def _end(self) -> Any:
        made = self._users_end() if self._users_end is not None else None
        if hasattr(made, "__await__"):
            return self._end_after(made)
        self._leave()
        return None

    async def _end_after(self, made: Any) -> None:
        await made
        self._leave()

    def _leave(self) -> None:
        if self._front is not None:
            self._front.flush()
        sys.exit(0)


def event_of(event: Any, trigger: Any) -> tuple[Event, dict[bytes, bytes]]:
    """Return an event as adapters take it, and its headers by their names in small letters.

    The trigger is the worker's own: what the event says of it is the client's word. Texts come as bytes where the processor does
    not decode them; it fails for those that are not UTF-8.
    """
    headers = {_small(name): value if type(value) is bytes else _bytes(value) for name, value in event.headers.items()}
    fields = event.fields
    made = Event(
        event.body if event.body is not None else b"",
        content_type=_name_of(event.content_type),
        method=_name_of(event.method),
        path=_name_of(event.path) or "/",
        raw_headers=headers.items(),
        trigger=trigger.kind,
        trigger_name=trigger.name,
        topic=_name_of(event.topic),
        url=_name_of(event.url),
        shard=event.shard_id if event.shard_id is not None else -1,
        offset=event.offset or 0,
    )
    made.use_fields([(text_of(name), text_of(value)) for name, value in fields.items()] if fields else [])
    return made, headers


def text_of(value: Any) -> str:
    """Return what the processor gives as text: bytes are UTF-8, and else Latin-1."""
    if not isinstance(value, bytes):
        return "" if value is None else str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


_name_of = functools.lru_cache(maxsize=1024)(text_of)
"""Return the text of what comes again and again: names of headers, methods, content types, paths."""


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("latin-1", "replace")


@functools.lru_cache(maxsize=1024)
def _small(name: Any) -> bytes:
    """Return the name of a header in small letters."""
    return _bytes(name).lower()


def _decoded(event: Any, made: Event, trigger: Any) -> Any:
    """Return the processor's event with texts for the bytes that it gives, as a handler of its own form expects them."""
    event.headers = {_name_of(name): text_of(value) for name, value in event.headers.items()}
    event.fields = dict(made.fields)
    event.content_type, event.method, event.path = made.content_type, made.method, made.path
    event.url, event.topic = made.url, made.topic
    event.type, event.type_version = _name_of(event.type), _name_of(event.type_version)
    event.version = _name_of(event.version)
    event.trigger = trigger
    return event


def _response(context: Any, answer: Answer) -> Any:
    """Return a Response as the processor sends it whole: a body of text or bytes, and headers of text alone."""
    body: str | bytes = answer.body
    if answer.content_type.startswith(("text/", "application/json")):
        try:
            body = answer.body.decode()
        except UnicodeDecodeError:
            body = answer.body
    return context.Response(
        body=body,
        content_type=answer.content_type or "text/plain",
        status_code=answer.status,
        headers=dict(answer.headers),
    )
