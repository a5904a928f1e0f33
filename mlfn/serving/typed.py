"""A plain typed function as a handler of events: what it takes is read and checked, what it returns is answered."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

from mlfn.dispatch.signature import Signature
from mlfn.serving.answers import Answer, RefusedError, failure
from mlfn.serving.events import Event
from mlfn.serving.in_service import ServiceReporter, service_context
from mlfn.serving.parameters import Parameters
from mlfn.serving.returned import answer_of
from mlfn.worker.context import annotated, call_within

logger = logging.getLogger("mlfn.serving")


class TypedAdapter:
    """Calls one function for events; it may be plain, asynchronous, or a generator of either sort."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str,
        project: str = "",
        outputs: tuple[str, ...] = (),
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        self.function = function
        self.name = name
        self.project = project
        self.outputs = outputs
        self.signature = Signature(function, name)
        self.parameters = Parameters(self.signature)
        self.reporter = ServiceReporter(name, secrets or {})
        self.is_async = inspect.iscoroutinefunction(annotated(function))
        shape = self.signature.shape
        self._plain = not (shape.positional or shape.varargs or shape.varkw or shape.context)

    def start(self) -> None:
        """Do nothing: a typed function has nothing to be begun with."""

    def stop(self) -> None:
        """Do nothing, as above."""

    def handle(self, event: Event) -> Answer:
        """Return the answer to an event; an asynchronous function is run to its end."""
        if self.is_async:
            import asyncio

            return asyncio.run(self.handle_async(event))
        try:
            params = self.parameters.read(event)
        except RefusedError as error:
            return error.answer
        try:
            value = self.function(**params) if self._plain else self._call(params)
            return answer_of(value, accept=event.header(b"accept"), outputs=self.outputs)
        except BaseException as error:  # noqa: BLE001 - SystemExit too: one event must not end the service
            return self._failed(error, event)

    async def handle_async(self, event: Event) -> Answer:
        """Return the answer to an event, of an asynchronous function."""
        import asyncio

        try:
            params = self.parameters.read(event)
        except RefusedError as error:
            return error.answer
        try:
            value = await (self.function(**params) if self._plain else self._call(params))
            return answer_of(value, accept=event.header(b"accept"), outputs=self.outputs)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - as above
            return self._failed(error, event)

    def _call(self, params: Mapping[str, Any]) -> Any:
        ctx = service_context(self.name, self.project, self.reporter, params)
        args, kwargs = self.signature.shape.arguments(params, ctx)
        return call_within(ctx, lambda: self.function(*args, **kwargs))

    def _failed(self, error: BaseException, event: Event) -> Answer:
        logger.error("%s failed", self.name, exc_info=error, extra={"request": event.id})
        return failure(self.name, event.id, error)
