"""Subscriptions at brokers of messages: MQTT and NATS. A broker that cannot be reached is tried again for as long as it takes."""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from mlfn.backends.kinds.nuclio.triggers import Mqtt, Nats
from mlfn.errors import MissingExtraError
from mlfn.serving.server.arrivals import Arrival, Put
from mlfn.serving.triggered import event_of

logger = logging.getLogger("mlfn.serving")
_AGAIN = 1.0  # seconds until another try to connect
_LONGEST_AGAIN = 30
_DRAIN = 30.0
_POLL = 0.05
_PORTS = {"tcp": 1883, "ssl": 8883, "ws": 80, "wss": 443}


class Lost:
    """Says once that a broker cannot be reached, and once that it can again."""

    def __init__(self, name: str, url: str) -> None:
        self._what = f"trigger {name} at {url}"
        self._said = ""

    def lost(self, why: object) -> None:
        """Say why, where that is new."""
        text = str(why) or type(why).__name__
        if text != self._said:
            logger.warning("%s: %s; it is tried again", self._what, text)
            self._said = text

    def found(self) -> None:
        """Say that it listens."""
        logger.info("%s: listening", self._what)
        self._said = ""


class MqttSource:
    """A subscription at an MQTT broker. A message is acknowledged once it is handled: one that was not comes again at QoS 1 and 2.

    With a client id the broker keeps what is published while the service is down.
    """

    def __init__(self, name: str, trigger: Mqtt, password: str | None, put: Put) -> None:
        try:
            from paho.mqtt.client import Client
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError as error:
            raise _missing("mlfn.Mqtt", "paho-mqtt") from error
        self._name = name
        self._trigger = trigger
        self._put = put
        self._said = Lost(name, trigger.url)
        self._is_closing = False
        self._waiting = 0  # messages that were put and are not handled
        self._changed = threading.Condition()
        self._client: Any = Client(
            CallbackAPIVersion.VERSION2,
            client_id=trigger.client_id or "",
            clean_session=trigger.client_id is None,
            transport="websockets" if trigger.url.startswith("ws") else "tcp",
            manual_ack=True,
        )
        if trigger.username or password is not None:
            self._client.username_pw_set(trigger.username, password)
        if trigger.url.startswith(("ssl", "wss")):
            self._client.tls_set_context(ssl.create_default_context())
        self._client.reconnect_delay_set(1, _LONGEST_AGAIN)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = lambda *_: self._said.lost("it cannot be reached")
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message

    def start(self) -> None:
        """Connect, and go on to."""
        where = urlsplit(self._trigger.url)
        if where.path and where.scheme.startswith("ws"):
            self._client.ws_set_options(path=where.path)
        self._client.connect_async(where.hostname, where.port or _PORTS[where.scheme])
        self._client.loop_start()

    def stop(self) -> None:
        """Leave, after what was put is handled; what comes meanwhile is not acknowledged."""
        self._is_closing = True
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, timeout=_DRAIN)
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: Any, _: Any, __: Any, reason: Any, ___: Any) -> None:
        if reason.is_failure:
            self._said.lost(f"it refuses the connection ({reason})")
            return
        client.subscribe([(topic, self._trigger.qos) for topic in self._trigger.topics])
        self._said.found()

    def _on_disconnect(self, _: Any, __: Any, ___: Any, reason: Any, ____: Any) -> None:
        if not self._is_closing:
            self._said.lost(f"the connection has ended ({reason})")

    def _on_message(self, _: Any, __: Any, message: Any) -> None:
        if self._is_closing:
            return
        event = event_of(self._trigger, message.payload, name=self._name, topic=message.topic)
        with self._changed:
            self._waiting += 1
        self._put(Arrival(event, partial(self._handled, message.mid, message.qos)))

    def _handled(self, mid: int, qos: int) -> None:
        self._client.ack(mid, qos)
        with self._changed:
            self._waiting -= 1
            self._changed.notify_all()


class NatsSource:
    """A subscription at a NATS server, as one member of its queue group. NATS sends a message once: what is lost on its way is lost."""

    def __init__(self, name: str, trigger: Nats, put: Put) -> None:
        try:
            import nats
        except ImportError as error:
            raise _missing("mlfn.Nats", "nats-py") from error
        self._nats: Any = nats
        self._name = name
        self._trigger = trigger
        self._put = put
        self._said = Lost(name, trigger.url)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"trigger-{name}", daemon=True)

    def start(self) -> None:
        """Connect, and go on to."""
        self._thread.start()

    def stop(self) -> None:
        """Subscribe no more, and leave after what has arrived is handled."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._listen())

    async def _listen(self) -> None:
        while not self._ended.is_set():
            try:
                await self._connected()
            except Exception as error:  # noqa: BLE001 - each is a reason to try again
                self._said.lost(error)
                await asyncio.sleep(_AGAIN)

    async def _connected(self) -> None:
        """Listen over one connection, which the client itself makes anew where it breaks."""
        options = {
            "error_cb": self._on_error,
            "disconnected_cb": self._on_disconnect,
            "reconnected_cb": self._on_reconnect,
        }
        connecting = asyncio.ensure_future(
            self._nats.connect(
                self._trigger.url, max_reconnect_attempts=-1, reconnect_time_wait=_AGAIN, connect_timeout=5, **options
            )
        )
        while not connecting.done():
            if self._ended.is_set():
                connecting.cancel()
                return
            await asyncio.wait([connecting], timeout=_POLL)
        client = connecting.result()
        await client.subscribe(self._trigger.topic, queue=self._trigger.queue, cb=self._on_message)
        await client.flush()
        self._said.found()
        while not self._ended.is_set() and not client.is_closed:  # noqa: ASYNC110 - another thread ends it
            await asyncio.sleep(_POLL)
        with suppress(Exception):
            await client.drain()

    async def _on_message(self, message: Any) -> None:
        event = event_of(
            self._trigger, message.data, name=self._name, topic=message.subject, headers=dict(message.headers or {})
        )
        handled = asyncio.Event()
        loop = asyncio.get_running_loop()

        def tell() -> None:
            loop.call_soon_threadsafe(handled.set)

        await loop.run_in_executor(None, self._put, Arrival(event, tell))
        await handled.wait()  # what has arrived waits in the subscription, which is drained at the end

    async def _on_error(self, error: Exception) -> None:
        self._said.lost(error)

    async def _on_disconnect(self) -> None:
        if not self._ended.is_set():
            self._said.lost("the connection has ended")

    async def _on_reconnect(self) -> None:
        self._said.found()


def _missing(trigger: str, package: str) -> MissingExtraError:
    return MissingExtraError(f"{trigger} needs {package}, which is not installed: pip install 'mlfn[nuclio]'.")
