"""Runs an attempt in a thread of a process that mlfn does not own, as that of a Dask worker.

What belongs to the whole process stays as it is: working folder, signals, descriptors, memory limits. What a handler prints is
found by a context variable, and a run is stopped by an exception that is raised in its thread.
"""

from __future__ import annotations

import contextvars
import ctypes
import functools
import io
import linecache
import os
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, ClassVar, TextIO

from mlfn.artifacts.formats.dask_collections import shared_folder
from mlfn.code import payload
from mlfn.settings.masking import Masker, StreamMasker
from mlfn.spec.record import Outcome, RunState
from mlfn.worker import context as user_context
from mlfn.worker.binding import Binding, read_payload
from mlfn.worker.context import Cancelled
from mlfn.worker.control import ANSWER_SECONDS
from mlfn.worker.execution import execute
from mlfn.worker.log_capture import prepare_logging
from mlfn.worker.points import batches
from mlfn.worker.shared_environment import temporary_environment
from mlfn.worker.task import Extras, Task

BEAT_SECONDS = 0.05
_MOST_FUNCTIONS = 32
_LONGEST_LINE = 1 << 16
Event = dict[str, Any]
Post = Callable[[int, list[Event]], object]
"""Takes events of one attempt, and the number of the first of them; called from any thread."""


class Interrupt:
    """Raises `Cancelled` in the thread that made it, at most once, until it is closed."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._is_open = True
        self.is_requested = False

    def request(self) -> bool:
        """Raise it there soon, from another thread; False where the handler has ended."""
        with self._lock:
            if self._is_open and not self.is_requested:
                _raise_in(self._thread, Cancelled)
            self.is_requested = True
            return self._is_open

    def close(self) -> None:
        """Raise nothing from here on, in the thread itself: what comes next in it is not the run's."""
        while True:
            try:
                with self._lock:
                    self._is_open = False
                    _raise_in(self._thread, None)  # takes one back that has not arrived
                return
            except Cancelled:  # it arrived here
                continue


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    argument = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), argument)


class NoPoints:
    """Takes no points: each is an event."""

    def new_series(self) -> int:
        """Return 0: no series is taken."""
        return 0

    def add(self, series: int, number: int, step: int | None, value: float) -> bool:
        """Take no point."""
        return False


class BufferedChannel:
    """Gathers events until the next beat: a short run's are one message."""

    def __init__(self, post: Post, before_end: Callable[[], object]) -> None:
        self.points = NoPoints()
        self._post = post
        self._before_end = before_end
        self._lock = threading.RLock()
        self._events: list[Event] = []
        self._posted = 0
        self.has_ended = False

    def send(self, event: Event) -> None:
        """Take one event; the end of the attempt leaves at once, with all before it."""
        if event["event"] == "finished":
            self._before_end()
            self.has_ended = True
            self._events.append(event)
            self.flush()
        else:
            self._events.append(event)  # one step: a stopped run's exception may come at any instant

    def flush(self) -> None:
        """Post what has been gathered."""
        with self._lock:
            if not self._events:
                return
            taken, self._events = self._events, []
            events = _joined(taken)
            first, self._posted = self._posted, self._posted + len(events)
            self._post(first, events)


def _joined(events: Sequence[Event]) -> list[Event]:
    """Return events with points that follow one another as one event."""
    found: list[Event] = []
    points: list[Event] = []
    for event in events:
        if event["event"] == "metric":
            points.append(event)
            continue
        found += _as_batches(points)
        points = []
        found.append(event)
    return found + _as_batches(points)


def _as_batches(points: Sequence[Event]) -> list[Event]:
    if len(points) < 2:
        return list(points)
    named = (
        (
            point["run"],
            point["attempt"],
            point["number"],
            (point["name"], point["step"], point["value"], point["time"]),
        )
        for point in points
    )
    return [
        {"event": "metrics", "run": run, "attempt": attempt, "time": values[-1][3], "first": first, "points": values}
        for run, attempt, first, values in batches(named)
    ]


