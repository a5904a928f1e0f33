"""What calls a function of kind `nuclio`: one class for each sort of event, with the engine's own defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeAlias

from mlfn.backends.kinds.nuclio import checks
from mlfn.backends.kinds.nuclio.cron import check_schedule
from mlfn.errors import OptionError, nearest
from mlfn.settings.secrets import Secret
from mlfn.spec.values import option_values

LOOPBACK = ("127.0.0.1", "::1", "localhost")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Trigger:
    """What all triggers have in common.

    `workers` handle one event each at a time (None: as many as `Nuclio` says), `wait` is how long an event waits for one of
    them, `attributes` are passed on as they are, for what no option here says.
    """

    KIND: ClassVar[str]

    name: str | None = field(default=None, kw_only=True)
    workers: int | None = field(default=None, kw_only=True)
    wait: float | str = field(default=10.0, kw_only=True)
    attributes: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        if self.name is not None and not (isinstance(self.name, str) and _NAME.fullmatch(self.name)):
            raise checks.refuse(self, "name", self.name, "small ASCII letters, digits and '-' are allowed, 63 at most.")
        if self.workers is not None:
            checks.whole(self, "workers", least=1, most=100_000)
        self._set("wait", 0.0 if self.wait == 0 and not isinstance(self.wait, bool) else checks.seconds(self, "wait"))
        self._set("attributes", checks.mapping(self, "attributes"))
        self.check()

    def check(self) -> None:
        """Check the options of this sort of trigger."""

    def own(self) -> dict[str, Any]:
        """Return what this sort of trigger has in a function's configuration: its fields there, and `attributes`."""
        return {}

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON: the kind, and what differs from the defaults."""
        changed = {f.name: _plain(getattr(self, f.name)) for f in fields(self) if f.name != "attributes"}
        changed = {name: value for name, value in changed.items() if value != _plain(_default(type(self), name))}
        attributes = {"attributes": dict(self.attributes)} if self.attributes else {}
        return {"kind": self.KIND, **changed, **attributes}

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)


@option_values
@dataclass(frozen=True)
class Http(Trigger):
    """HTTP requests; a function without triggers has one of these.

    Parameters
    ----------
    port: where the embedded server listens; None takes a free one. On a cluster, the node's port.
    host: the address it listens at. Other than this machine's own, it needs a `token`.
    token: a secret that each request has to bring, as ``Authorization: Bearer ...``.
    max_body: the largest body of a request; a larger one gets 413.
    queue: how many requests may wait for a worker; one more gets 503.
    rate: requests a second that are taken; one more gets 429. None is no limit.
    cors: origins whose pages may call it from a browser; none unless given.
    ingresses: host -> paths under which a cluster's ingress serves it.

    """

    KIND: ClassVar[str] = "http"

    port: int | None = None
    host: str = "127.0.0.1"
    token: Secret | None = None
    max_body: int | str = 4 * 2**20
    queue: int = 1024
    rate: float | None = None
    cors: Sequence[str] = ()
    ingresses: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def check(self) -> None:
        if self.port is not None:
            checks.whole(self, "port", least=1, most=65535)
        checks.text(self, "host", example="0.0.0.0")  # noqa: S104 - shown
        self._set("token", checks.secret(self, "token"))
        if self.host not in LOOPBACK and self.token is None:
            raise OptionError(
                f"Http(host={self.host!r}) would let every machine that reaches it call the function: add "
                "token=mlfn.Secret('SCORE_TOKEN'), which each request has to bring, or leave host out."
            )
        self._set("max_body", checks.size(self, "max_body"))
        checks.whole(self, "queue", least=0, most=1_000_000)
        if self.rate is not None:
            self._set("rate", checks.number(self, "rate", least=0.001))
        self._set("cors", checks.texts(self, "cors", example="https://app.example.com", required=False))
        if "*" in self.cors and len(self.cors) > 1:
            raise checks.refuse(self, "cors", list(self.cors), "'*' stands for every origin: give it alone.")
        self._check_ingresses()

    def _check_ingresses(self) -> None:
        given = self.ingresses
        if isinstance(given, Mapping) and all(isinstance(host, str) for host in given):
            paths = {host: [path] if isinstance(path, str) else list(path) for host, path in given.items()}
            if all(isinstance(p, str) and p.startswith("/") for items in paths.values() for p in items):
                self._set("ingresses", paths)
                return
        raise checks.refuse(
            self, "ingresses", given, "hosts and their paths are allowed, as in {'api.example.com': ['/score']}."
        )

    def own(self) -> dict[str, Any]:
        attributes: dict[str, Any] = {"maxRequestBodySize": self.max_body}
        if self.port is not None:
            attributes["port"] = self.port
        if self.cors:
            attributes["cors"] = {"enabled": True, "allowOrigin": ",".join(self.cors)}
        if self.ingresses:
            attributes["ingresses"] = {
                str(number): {"host": host, "paths": list(paths)}
                for number, (host, paths) in enumerate(sorted(self.ingresses.items()))
            }
        return {"attributes": attributes}


@option_values
@dataclass(frozen=True)
class Cron(Trigger):
    """A schedule such as ``"*/5 * * * *"`` (minute, hour, day, month, weekday; in UTC), or an `interval` such as ``"30s"``.

    `body` is the event's, and `headers` its headers.
    """

    KIND: ClassVar[str] = "cron"

    schedule: str | None = None
    interval: float | str | None = None
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def check(self) -> None:
        if (self.schedule is None) == (self.interval is None):
            raise OptionError(
                f"Cron(schedule={self.schedule!r}, interval={self.interval!r}): one of the two is required, as in "
                "Cron('*/5 * * * *') or Cron(interval='30s')."
            )
        if self.schedule is not None:
            check_schedule(checks.text(self, "schedule", example="*/5 * * * *"))
        else:
            self._set("interval", checks.seconds(self, "interval"))
        if not isinstance(self.body, str):
            raise checks.refuse(self, "body", self.body, "a text is allowed; json.dumps(...) makes one.")
        self._set("headers", checks.mapping(self, "headers"))

    def own(self) -> dict[str, Any]:
        when = {"schedule": self.schedule} if self.schedule else {"interval": shown_duration(float(self.interval or 0))}
        event = {"body": self.body, **({"headers": dict(self.headers)} if self.headers else {})}
        return {"attributes": {**when, "event": event}}


@option_values
@dataclass(frozen=True)
class Kafka(Trigger):
    """Messages of Kafka topics, as one member of a consumer group; a message counts as handled even if its handler failed."""

    KIND: ClassVar[str] = "kafka-cluster"

    topics: Sequence[str] = ()
    brokers: Sequence[str] = ()
    group: str = ""
    initial_offset: str = "latest"
    session_timeout: float | str = 10.0
    heartbeat: float | str = 3.0
    explicit_ack: str = "disable"
    username: str | None = None
    password: Secret | None = None

    def check(self) -> None:
        self._set("topics", checks.texts(self, "topics", example="orders"))
        self._set("brokers", checks.texts(self, "brokers", example="kafka:9092"))
        checks.text(self, "group", example="scoring")
        checks.one_of(self, "initial_offset", ("latest", "earliest"))
        self._set("session_timeout", checks.seconds(self, "session_timeout"))
        self._set("heartbeat", checks.seconds(self, "heartbeat"))
        checks.one_of(self, "explicit_ack", ("disable", "enable", "explicitOnly"))
        self._set("password", checks.secret(self, "password"))

    def own(self) -> dict[str, Any]:
        attributes: dict[str, Any] = {
            "topics": list(self.topics),
            "brokers": list(self.brokers),
            "consumerGroup": self.group,
            "initialOffset": self.initial_offset,
            "sessionTimeout": shown_duration(float(self.session_timeout)),
            "heartbeatInterval": shown_duration(float(self.heartbeat)),
        }
        if self.username:
            attributes["sasl"] = {"enable": True, "user": self.username, **_password(self.password)}
        found: dict[str, Any] = {"attributes": attributes}
        if self.explicit_ack != "disable":
            # The engine takes it with one worker a partition alone.
            found["explicitAckMode"] = self.explicit_ack
            attributes["workerAllocationMode"] = "static"
        return found


@option_values
@dataclass(frozen=True)
class Nats(Trigger):
    """Messages of a NATS subject; `queue` is the group within which each message goes to one member."""

    KIND: ClassVar[str] = "nats"

    url: str = ""
    topic: str = ""
    queue: str = ""

    def check(self) -> None:
        _check_url(self, "nats://broker:4222", ("nats",))
        checks.text(self, "topic", example="orders.*")
        # Without one, each replica gets each message: the engine's own default is not applied.
        checks.text(self, "queue", example="scoring")

    def own(self) -> dict[str, Any]:
        return {"url": self.url, "attributes": {"topic": self.topic, "queueName": self.queue}}


@option_values
@dataclass(frozen=True)
class Mqtt(Trigger):
    """Messages of MQTT topics, handled in their order; `qos` is 0, 1 or 2."""

    KIND: ClassVar[str] = "mqtt"

    url: str = ""
    topics: Sequence[str] = ()
    qos: int = 0
    client_id: str | None = None
    username: str | None = None
    password: Secret | None = None

    def check(self) -> None:
        _check_url(self, "tcp://broker:1883", ("tcp", "ssl", "ws", "wss"))
        self._set("topics", checks.texts(self, "topics", example="sensors/#"))
        checks.whole(self, "qos", least=0, most=2)
        self._set("password", checks.secret(self, "password"))

    def own(self) -> dict[str, Any]:
        attributes: dict[str, Any] = {"subscriptions": [{"topic": topic, "qos": self.qos} for topic in self.topics]}
        if self.client_id:
            attributes["clientId"] = self.client_id
        return {"url": self.url, **_login(self), "attributes": attributes}


@option_values
@dataclass(frozen=True)
class RabbitMq(Trigger):
    """Messages of a RabbitMQ exchange: of a `queue` that is there, or of one made for these `topics`."""

    KIND: ClassVar[str] = "rabbit-mq"

    url: str = ""
    exchange: str = ""
    queue: str | None = None
    topics: Sequence[str] = ()
    prefetch: int = 0
    durable: bool = False
    username: str | None = None
    password: Secret | None = None

    def check(self) -> None:
        _check_url(self, "amqp://broker:5672", ("amqp", "amqps"))
        checks.text(self, "exchange", example="orders")
        self._set("topics", checks.texts(self, "topics", example="orders.*", required=False))
        if not self.queue and not self.topics:
            raise OptionError("RabbitMq() lacks both queue= and topics=: give the one that is there, or what to bind.")
        checks.whole(self, "prefetch", least=0, most=65535)
        self._set("password", checks.secret(self, "password"))

    def own(self) -> dict[str, Any]:
        attributes: dict[str, Any] = {"exchangeName": self.exchange, "prefetchCount": self.prefetch}
        if self.queue:
            attributes["queueName"] = self.queue
        if self.topics:
            attributes["topics"] = list(self.topics)
        if self.durable:
            attributes |= {"durableExchange": True, "durableQueue": True}
        return {"url": self.url, **_login(self), "attributes": attributes}


@option_values
@dataclass(frozen=True)
class Kinesis(Trigger):
    """Records of a Kinesis stream; the keys come from the pod's own environment or role."""

    KIND: ClassVar[str] = "kinesis"

    stream: str = ""
    region: str = ""
    shards: Sequence[str] = ()
    iterator: str = "LATEST"
    period: float | str = 0.5

    def check(self) -> None:
        checks.text(self, "stream", example="orders")
        checks.text(self, "region", example="eu-west-1")
        self._set("shards", checks.texts(self, "shards", example="shardId-000000000000"))
        checks.one_of(self, "iterator", ("LATEST", "TRIM_HORIZON"))
        self._set("period", checks.seconds(self, "period"))

    def own(self) -> dict[str, Any]:
        attributes = {
            "streamName": self.stream,
            "regionName": self.region,
            "shards": list(self.shards),
            "iteratorType": self.iterator,
            "pollingPeriod": shown_duration(float(self.period)),
        }
        return {"attributes": attributes}


