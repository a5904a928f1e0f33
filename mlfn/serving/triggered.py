"""Events as each trigger makes them of what it receives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mlfn.backends.kinds.nuclio.triggers import AnyTrigger, Cron, Http, Kafka, Mqtt, Nats, RabbitMq
from mlfn.serving.events import Event
from mlfn.serving.returned import to_json


def event_of(
    trigger: AnyTrigger,
    body: Any = b"",
    *,
    name: str = "",
    topic: str = "",
    headers: Mapping[str, str] | None = None,
    shard: int = -1,
    offset: int = 0,
) -> Event:
    """Return the event that a trigger makes of a message: as the engine has it, path and topic say where it came from."""
    raw = [(key.lower().encode("latin-1"), value.encode("latin-1")) for key, value in (headers or {}).items()]
    content_type = next((value.decode("latin-1") for key, value in raw if key == b"content-type"), "")
    make = _FACTS.get(type(trigger), _of_stream)
    facts = make(trigger, topic)
    return Event(
        to_bytes(body),
        content_type=content_type,
        raw_headers=raw,
        trigger=trigger.KIND,
        trigger_name=name or trigger.KIND,
        shard=shard,
        offset=offset,
        **{"method": "", "path": "", **facts},
    )


def cron_event(trigger: Cron, name: str) -> Event:
    """Return the event of a tick."""
    return event_of(trigger, trigger.body, name=name, headers=trigger.headers)


def to_bytes(body: Any) -> bytes:
    """Return a body as bytes: a text as UTF-8, all else as JSON."""
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode("utf-8", "surrogatepass")
    return bytes(body) if isinstance(body, (bytes, bytearray, memoryview)) else to_json(body)


def _of_http(trigger: Http, topic: str) -> dict[str, Any]:
    return {"method": "POST", "path": topic or "/"}


def _of_mqtt(trigger: Mqtt, topic: str) -> dict[str, Any]:
    where = topic or trigger.topics[0]
    return {"path": where, "topic": where, "url": trigger.url}


def _of_nats(trigger: Nats, topic: str) -> dict[str, Any]:
    return {"path": topic or trigger.topic, "url": trigger.url}


def _of_kafka(trigger: Kafka, topic: str) -> dict[str, Any]:
    where = topic or trigger.topics[0]
    return {"path": where, "topic": where}


def _of_rabbit_mq(trigger: RabbitMq, topic: str) -> dict[str, Any]:
    return {"path": f"{trigger.exchange}/{topic or trigger.queue or ''}", "url": trigger.url}


def _of_stream(trigger: Any, topic: str) -> dict[str, Any]:
    return {"path": topic, "topic": topic}


_FACTS: Mapping[type[Any], Callable[[Any, str], dict[str, Any]]] = {
    Http: _of_http,
    Mqtt: _of_mqtt,
    Nats: _of_nats,
    Kafka: _of_kafka,
    RabbitMq: _of_rabbit_mq,
}