class Output:
    """What one run prints: whole lines, as they come, appended to its log, which is there once something is printed."""

    def __init__(self, log: str | None, secrets: Sequence[str]) -> None:
        self._log = log
        self._lock = threading.RLock()
        self._rest = b""
        self._masker = StreamMasker(Masker(secrets)) if secrets else None
        self._fd: int | None = None

    def write(self, data: bytes) -> None:
        """Take some of it."""
        with self._lock:
            self._rest += data
            if b"\n" in data or len(self._rest) > _LONGEST_LINE:
                self.flush()

    def flush(self) -> None:
        """Write what is there of a line."""
        with self._lock:
            taken, self._rest = self._rest, b""
            self._append(taken if self._masker is None else self._masker.feed(taken))

    def close(self) -> None:
        """Write the rest; what comes later, from a thread that the handler left behind, is written too."""
        self.flush()
        if self._masker is not None:
            self._append(self._masker.flush())
        if self._fd is not None:
            descriptor, self._fd = self._fd, None
            os.close(descriptor)

    def _append(self, data: bytes) -> None:
        if not data or self._log is None:
            return
        if self._fd is None:
            Path(self._log).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(self._log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        while data:
            data = data[os.write(self._fd, data) :]


_output: contextvars.ContextVar[Output | None] = contextvars.ContextVar("mlfn_output", default=None)


class _Bytes:
    """The ``buffer`` of a stream."""

    def __init__(self, original: Any) -> None:
        self._original = original

    def write(self, data: Any) -> int:
        """Write bytes to the run's log; outside a run to where they went before."""
        if (output := _output.get()) is None:
            return int(self._original.write(data))
        output.write(bytes(data))
        return len(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


class RoutedStream(io.TextIOBase):
    """stdout or stderr of the process: what a run writes goes to its log, all else to where it went before."""

    def __init__(self, original: TextIO) -> None:
        self.original = original

    @property
    def buffer(self) -> _Bytes:
        """The stream of bytes below it."""
        return _Bytes(self.original.buffer)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of what is written to a log."""
        return "utf-8"

    def write(self, text: str) -> int:
        """Write text."""
        if (output := _output.get()) is None:
            return self.original.write(text)
        output.write(text.encode(errors="backslashreplace"))
        return len(text)

    def flush(self) -> None:
        """Write what is gathered."""
        (_output.get() or self.original).flush()

    def writable(self) -> bool:
        """Return True."""
        return True

    def isatty(self) -> bool:
        """Return False: a log is no terminal."""
        return False

    def fileno(self) -> int:
        """Return the descriptor of the process's own stream: C code writes there, past the log."""
        return self.original.fileno()


def route_streams() -> None:
    """Have stdout and stderr find the log of the run that writes to them."""
    for name in ("stdout", "stderr"):
        if not isinstance(stream := getattr(sys, name), RoutedStream):
            setattr(sys, name, RoutedStream(stream))


class HostedBinding(Binding):
    """A plan in a process that others use too."""

    def apply(self) -> None:
        """Let the process find the caller's own modules and the text of its notebook cells; leave all else as it is."""
        own = [path for path in (*self.plan["sys_path"], self.plan["root"]) if path not in sys.path]
        sys.path.extend(own)
        for name, source in self.plan["sources"].items():
            linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)

    def load(self, secrets: dict[str, str]) -> Callable[..., Any]:
        """Return the function; `secrets` has the values of its secrets by now."""
        return _function(self.plan["payload"], self.plan["pin"], self.calling.name)

    def environ(self, secrets: Mapping[str, str]) -> dict[str, str]:
        """Return the variables that its runs need."""
        of_secrets = {
            secret.env: secrets[secret.key or secret.name] for secret in self.calling.secrets if secret.env is not None
        }
        return {**self.plan["env"], **of_secrets}


_functions: OrderedDict[tuple[str, str | None], Callable[..., Any]] = OrderedDict()
_loading = threading.Lock()


def _function(path: str, pin: str | None, name: str) -> Callable[..., Any]:
    """Return the function of a payload; it is loaded once, for all runs in this process."""
    with _loading:
        if (found := _functions.get((path, pin))) is None:
            data = read_payload(Path(path), name)
            found = _functions[path, pin] = payload.unpack_pinned(data, pin=pin, role="function")
            if len(_functions) > _MOST_FUNCTIONS:
                _functions.popitem(last=False)
        return found


class HostedRun:
    """One attempt, run by the thread that calls `run`; the other methods are for other threads."""

    def __init__(self, task: Task, binding: HostedBinding, post: Post, page: str | None = None) -> None:
        self.name = f"{task.run}-{task.attempt}"
        self._page = page
        self._task = task
        self._binding = binding
        self._interrupt = Interrupt()
        self._channel = BufferedChannel(post, self._before_end)
        self._output: Output | None = None
        self._answered = threading.Event()
        self._answer: str | None = None
        self._is_unanswered = False

    def run(self, extras: Mapping[str, Callable[[], Any]]) -> None:
        """Run it, and report it, unless it was stopped before; never raises for what user code does.

        `extras` is what its context offers beside.
        """
        _prepare_process()
        with _gate:
            if self.name in _stopped:
                return
            running[self.name] = self
        _Beat.ensure()
        try:
            contextvars.copy_context().run(self._run, extras)
        except Cancelled:  # it came between the handler's end and the report of that
            self._interrupt.close()
        finally:
            self._interrupt.close()
            del running[self.name]
        if not self._channel.has_ended:
            self._channel.send({"event": "finished", **self._facts(), **Outcome(RunState.CANCELLED).to_json()})

    def stop(self) -> bool:
        """Have the handler raise `Cancelled`; False where it has ended."""
        return self._interrupt.request()

    def answer(self, why: str | None) -> None:
        """Answer its last point; a text says why it should stop."""
        self._answer = why
        self._answered.set()

    def flush(self) -> None:
        """Report what it has logged by now; of one that is not over at once, the page of its engine too."""
        if (page := self._page) is not None:
            self._page = None
            self._channel.send({"event": "page", **self._facts(), "url": page})
        self._channel.flush()

    def _facts(self) -> dict[str, Any]:
        return {"run": self._task.run, "attempt": self._task.attempt, "time": time.time()}

    def _run(self, extras: Mapping[str, Callable[[], Any]]) -> None:
        binding, secrets = self._binding, dict[str, str]()
        with suppress(Exception):  # a missing one is raised again, and reported, when the run loads
            secrets.update(binding.secrets())
        self._output = Output(self._task.log, tuple(secrets.values()))
        _output.set(self._output)
        shared_folder.set(str(Path(binding.plan["payload"]).parents[1] / "workers"))
        with ExitStack() as environment:

            def load() -> Callable[..., Any]:
                secrets.update(binding.secrets())
                environment.enter_context(temporary_environment(binding.environ(secrets)))
                return binding.load(secrets)

            execute(
                self._task,
                binding.calling,
                load,
                binding.codec(),
                self._channel,
                secrets,
                judge=self._judge,
                extras=Extras(offered=extras),
            )

    def _before_end(self) -> None:
        """Let nothing interrupt the report of the end, and complete the log before it."""
        self._interrupt.close()
        if self._output is not None:
            self._output.close()

    def _judge(self, run: str, step: int | None, value: float) -> str | None:
        if self._is_unanswered:
            return None
        self._answered.clear()
        self._channel.flush()
        if not self._answered.wait(ANSWER_SECONDS):
            self._is_unanswered = True
            return None
        return self._answer


running: dict[str, HostedRun] = {}
"""The attempts that this process runs, by run and attempt."""
_stopped: OrderedDict[str, None] = OrderedDict()  # attempts that must not begin here
_gate = threading.Lock()
_MOST_STOPPED = 10_000


def stop(name: str) -> bool:
    """Stop an attempt; one that has not begun here will not. Return whether its handler runs here."""
    with _gate:
        if (found := running.get(name)) is None:
            _stopped[name] = None
            if len(_stopped) > _MOST_STOPPED:
                _stopped.popitem(last=False)
    return found is not None and found.stop()


class _Beat(threading.Thread):
    """Reports what the runs of this process have logged, until none is left for a while."""

    _current: ClassVar[_Beat | None] = None
    _lock: ClassVar = threading.Lock()

    def __init__(self) -> None:
        super().__init__(name="mlfn-beat", daemon=True)

    @classmethod
    def ensure(cls) -> None:
        """Start it, if it is not there."""
        if cls._current is None:
            with cls._lock:
                if cls._current is None:
                    cls._current = cls()
                    cls._current.start()

    def run(self) -> None:
        """Beat."""
        while True:
            time.sleep(BEAT_SECONDS)
            for found in list(running.values()):
                found.flush()
            for watch in watches:
                watch()


watches: list[Callable[[], object]] = []
"""What else is to be looked at with each beat."""


@functools.cache
def _prepare_process() -> None:
    user_context.in_worker = True
    route_streams()
    prepare_logging()
