"""What runs in a Dask worker: a task, which is a batch of attempts, and what its client asks of it beside."""

from __future__ import annotations

import functools
import json
import pickle
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from mlfn.worker import hosted
from mlfn.worker.hosted import Event, HostedBinding, HostedRun
from mlfn.worker.task import Task

_MOST_BINDINGS = 64
_GATHER_SECONDS = 0.02
_bindings: OrderedDict[bytes, HostedBinding] = OrderedDict()
_binding = threading.Lock()


class Batch:
    """Attempts that one task makes one after the other; what they report leaves together, as an event of a topic."""

    def __init__(self, worker: Any, topic: str, tasks: Sequence[Task], page: str | None) -> None:
        self.key = str(worker.get_current_task())
        self.current: HostedRun | None = None
        self._worker = worker
        self._topic = topic
        self._tasks = tasks
        self._page = page
        self._lock = threading.Lock()
        self._reports: list[list[Any]] = []
        self._posted_at = time.monotonic()
        self._next = 0

    def run(self, binding: HostedBinding) -> None:
        """Make the attempts."""
        try:
            while (task := self._take()) is not None:
                self.current = HostedRun(task, binding, functools.partial(self._post, task), self._page)
                self.current.run({"dask_client": functools.cache(_client)})
        finally:
            self.flush()

    def _take(self) -> Task | None:
        with self._lock:
            self._next += 1
            return self._tasks[self._next - 1] if self._next <= len(self._tasks) else None

    def give_back(self) -> list[str]:
        """Return the runs that have not begun, and begin none of them."""
        with self._lock:
            left, self._tasks = self._tasks[self._next :], self._tasks[: self._next]
            return [task.run for task in left]

    def stop(self) -> None:
        """Stop the current attempt, and begin no other."""
        self.give_back()
        if self.current is not None:
            self.current.stop()

    def flush(self) -> None:
        """Have what is gathered leave."""
        with self._lock:
            reports, self._reports = self._reports, []
            self._posted_at = time.monotonic()
            if reports:
                # As text: its numbers may be larger than msgpack takes.
                self._worker.log_event(self._topic, [self._worker.address, self.key, json.dumps(reports)])

    def _post(self, task: Task, first: int, events: list[Event]) -> None:
        with self._lock:
            self._reports.append([task.run, task.attempt, first, events])
        is_last = task is self._tasks[-1] and events[-1]["event"] == "finished"
        is_judged = task.judged is not None and events[-1]["event"] in ("metric", "metrics")
        if is_judged or (not is_last and time.monotonic() > self._posted_at + _GATHER_SECONDS):
            self.flush()


_batches: dict[str, Batch] = {}


def run_batch(tasks: bytes, *, binding: bytes, topic: str, page: str | None) -> None:
    """Make some attempts one after the other, as a task; what they report are events of a topic.

    `page` is where the cluster shows what it does, to people.
    """
    from distributed import get_worker

    worker = get_worker()
    batch = Batch(worker, topic, [Task(**task) for task in json.loads(tasks)], page)
    _watch(worker)
    _batches[batch.key] = batch
    try:
        batch.run(_bound(binding))
    finally:
        del _batches[batch.key]


def stop(name: str) -> bool:
    """Stop an attempt; one that has not begun here will not. Return whether its handler runs here."""
    return hosted.stop(name)


def give_back(key: str) -> list[str]:
    """Return the runs of a task that have not begun, and begin none of them."""
    return batch.give_back() if (batch := _batches.get(key)) is not None else []


def answer(name: str, why: str | None) -> None:
    """Answer an attempt's last point."""
    if (run := hosted.running.get(name)) is not None:
        run.answer(why)


def _client() -> Any:
    """Return the worker's client, and make room for other tasks in place of this one."""
    from distributed import get_client, secede

    secede()
    return get_client()


def _bound(binding: bytes) -> HostedBinding:
    with _binding:
        if (found := _bindings.get(binding)) is None:
            found = _bindings[binding] = HostedBinding(pickle.loads(binding))  # noqa: S301 - as Dask's own tasks are
            found.apply()
            if len(_bindings) > _MOST_BINDINGS:
                _bindings.popitem(last=False)
        return found


@functools.cache
def _watch(worker: Any) -> None:
    """Look out for tasks that the scheduler has taken back: that of a dead client, or one that others cancelled."""

    def look() -> None:
        for batch in list(_batches.values()):
            batch.flush()
            task = worker.state.tasks.get(batch.key)
            if task is None or task.state == "cancelled":
                batch.stop()

    hosted.watches.append(look)
