"""One process of a server: it loads the function, serves connections, and ends without losing a request."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlfn.backends.hosts.server_options import NEEDS_UVICORN, ServerOptions
from mlfn.errors import MissingExtraError
from mlfn.serving.adapter import Adapter, adapter_of
from mlfn.serving.server import journals
from mlfn.serving.server.calls import EXIT_STUCK, Calls, timed_out
from mlfn.serving.server.http import Application
from mlfn.serving.server.pod_runs import PodRuns
from mlfn.serving.server.runs import Runs
from mlfn.serving.server.statistics import Slot, Statistics
from mlfn.worker import context as user_context
from mlfn.worker.binding import Binding

logger = logging.getLogger("mlfn.serving")
EXIT_REPLACE = 76  # the process asks to be replaced: it ran out of memory
_SWEEP = 1.0
_FLUSH, _IDLE_FLUSH = 0.2, 1.0
_POLL = 0.02
_LINGER = 0.3  # seconds for which a connection without a request is kept when the server ends
_KEEP_ALIVE = 75
BACKLOG = 2048


def load(options: ServerOptions, worker: int) -> tuple[Adapter, Callable[..., Any]]:
    """Return the adapter of the function, begun, and the function; raise what its code or its beginning raises."""
    function, secrets = load_function(options)
    adapter = adapter_of(
        function, name=options.name, project=options.project, outputs=options.outputs, secrets=secrets, worker=worker
    )
    adapter.start()
    return adapter, function


def load_function(options: ServerOptions) -> tuple[Callable[..., Any], dict[str, str]]:
    """Return the function and the values of its secrets; what this process logs is a service's from here on."""
    user_context.in_worker = True
    binding = Binding(options.binding)
    binding.apply()
    secrets: dict[str, str] = {}
    function = binding.load(secrets)
    journals.set_up([*secrets.values(), *options.secrets])
    return function, secrets


def serve(
    options: ServerOptions,
    folder: Path,
    listener: socket.socket,
    statistics: Statistics,
    number: int,
    ready: Callable[[], None],
) -> int:
    """Serve until SIGTERM; return the exit code. `ready` returns when connections may be taken."""
    adapter, function = load(options, number)
    worker = _Worker(adapter, function, options, folder, listener, statistics, statistics[number])
    signal.signal(signal.SIGTERM, worker.on_terminate)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ready()
    worker.start()
    return worker.run()


