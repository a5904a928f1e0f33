"""What a handler logs, packed and sent as events."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from mlfn.artifacts.codec import Codec
from mlfn.host.identity import new_id
from mlfn.settings.masking import Masker
from mlfn.spec.record import Outcome, RunState
from mlfn.worker.context import Cancelled, Pruned, Reporter
from mlfn.worker.failures import failed_outcome
from mlfn.worker.task import Task

Judge = Callable[[str, int | None, float], str | None]
"""Takes a point (run, step, value) and returns why the run should stop; None to continue."""


class Points(Protocol):
    """Where points go that need no answer."""

    def new_series(self) -> int:
        """Return the number of another series, which an event names before its first point; 0 where none are taken."""
        ...

    def add(self, series: int, number: int, step: int | None, value: float) -> bool:
        """Take a point, which cannot be lost with this process then; False where it has to be an event."""
        ...


def finished_event(task: Task, outcome: Outcome) -> dict[str, Any]:
    """Return the event of an end that no reporter reports."""
    return {"event": "finished", "run": task.run, "attempt": task.attempt, "time": time.time(), **outcome.to_json()}


class Channel(Protocol):
    """Where events of a run go: a journal, a store, a service."""

    @property
    def points(self) -> Points:
        """Where its points go."""
        ...

    def send(self, event: dict[str, Any]) -> None:
        """Take one event, which is the channel's then; return when it cannot be lost with this process."""
        ...


class RunReporter(Reporter):
    """Packs what the handler logs, and sends it."""

    def __init__(
        self, task: Task, codec: Codec, channel: Channel, secrets: Mapping[str, str], judge: Judge | None = None
    ) -> None:
        super().__init__()
        self._judge = judge
        self._task = task
        self._codec = codec
        self._channel = channel
        self._secrets = secrets
        self._points = channel.points
        self._series: dict[str, int] = {}
        self._numbers = itertools.count()
        self._judged = task.judged if judge is not None else None
        self._opened = task.children
        self._opening = threading.Lock()
        self.run_id = task.run

    def open_child(self, params: Mapping[str, Any]) -> tuple[int, Reporter]:
        run = new_id()
        encoded = {name: self._codec.encode(run, name, value) for name, value in params.items()}
        with self._opening:  # the store numbers children in the order of their events
            self._opened += 1
            task = Task(run, 1, encoded, self._task.labels, iteration=self._opened)
            child = RunReporter(task, self._codec, self._channel, self._secrets)
            child.send("child", parent=self._task.run, parent_attempt=self._task.attempt, params=encoded)
        return task.iteration, child

    def end(self, error: BaseException | None) -> None:
        if not isinstance(error, Cancelled):  # the client that stops the attempt records why, for its children too
            # Not "finished", which ends the attempt and its log.
            self.send("child_end", **self._child_outcome(error).to_json())

    def _child_outcome(self, error: BaseException | None) -> Outcome:
        if error is None:
            return Outcome(RunState.SUCCEEDED)
        if isinstance(error, KeyboardInterrupt):
            return Outcome(RunState.CANCELLED)
        if isinstance(error, Pruned):
            return Outcome(RunState.PRUNED)
        return failed_outcome(error, self._codec, self._secrets.values())

    def mark_best(self, child: Reporter) -> None:
        self.send("best", child=child.run_id)

    def metric(self, name: str, step: int | None, value: float) -> str | None:
        number = next(self._numbers)
        if name != self._judged:
            series = self._series.get(name) or self._new_series(name)
            if series and self._points.add(series, number, step, value):
                return None
        self.send("metric", name=name, step=step, value=value, number=number)
        if self._judge is None or name != self._judged:
            return None
        return self._judge(self._task.run, step, value)

    def _new_series(self, name: str) -> int:
        if series := self._points.new_series():
            self.send("series", series=series, name=name)
            self._series[name] = series
        return series

    def constraint(self, name: str, value: float) -> None:
        output = self._codec.output(self._task.run, name, value, role="constraint")
        self.send("output", output=dict(vars(output)))

    def output(self, key: str, value: Any, *, file: bool, hints: Mapping[str, Any]) -> None:
        output = self._codec.output(self._task.run, key, value, role="artifact" if file else "result", file=file)
        self.send("output", output=dict(vars(output)))

    def progress(self, done: int, total: int | None, text: str) -> None:
        if text and self._secrets:
            text = Masker(self._secrets.values()).text(text)
        self.send("progress", progress={"done": done, "total": total, "text": text})

    def secret(self, name: str) -> str:
        return self._secrets[name] if name in self._secrets else super().secret(name)

    def send(self, what: str, **facts: Any) -> None:
        """Send one event of this attempt."""
        self._channel.send(
            {"event": what, "run": self._task.run, "attempt": self._task.attempt, "time": time.time(), **facts}
        )
