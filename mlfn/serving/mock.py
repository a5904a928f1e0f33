"""`Mock`: a function's service without a server, for tests: the same adapter, the same answers, no socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlencode

from mlfn.backends.kinds.nuclio.options import Nuclio
from mlfn.backends.kinds.nuclio.triggers import AnyTrigger, Cron
from mlfn.errors import ParameterError, nearest
from mlfn.serving.adapter import Adapter
from mlfn.serving.answers import JSON, Answer
from mlfn.serving.events import Event, usual_name
from mlfn.serving.replies import Reply
from mlfn.serving.returned import LINES
from mlfn.serving.triggered import cron_event, event_of, to_bytes


class Mock:
    """Calls a function as its service would, in this process: parameters are checked, and what it raises is an answer."""

    def __init__(self, adapter: Adapter, kind: Nuclio) -> None:
        self._adapter = adapter
        self._triggers = kind.named_triggers
        adapter.start()

    def __call__(self, **params: Any) -> Any:
        """Return what the function returns to a client that posts these parameters; raise what it raises."""
        return self.post(params).value()

    def post(
        self, body: Any = b"", path: str = "/", *, headers: Mapping[str, str] | None = None, **query: Any
    ) -> Reply:
        """Post a body: a mapping or list as JSON, a text or bytes as they are."""
        return self.request("POST", path, body=body, headers=headers, query=query)

    def get(self, path: str = "/", *, headers: Mapping[str, str] | None = None, **query: Any) -> Reply:
        """Get with a query, as ``?depth=4`` has it; a list is one value each."""
        return self.request("GET", path, headers=headers, query=query)

    def request(
        self,
        method: str,
        path: str = "/",
        *,
        body: Any = b"",
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Send one HTTP request; its content type is JSON for what is neither text nor bytes, unless `headers` say one."""
        sent = {usual_name(name.encode("latin-1")): value for name, value in (headers or {}).items()}
        if not isinstance(body, (str, bytes, bytearray)):
            sent.setdefault("Content-Type", JSON)
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in sent.items()]
        return self._answer(
            Event(
                to_bytes(body),
                content_type=sent.get("Content-Type", ""),
                method=method.upper(),
                path=path,
                query=urlencode(query or {}, doseq=True).encode(),
                raw_headers=raw,
            )
        )

    def event(
        self,
        body: Any = b"",
        *,
        trigger: str | AnyTrigger | None = None,
        topic: str = "",
        headers: Mapping[str, str] | None = None,
        shard: int = -1,
        offset: int = 0,
    ) -> Reply:
        """Have a trigger bring a message: one of the function's own by its name, or any as in ``mlfn.Mqtt(...)``.

        Without one it is the function's first that is not HTTP. A cron trigger without a body brings its own.
        """
        name, chosen = self._trigger(trigger)
        if isinstance(chosen, Cron) and body == b"":
            return self._answer(cron_event(chosen, name))
        event = event_of(chosen, body, name=name, topic=topic, headers=headers, shard=shard, offset=offset)
        return self._answer(event)

    @property
    def metrics(self) -> dict[str, float]:
        """The newest value of each series that the function logged by ``ctx.log_metric``."""
        return dict(self._adapter.reporter.gauges)

    def _trigger(self, wanted: str | AnyTrigger | None) -> tuple[str, AnyTrigger]:
        known = self._triggers
        if wanted is None:
            others = [(name, trigger) for name, trigger in known.items() if trigger.KIND != "http"]
            return others[0] if others else next(iter(known.items()))
        if not isinstance(wanted, str):
            return wanted.name or wanted.KIND.lower(), wanted
        if wanted not in known:
            raise ParameterError(
                f"event(trigger={wanted!r}): {self._adapter.name} has none of that name. {nearest(wanted, known)}"
            )
        return wanted, known[wanted]

    def _answer(self, event: Event) -> Reply:
        answer = self._adapter.handle(event)
        if answer.pieces is None:
            return _reply(answer, answer.body)
        # A stream that breaks off is an error for whoever reads it, and here too.
        pieces: Any = answer.pieces
        body = asyncio.run(_joined(pieces)) if hasattr(pieces, "__aiter__") else b"".join(pieces)
        answer.content_type = answer.content_type or LINES
        return _reply(answer, body)


async def _joined(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


def _reply(answer: Answer, body: bytes) -> Reply:
    headers = {usual_name(name.encode("latin-1")): value for name, value in answer.headers}
    return Reply(answer.status, body, answer.content_type, headers, answer.error)