class _Worker:
    def __init__(
        self,
        adapter: Adapter,
        function: Callable[..., Any],
        options: ServerOptions,
        folder: Path,
        listener: socket.socket,
        statistics: Statistics,
        slot: Slot,
    ) -> None:
        self._adapter = adapter
        self._options = options
        self._listener = listener
        self._slot = slot
        self._code = 0
        self._loop = _new_loop()
        self._access = journals.AccessLog(None if options.in_pod else folder)
        self._calls = Calls(adapter, options, slot, self._on_stuck, self._on_hang)
        self._runs = runs = Runs(adapter, function, self._calls, options.internal, options.version)
        self._app = Application(
            adapter,
            options,
            self._calls,
            statistics,
            slot,
            self._access,
            lambda: self._begin_end(EXIT_REPLACE),
            PodRuns(runs, folder).answer if options.in_pod else runs.answer,
        )
        self._config: Any = _configured(self._app)
        self._state: Any = _server_state(self._config)
        self._server: asyncio.Server | None = None
        self._seen: dict[Any, tuple[Any, float]] = {}
        self._gauges = 0

    def start(self) -> None:
        """Begin to take connections."""
        self._loop.run_until_complete(self._listen())

    def run(self) -> int:
        """Serve until the end; return the exit code."""
        self._loop.call_soon(self._sweep)
        self._loop.call_soon(self._flush)
        self._slot.set_ready(1)
        self._calls.run(self._loop)
        self._slot.set_ready(0)
        with contextlib.suppress(Exception):
            self._adapter.stop()
        self._access.flush()
        return self._code

    def on_terminate(self, *_: object) -> None:
        """End the run that is to be stopped; else end this process, after what has begun."""
        self._runs.stop_current()
        self._loop.call_soon_threadsafe(self._begin_end, 0)

    async def _listen(self) -> None:
        self._listener.setblocking(False)
        self._server = await self._loop.create_server(self._protocol, sock=self._listener.dup(), backlog=BACKLOG)

    def _protocol(self) -> Any:
        return self._config.http_protocol_class(config=self._config, server_state=self._state, app_state={})

    # -- the end
    def _begin_end(self, code: int) -> None:
        if not self._app.is_draining:
            self._app.is_draining = True
            self._code = code
            self._slot.set_ready(0)
            self._loop.create_task(self._end())

    async def _end(self) -> None:
        """Take what has already connected, answer what was sent, and close each connection after that."""
        assert self._server is not None
        self._server.close()
        # A new process takes over the listener where this one alone ends; else those who wait in its queue are ours.
        if self._code == 0:
            await self._accept_rest()
        self._listener.close()
        begun = time.monotonic()
        while self._state.connections or self._app.requests:
            for connection in list(self._state.connections):
                if _is_idle(connection) and time.monotonic() - begun > _LINGER and not _has_data(connection):
                    connection.transport.close()
            await asyncio.sleep(_POLL)
        self._calls.end(self._loop)

    async def _accept_rest(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, OSError):
                return
            connection.setblocking(False)
            await self._loop.connect_accepted_socket(self._protocol, connection)

    def _on_stuck(self) -> None:
        """End soon, with the main thread still in the handler: the answers are given to the kernel first."""
        logger.error(
            "%s exceeded its time limit of %g s: its worker is replaced", self._options.name, self._options.limit or 0
        )
        self._app.is_draining = True
        self._slot.set_ready(0)
        if self._server is not None:
            self._server.close()
        self._loop.create_task(self._leave())

    def _on_hang(self, send: Any) -> None:
        """End at once, from another thread: the loop itself waits for the handler."""
        logger.error(
            "%s exceeded its time limit of %g s: its worker is replaced", self._options.name, self._options.limit or 0
        )
        self._access.flush()
        with contextlib.suppress(OSError, AttributeError):
            transport = send.__self__.transport
            os.write(
                transport.get_extra_info("socket").fileno(), raw_answer(self._options.name, self._options.limit or 0)
            )
        os._exit(EXIT_STUCK)

    async def _leave(self) -> None:
        until = time.monotonic() + 1.0
        while self._app.requests and time.monotonic() < until:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(_POLL)
        await asyncio.sleep(_POLL)
        self._access.flush()
        os._exit(EXIT_STUCK)

    # -- now and then
    def _flush(self) -> None:
        had_requests = True
        with contextlib.suppress(OSError):  # a full disk costs lines, and no request
            had_requests = self._access.flush()
        self._loop.call_later(_FLUSH if had_requests else _IDLE_FLUSH, self._flush)
        self._slot.beat(time.monotonic())
        reporter = self._adapter.reporter
        if reporter.changes != self._gauges:
            self._gauges = reporter.changes
            self._slot.set_gauges(dict(reporter.gauges))

    def _sweep(self) -> None:
        """Close connections that send no whole request, or do not take their answer, in time."""
        self._loop.call_later(_SWEEP, self._sweep)
        now, seen = time.monotonic(), {}
        for connection in list(self._state.connections):
            mark = _progress(connection)
            before, since = self._seen.get(connection, (None, now))
            seen[connection] = (mark, since if before == mark else now)
            if before == mark and now - since > self._patience(connection) and not _is_waiting_for_us(connection):
                connection.transport.abort()
        self._seen = seen

    def _patience(self, connection: Any) -> float:
        # One that has had an answer is kept for the next request.
        return self._options.request_time + (_KEEP_ALIVE if connection.cycle and _is_idle(connection) else 0)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        loop = asyncio.new_event_loop()
    else:
        loop = uvloop.new_event_loop()
    return loop


def _configured(app: Application) -> Any:
    try:
        import uvicorn
    except ImportError as error:
        raise MissingExtraError(NEEDS_UVICORN) from error
    config = uvicorn.Config(
        app,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        interface="asgi3",
    )
    config.load()
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # a client's bad request is no news
    logging.getLogger("uvicorn.access").handlers = []
    return config


def _server_state(config: Any) -> Any:
    from uvicorn.server import ServerState

    state = ServerState()
    state.default_headers = config.encoded_headers
    return state


def _is_idle(connection: Any) -> bool:
    """Say whether a connection has no request that is not answered."""
    cycle = connection.cycle
    return cycle is None or bool(cycle.response_complete)


def _is_waiting_for_us(connection: Any) -> bool:
    """Say whether it is this side's turn: the whole request is there, and no answer is stuck on its way."""
    cycle = connection.cycle
    if cycle is None or cycle.response_complete:
        return False
    return not cycle.more_body and not connection.transport.get_write_buffer_size()


def _progress(connection: Any) -> tuple[Any, ...]:
    """Return what changes while a connection gets on."""
    cycle = connection.cycle
    received = len(cycle.body) if cycle is not None else 0
    return id(cycle), received, _is_idle(connection), connection.transport.get_write_buffer_size()


def _has_data(connection: Any) -> bool:
    """Say whether a request waits in the kernel."""
    found = connection.transport.get_extra_info("socket")
    try:
        with socket.fromfd(found.fileno(), found.family, found.type) as copy:
            return bool(copy.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except (OSError, ValueError):
        return False


def raw_answer(name: str, limit: float) -> bytes:
    """Return the answer to an event that hangs, as it goes over the wire."""
    body = timed_out(name, limit).body
    head = f"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return head.encode() + body