@option_values
@dataclass(frozen=True)
class V3ioStream(Trigger):
    """Records of a V3IO stream, as one member of a consumer group."""

    KIND: ClassVar[str] = "v3ioStream"

    url: str = ""
    container: str = ""
    path: str = ""
    group: str = ""
    seek_to: str = "latest"
    batch: int = 64
    password: Secret | None = None

    def check(self) -> None:
        _check_url(self, "https://v3io-webapi:8081", ("http", "https"))
        checks.text(self, "container", example="projects")
        checks.text(self, "path", example="/fraud/events")
        checks.text(self, "group", example="scoring")
        checks.one_of(self, "seek_to", ("latest", "earliest", "time", "sequence"))
        checks.whole(self, "batch", least=1, most=100_000)
        self._set("password", checks.secret(self, "password"))

    def own(self) -> dict[str, Any]:
        attributes = {
            "containerName": self.container,
            "streamPath": self.path,
            "consumerGroup": self.group,
            "seekTo": self.seek_to,
            "readBatchSize": self.batch,
        }
        return {"url": self.url, **_password(self.password), "attributes": attributes}


AnyTrigger: TypeAlias = Http | Cron | Kafka | Nats | Mqtt | RabbitMq | Kinesis | V3ioStream
TRIGGERS: Mapping[str, type[Any]] = {
    cls.KIND: cls for cls in (Http, Cron, Kafka, Nats, Mqtt, RabbitMq, Kinesis, V3ioStream)
}


