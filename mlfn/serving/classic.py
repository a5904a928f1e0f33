"""A handler in Nuclio's own form, with nuclio-sdk's own Event, Context and Response."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from mlfn.errors import MissingExtraError
from mlfn.serving.answers import Answer, failure
from mlfn.serving.events import Event
from mlfn.serving.in_service import ServiceReporter
from mlfn.serving.returned import answer_of, headers_of, is_response, status_of, streamed
from mlfn.worker.classic import ClassicHandler

logger = logging.getLogger("mlfn.serving")
_TEXT = "text/plain"
_ENCODER = json.JSONEncoder(allow_nan=False)  # one for all: to make one takes longer than to use it


class ClassicAdapter:
    """Calls ``handler(context, event)`` for events, and ``init_context(context)`` once before the first."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str,
        worker: int = 0,
        trigger: str = "http",
        trigger_name: str = "http",
    ) -> None:
        self.name = name
        self.function = function.handler if isinstance(function, ClassicHandler) else function
        self._init = getattr(function, "init_context", None)
        self.reporter = ServiceReporter(name, {})
        sdk = _sdk()
        self._event, self._trigger = sdk.Event, sdk.TriggerInfo
        self._plain_output = sdk.Response.from_entrypoint_output
        self._encode = sdk.json_encoder.Encoder().encode
        self.context = sdk.Context(
            sdk.Logger(logging.DEBUG, f"mlfn.run.{name}"),
            sdk.Platform("local"),
            str(worker),
            sdk.TriggerInfo(trigger, trigger_name),
        )
        self.is_async = inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(
            getattr(self.function, "__call__", None)  # noqa: B004 - its own kind is asked for
        )

    def start(self) -> None:
        """Call `init_context`, where there is one; what it raises is raised."""
        if self._init is not None:
            made = self._init(self.context)
            if inspect.iscoroutine(made):
                asyncio.run(made)

    def stop(self) -> None:
        """Call what the handler has set to be called when the service ends."""
        made = self.context.platform._on_signal()
        if inspect.iscoroutine(made):
            asyncio.run(made)

    def handle(self, event: Event) -> Answer:
        """Return the answer to an event; an asynchronous handler is run to its end."""
        try:
            value = self.function(self.context, self.sdk_event(event))
            if inspect.iscoroutine(value):
                value = asyncio.run(value)
            return self._answered(value)
        except BaseException as error:  # noqa: BLE001 - SystemExit too: one event must not end the service
            return self._failed(error, event)

    async def handle_async(self, event: Event) -> Answer:
        """Return the answer to an event, of an asynchronous handler."""
        try:
            return self._answered(await self.function(self.context, self.sdk_event(event)))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - as above
            return self._failed(error, event)

    def sdk_event(self, event: Event) -> Any:
        """Return an event as nuclio-sdk has it; a body is parsed where its type is exactly ``application/json``."""
        if event.original is not None:
            event.original.id = event.id  # an engine gives each the same
            return event.original
        body = event.body
        size = len(body) if isinstance(body, (bytes, str)) else 0
        if event.content_type == "application/json" and isinstance(body, bytes) and body:
            try:
                body = json.loads(body)
            except ValueError as error:
                logger.warning("The body of an event for %s is no JSON: %s", self.name, error)
        elif body == b"" and not event.content_type:
            body = None
        return self._event(
            body=body,
            content_type=event.content_type,
            trigger=self._trigger(event.trigger, event.trigger_name),
            fields=dict(event.fields),
            headers=event.headers,
            _id=event.id,
            method=event.method,
            path=event.path,
            size=size,
            timestamp=datetime.fromtimestamp(event.timestamp, timezone.utc).replace(tzinfo=None),
            url=event.url,
            shard_id=event.shard,
            num_shards=0,
            _type="",
            type_version="",
            version="",
            offset=event.offset,
            topic=event.topic,
        )

    def _answered(self, value: Any) -> Answer:
        """Return what a value is answered with, as the engine does; a list is JSON, and no batch of answers."""
        if type(value) is str:
            return Answer(value.encode("utf-8", "replace"), _TEXT)
        if type(value) is bytes:
            return Answer(value, _TEXT)
        if isinstance(value, tuple) and len(value) == 2:
            answer = self._answered(value[1]) if isinstance(value[1], str) else Answer(self._json(value[1]))
            answer.status = status_of(value[0])
            return answer
        if isinstance(value, (dict, list)):
            return Answer(self._json(value))
        if is_response(value):
            return self._of_response(value)
        if inspect.isgenerator(value) or inspect.isasyncgen(value):
            return streamed(value)
        if isinstance(value, Answer):
            return value
        return Answer(str(value).encode("utf-8", "replace"), _TEXT)

    def _of_response(self, value: Any) -> Answer:
        body = value.body
        if isinstance(body, (dict, list, tuple)):
            answer = Answer(self._json(body))
        elif isinstance(body, (str, bytes)):
            answer = Answer(body.encode("utf-8", "replace") if isinstance(body, str) else body, value.content_type)
        elif body is None:
            answer = Answer(b"", value.content_type)
        else:
            return answer_of(value)
        answer.status = status_of(value.status_code)
        if value.headers:
            answer.headers = headers_of(value.headers)
        return answer

    def _json(self, value: Any) -> bytes:
        try:
            return _ENCODER.encode(value).encode()
        except (ValueError, TypeError):
            return str(self._encode(value)).encode("utf-8", "replace")  # as the engine writes what JSON does not know

    def _failed(self, error: BaseException, event: Event) -> Answer:
        logger.error("%s failed", self.name, exc_info=error, extra={"request": event.id})
        return failure(self.name, event.id, error)


def _sdk() -> Any:
    try:
        import nuclio_sdk
        import nuclio_sdk.json_encoder
    except ImportError as error:
        raise MissingExtraError(
            "A handler(context, event) needs nuclio-sdk, which is not installed: pip install 'mlfn[nuclio]'."
        ) from error
    return _Sdk(nuclio_sdk)


class _Sdk:
    """The names of nuclio-sdk that are used here."""

    def __init__(self, module: Any) -> None:
        self.Event, self.Context, self.Response = module.Event, module.Context, module.Response
        self.Logger, self.Platform, self.json_encoder = module.Logger, module.Platform, module.json_encoder
        self.TriggerInfo = sys.modules["nuclio_sdk.event"].TriggerInfo
