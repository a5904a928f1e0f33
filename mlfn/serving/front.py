"""`Front`: what stands between Nuclio's processor and a function: who may call, what a body may be, how long it may take."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mlfn.backends.hosts.run_files import RUNS_PATH, TOKEN_HEADER
from mlfn.backends.hosts.server_options import ServerOptions
from mlfn.host.identity import identify
from mlfn.host.private_files import replace
from mlfn.serving.adapter import Adapter
from mlfn.serving.answers import Answer, problem
from mlfn.serving.events import Event
from mlfn.serving.returned import piece_type
from mlfn.serving.server.calls import timed_out
from mlfn.serving.server.http import too_large
from mlfn.serving.server.journals import AccessLog
from mlfn.serving.server.limits import Gate
from mlfn.serving.server.pages import INTERNAL, Page, Pages
from mlfn.serving.server.runs import Executor
from mlfn.serving.server.statistics import Statistics
from mlfn.worker.task import Task

logger = logging.getLogger("mlfn.serving")
WORKERS, COUNTS, FAILURE = "workers", "counts", "failure.json"
WHO = f"{INTERNAL}who"
"""Where a service says, to mlfn alone, which process answers."""
_FLUSH = 0.2
_LONGEST_ERROR = 4000
_TOKEN = TOKEN_HEADER.encode()


class TimeUp(BaseException):
    """The event exceeds its time limit; raised within the handler."""


class Front:
    """One worker's. `folder` is that of the service on this machine; a service elsewhere has none, and executes no runs."""

    def __init__(
        self, adapter: Adapter, function: Callable[..., Any], options: ServerOptions, folder: Path | None, context: Any
    ) -> None:
        self._adapter = adapter
        self._options = options
        self._is_http = context.trigger.kind in ("http", "")
        engine = options.engine or {"slots": {}, "workers": 1}
        number = engine["slots"].get(context.trigger.name, 0) + int(context.worker_id or 0)
        counts = Statistics(engine["workers"], folder / COUNTS if folder else None)
        self._slot = counts[min(number, len(counts) - 1)]
        self._gate = Gate(options, share=options.workers)
        self._pages = Pages(adapter, options, counts)
        self._access = AccessLog(folder)
        self._flushes = False
        self._gauges = 0
        self._begun = 0.0
        self._executor = Executor(adapter, function, options.internal, options.version) if options.internal else None
        self._leaves_with = 1 if folder is None else 0  # the keeper replaces who leaves; a pod is replaced as a whole
        self._folder = folder
        self._name = f"{context.trigger.name}-{context.worker_id}"

    def begin(self) -> None:
        """Take signals, and say that this worker is there."""
        self._slot.begin()
        self._slot.set_ready(1)
        signal.signal(signal.SIGALRM, _raise_time_up)
        # The processor panics when a worker dies, and cuts what the others do.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._on_terminate)
        remove_sockets(sys.argv)
        if self._folder is not None:
            replace(self._folder / WORKERS / self._name, json.dumps(vars(identify(os.getpid()))).encode())

    def _on_terminate(self, *_: object) -> None:
        if self._executor is not None:
            self._executor.stop_current()

    # -- what the function need not answer
    def refused_or_own(self, event: Event, headers: dict[bytes, bytes]) -> Answer | None:
        """Return the answer that the function need not give; None for an event that is the function's."""
        self._begun = self._slot.busy_since = time.monotonic()
        if not self._is_http:
            return None
        path = event.path
        origin = headers.get(b"origin")
        if origin is not None and event.method == "OPTIONS" and b"access-control-request-method" in headers:
            return self._gate.preflight(origin)
        if self._pages.is_open(path):
            return self._pages.page()
        is_internal = path.startswith(INTERNAL)
        if is_internal and _TOKEN in headers and self._executor is not None:
            return self._of_mlfn(self._executor, event, headers[_TOKEN])
        if (refused := self._gate.refuse(headers)) is not None:
            return refused
        if is_internal and path not in self._pages:
            return problem(404, f"There is no {path}.")
        if event.method in ("GET", "HEAD") and (shown := self._pages.shown(path, headers)) is not None:
            return shown
        size = headers.get(b"content-length", b"0")
        return too_large(self._options.max_body) if size.isdigit() and int(size) > self._options.max_body else None

    def _of_mlfn(self, executor: Executor, event: Event, given: bytes) -> Answer:
        """Answer what mlfn asks: which process this is, or to execute a run."""
        if (refused := executor.refuse(given)) is not None:
            return refused
        if event.path == WHO:
            return Answer(json.dumps({"pid": os.getpid()}).encode())
        if event.path != RUNS_PATH:
            return problem(404, f"There is no {event.path}.")
        wanted = event.body if isinstance(event.body, dict) else json.loads(event.body)
        if (refused := executor.refuse_version(wanted)) is not None:
            return refused
        executor.execute_here(Path(wanted["folder"]), wanted["plan"], Task(**wanted["task"]))
        return Answer(b"{}")

    # -- what it answers
    def answer(self, event: Event) -> Answer:
        """Return the function's answer, whole: the processor takes no stream."""
        limit = self._options.limit
        if limit is None:
            return _whole(self._adapter.handle(event))
        try:
            signal.setitimer(signal.ITIMER_REAL, limit)
            try:
                answer = _whole(self._adapter.handle(event))
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except TimeUp:  # in a stream, or when the handler had just returned
            return timed_out(self._adapter.name, limit)
        return timed_out(self._adapter.name, limit) if isinstance(answer.error, TimeUp) else answer

    async def answer_async(self, event: Event) -> Answer:
        """Return the answer of an asynchronous function."""

        async def whole() -> Answer:
            return await _whole_later(await self._adapter.handle_async(event))

        try:
            return await asyncio.wait_for(whole(), self._options.limit)
        except asyncio.TimeoutError:
            return timed_out(self._adapter.name, self._options.limit or 0)

    def note(self, event: Event, headers: dict[bytes, bytes], answer: Answer) -> None:
        """Have an answer counted and logged once the wrapper has sent it, and let pages of other origins read it that may."""
        took = time.monotonic() - self._begun
        self._slot.busy_since = 0.0
        if (origin := headers.get(b"origin")) is not None:
            answer.headers = [*answer.headers, *self._gate.cors_headers(origin)]
        _soon(self._noted, event, answer, took)

    def _noted(self, event: Event, answer: Answer, took: float) -> None:
        if event.path == WHO:
            return
        slot = self._slot
        if not isinstance(answer, Page):
            slot.count(answer.status, took)
        if self._is_http:
            self._access.add(event.method, event.path, answer.status, took, len(answer.body), event._id)
            self._flush_soon()
        else:
            self._log(event, answer, took)
        if (changes := self._adapter.reporter.changes) != self._gauges:
            self._gauges = changes
            slot.set_gauges(dict(self._adapter.reporter.gauges))
        if answer.fatal:
            _later(self._leave)

    def flush(self) -> None:
        """Write what is noted of requests."""
        self._flushes = False
        self._access.flush()

    def _flush_soon(self) -> None:
        if not self._flushes:
            self._flushes = True
            _later(self.flush)

    def _leave(self) -> None:
        self.flush()
        os._exit(self._leaves_with)

    def _log(self, event: Event, answer: Answer, took: float) -> None:
        if answer.status >= 400:
            said = answer.body[:500].decode("utf-8", "replace")
            logger.error("%s by %s: %s, %s", self._adapter.name, event.trigger_name, answer.status, said)
        else:
            logger.info("%s by %s: %s in %.1f ms", self._adapter.name, event.trigger_name, answer.status, took * 1000)


