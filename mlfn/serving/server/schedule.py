"""The process that brings a function the events of its cron triggers."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone

from mlfn.backends.hosts.server_options import ServerOptions
from mlfn.backends.kinds.nuclio.cron import check_schedule, next_time
from mlfn.backends.kinds.nuclio.triggers import Cron, made
from mlfn.serving.adapter import Adapter
from mlfn.serving.server.statistics import Slot
from mlfn.serving.server.worker import load
from mlfn.serving.triggered import cron_event

logger = logging.getLogger("mlfn.serving")


def serve(options: ServerOptions, slot: Slot, ready: Callable[[], None]) -> int:
    """Bring events until SIGTERM; return the exit code. One that is missed is brought once, at once."""
    adapter, _ = load(options, 0)
    triggers = {
        name: trigger for name, item in (options.triggers or {}).items() if isinstance(trigger := made(item), Cron)
    }
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ready()
    _bring(adapter, triggers, slot, ended)
    adapter.stop()
    return 0


def _bring(adapter: Adapter, triggers: Mapping[str, Cron], slot: Slot, ended: threading.Event) -> None:
    due = {name: following(trigger, _now()) for name, trigger in triggers.items()}
    slot.set_ready(1)
    while not ended.is_set():
        name = min(due, key=lambda known: due[known])
        wait = (due[name] - _now()).total_seconds()
        if wait > 0:
            ended.wait(min(wait, 1.0))  # a clock may be set
            continue
        _fire(adapter, triggers[name], name, slot)
        due[name] = following(triggers[name], _now())


def _fire(adapter: Adapter, trigger: Cron, name: str, slot: Slot) -> None:
    begun = slot.busy_since = time.monotonic()
    answer = adapter.handle(cron_event(trigger, name))
    slot.busy_since = 0.0
    took = time.monotonic() - begun
    slot.count(answer.status, took)
    slot.set_gauges(dict(adapter.reporter.gauges))
    said = answer.body[:500].decode("utf-8", "replace")
    if answer.status >= 400:
        logger.error("%s by %s: %s, %s", adapter.name, name, answer.status, said)
    else:
        logger.info("%s by %s: %s in %.1f ms", adapter.name, name, answer.status, took * 1000)


def following(trigger: Cron, after: datetime) -> datetime:
    """Return when a trigger fires next, after a time."""
    if trigger.schedule is None:
        return after + timedelta(seconds=float(trigger.interval or 0))
    return next_time(check_schedule(trigger.schedule), after)


def _now() -> datetime:
    return datetime.now(timezone.utc)
