"""The log of a service: the lines of all its pods, each behind the end of the pod's name where there are several."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from mlfn.backends.places.kubernetes.connection import ApiError, Connection, UnreachableError
from mlfn.backends.places.kubernetes.follower import open_log

_ACCESS = re.compile(rb'\{"time": "[^"]*", "method": "')
_LOOK = 1.0  # seconds between looks for further pods


def lines_of(
    connection: Connection, namespace: str, pods: Callable[[], list[str]], *, follow: bool, which: str
) -> Iterator[str]:
    """Yield the lines of one sort, with `follow` until there is no pod any more."""
    found = _followed(connection, namespace, pods) if follow else _now(connection, namespace, pods())
    for before, line in found:
        if bool(_ACCESS.match(line)) == (which == "access"):
            yield before + line.decode("utf-8", "replace")


def _now(connection: Connection, namespace: str, pods: list[str]) -> Iterator[tuple[str, bytes]]:
    for pod in pods:
        before = _prefix(pod) if len(pods) > 1 else ""
        with suppress(ApiError):  # it is gone
            for line in open_log(connection, namespace, pod, follow=False).lines():
                yield before, line


def _followed(connection: Connection, namespace: str, pods: Callable[[], list[str]]) -> Iterator[tuple[str, bytes]]:
    lines: queue.SimpleQueue[tuple[str, bytes] | None] = queue.SimpleQueue()
    known: set[str] = set()
    at_work, look_at = 0, 0.0

    def follow(pod: str, before: str) -> None:
        with suppress(ApiError, UnreachableError):
            for line in open_log(connection, namespace, pod, follow=True).lines():
                lines.put((before, line))
        lines.put(None)

    while True:
        if time.monotonic() >= look_at:
            for pod in set(pods()) - known:
                before = _prefix(pod) if known else ""
                known.add(pod)
                at_work += 1
                threading.Thread(target=follow, args=(pod, before), name="mlfn-service-log", daemon=True).start()
            look_at = time.monotonic() + _LOOK
        if not at_work:
            return
        with suppress(queue.Empty):
            found = lines.get(timeout=max(0.0, look_at - time.monotonic()))
            if found is not None:
                yield found
            else:
                at_work, look_at = at_work - 1, 0.0


def _prefix(pod: str) -> str:
    return f"[{pod.rpartition('-')[2]}] "