def say_failure(folder: Path, error: BaseException) -> None:
    """Say why this worker cannot begin, for who waits for it."""
    text = "".join(traceback.format_exception(error))[-_LONGEST_ERROR:]
    replace(folder / FAILURE, json.dumps({"kind": type(error).__name__, "text": text}).encode())


def remove_sockets(arguments: Sequence[str]) -> None:
    """Remove the files of the wrapper's sockets, which are connected by now: the processor leaves them in /tmp for ever."""
    for name, value in itertools.pairwise(arguments):
        if name in ("--event-socket-path", "--control-socket-path"):
            Path(value).unlink(missing_ok=True)


def _soon(call: Callable[..., None], *args: Any) -> None:
    """Call as soon as the wrapper has sent its answer: it waits for the next event then."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # without the wrapper, as tests call it
        call(*args)
    else:
        loop.call_soon(call, *args)


def _later(call: Callable[[], None]) -> None:
    """Call between two events, in the wrapper's own loop."""
    try:
        asyncio.get_running_loop().call_later(_FLUSH, call)
    except RuntimeError:  # without the wrapper, as tests call it
        call()


def _raise_time_up(*_: object) -> None:
    raise TimeUp


def _whole(answer: Answer) -> Answer:
    if answer.pieces is None:
        return answer
    if hasattr(answer.pieces, "__anext__"):
        return asyncio.run(_whole_later(answer))
    try:
        answer.body = b"".join(answer.pieces)
    except Exception as error:  # noqa: BLE001 - of the handler
        return _broken(error)
    return answer


async def _whole_later(answer: Answer) -> Answer:
    if answer.pieces is None:
        return answer
    try:
        pieces = [piece async for piece in answer.pieces]
    except Exception as error:  # noqa: BLE001 - of the handler
        return _broken(error)
    answer.body = b"".join(pieces)
    answer.content_type = answer.content_type or piece_type(pieces[0] if pieces else None)
    return answer


def _broken(error: Exception) -> Answer:
    """Return the answer in the place of a stream that broke off."""
    logger.error("A stream broke off", exc_info=error)
    answer = problem(500, "The stream broke off. The log says why.")
    answer.error = error
    return answer