def made(item: Any) -> AnyTrigger:
    """Return a trigger, itself or of its JSON; OptionError for what is none."""
    if isinstance(item, AnyTrigger):
        return item
    if isinstance(item, Mapping) and item.get("kind") in TRIGGERS:
        given = {name: value for name, value in item.items() if name != "kind"}
        return TRIGGERS[item["kind"]](**given)  # type: ignore[no-any-return]
    names = [f"mlfn.{cls.__name__}()" for cls in TRIGGERS.values()]
    if isinstance(item, type) and item in TRIGGERS.values():
        raise OptionError(f"triggers has the class mlfn.{item.__name__}: add (), as in mlfn.{item.__name__}(...).")
    raise OptionError(f"triggers has {item!r}, which is no trigger: {nearest(str(item), names)}")


def shown_duration(value: float) -> str:
    """Return seconds as Nuclio writes a duration: ``1500ms``, ``10s``."""
    return f"{value:g}s" if value == int(value) else f"{round(value * 1000)}ms"


def _check_url(trigger: Any, example: str, schemes: Sequence[str]) -> None:
    url = checks.text(trigger, "url", example=example)
    scheme, found, rest = url.partition("://")
    if not found or scheme not in schemes or not rest:
        raise checks.refuse(trigger, "url", url, f"a URL of {', '.join(schemes)} is required, as in {example!r}.")
    if "@" in rest.partition("/")[0]:
        raise OptionError(
            f"{type(trigger).__name__}(url=...) holds a login, which would stand in the function's spec: give the address alone"
            " and, where the trigger has them, username= and password=mlfn.Secret(...)."
        )


def _login(trigger: Any) -> dict[str, Any]:
    return {**({"username": trigger.username} if trigger.username else {}), **_password(trigger.password)}


def _password(secret: Secret | None) -> dict[str, Any]:
    """Return a reference in the place of the value: who deploys the configuration puts the value there, and stores it nowhere."""
    if secret is None:
        return {}
    return {"password": {"secretKeyRef": {"name": secret.name, "key": secret.key or "value"}}}


def _plain(value: Any) -> Any:
    if isinstance(value, Secret):
        return {name: item for name, item in vars(value).items() if item is not None}
    return list(value) if isinstance(value, tuple) else value


def _default(cls: type[Any], name: str) -> Any:
    found = next(f for f in fields(cls) if f.name == name)
    return found.default_factory() if callable(found.default_factory) else found.default
