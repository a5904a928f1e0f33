"""The process that brings a function the events of its triggers other than HTTP, one after another."""

from __future__ import annotations

import logging
import queue
import signal
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from mlfn.backends.hosts.server_options import ServerOptions
from mlfn.backends.kinds.nuclio.cron import check_schedule, next_time
from mlfn.backends.kinds.nuclio.triggers import AnyTrigger, Cron, Mqtt, Nats, made
from mlfn.serving.adapter import Adapter
from mlfn.serving.server.arrivals import Arrival, Put, Source
from mlfn.serving.server.statistics import Slot
from mlfn.serving.server.worker import load
from mlfn.serving.triggered import cron_event

logger = logging.getLogger("mlfn.serving")
_LOOK = 0.2  # seconds between two looks whether this process is to end


def serve(options: ServerOptions, slot: Slot, ready: Callable[[], None]) -> int:
    """Bring events until SIGTERM, then those that have arrived; return the exit code."""
    adapter, _ = load(options, 0)
    arrivals: queue.Queue[Arrival] = queue.Queue(max(1, options.queue))
    sources = [
        _source(name, made(item), options.passwords.get(name), arrivals.put)
        for name, item in (options.triggers or {}).items()
    ]
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ready()
    for source in sources:
        source.start()
    slot.set_ready(1)
    while not ended.is_set():
        _handle_next(adapter, arrivals, slot)
    stopping = [threading.Thread(target=source.stop, daemon=True) for source in sources]
    for thread in stopping:
        thread.start()
    while any(thread.is_alive() for thread in stopping) or not arrivals.empty():
        _handle_next(adapter, arrivals, slot)
    adapter.stop()
    return 0


def _source(name: str, trigger: AnyTrigger, password: str | None, put: Put) -> Source:
    if isinstance(trigger, Cron):
        return Schedule(name, trigger, put)
    from mlfn.serving.server import brokers

    if isinstance(trigger, Mqtt):
        return brokers.MqttSource(name, trigger, password, put)
    assert isinstance(trigger, Nats), "others are refused where they are deployed"
    return brokers.NatsSource(name, trigger, put)


def _handle_next(adapter: Adapter, arrivals: queue.Queue[Arrival], slot: Slot) -> None:
    try:
        arrival = arrivals.get(timeout=_LOOK)
    except queue.Empty:
        return
    begun = slot.busy_since = time.monotonic()
    answer = adapter.handle(arrival.event)
    slot.busy_since = 0.0
    took = time.monotonic() - begun
    slot.count(answer.status, took)
    slot.set_gauges(dict(adapter.reporter.gauges))
    said = answer.body[:500].decode("utf-8", "replace")
    if answer.status >= 400:
        logger.error("%s by %s: %s, %s", adapter.name, arrival.event.trigger_name, answer.status, said)
    else:
        logger.info("%s by %s: %s in %.1f ms", adapter.name, arrival.event.trigger_name, answer.status, took * 1000)
    arrival.handled()


class Schedule:
    """Brings the ticks of a cron trigger. Of those that it misses while the function is busy, one is brought, at once."""

    def __init__(self, name: str, trigger: Cron, put: Put) -> None:
        self._name = name
        self._trigger = trigger
        self._put = put
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"trigger-{name}", daemon=True)

    def start(self) -> None:
        """Begin to wait for the next tick."""
        self._thread.start()

    def stop(self) -> None:
        """Bring no more."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        due = following(self._trigger, _now())
        while not self._ended.is_set():
            wait = (due - _now()).total_seconds()
            if wait > 0:
                self._ended.wait(min(wait, 1.0))  # a clock may be set
                continue
            handled = threading.Event()
            self._put(Arrival(cron_event(self._trigger, self._name), handled.set))
            while not handled.wait(_LOOK):
                if self._ended.is_set():
                    return
            due = following(self._trigger, _now())


def following(trigger: Cron, after: datetime) -> datetime:
    """Return when a trigger fires next, after a time."""
    if trigger.schedule is None:
        return after + timedelta(seconds=float(trigger.interval or 0))
    return next_time(check_schedule(trigger.schedule), after)


def _now() -> datetime:
    return datetime.now(timezone.utc)
