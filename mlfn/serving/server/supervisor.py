"""A server's first process: it forks the others, replaces those that end, and ends them in the end."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from mlfn.backends.hosts.run_files import EXITS
from mlfn.backends.hosts.server_options import ServerOptions
from mlfn.backends.hosts.status import Status
from mlfn.errors import ServiceError
from mlfn.host.frozen import frozen
from mlfn.host.identity import identify
from mlfn.serving.server import journals, triggers, worker
from mlfn.serving.server.statistics import Statistics

logger = logging.getLogger("mlfn.serving")
SCALE = "scale.json"
MOST_WORKERS = 256
_TICK, _IDLE_TICK = 0.1, 1.0
_KEEP_SMALL = 10.0  # seconds between two looks at the size of the logs
_SPARE = 2.0  # seconds after its time limit at which a worker is killed that does not do so itself
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 10.0
_STEADY = 10.0  # seconds after which a worker's end is no consequence of its beginning
_LONGEST_ERROR = 4000


@frozen
class Child:
    """A forked process: the slot it counts in, its pipe, and when it began."""

    pid: int
    number: int
    said: int
    began: float


@frozen
class Failure:
    """Why a process could not begin: the type of the error, and its text with the traceback."""

    kind: str
    text: str


class Supervisor:
    """Runs one server in its folder."""

    def __init__(self, options: ServerOptions, folder: Path, listener: socket.socket) -> None:
        self._options = options
        self._folder = folder
        self._listener: socket.socket | None = listener
        self._wanted = options.workers
        self._bringers = 1 if options.triggers else 0
        self._statistics = Statistics(MOST_WORKERS + 1)
        self._children: dict[int, Child] = {}
        self._pipes: set[int] = set()
        self._heard: dict[int, bytes] = {}  # by slot, of a process that is not ready yet
        self._ready: set[int] = set()
        self._again: dict[int, float] = {}  # by slot, when the next process begins
        self._waits: dict[int, float] = {}
        self._selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = socket.socketpair()
        self._opened, self._closed = os.pipe()  # workers take connections once the second end is closed
        self._ended_by: int | None = None
        self._kill_at: float | None = None
        self._is_ready = False
        self._looked = 0.0

    def run(self) -> int:
        """Run until SIGTERM, or until the first process cannot begin; return the exit code."""
        self._listen_to_signals()
        self._say("starting")
        for number in self._numbers():
            self._fork(number)
        while self._children or self._ended_by is None:
            at_rest = self._is_ready and not self._again and self._ended_by is None and self._options.limit is None
            for key, _ in self._selector.select(_IDLE_TICK if at_rest else _TICK):
                self._hear(key.fd)
            error = self._reap()
            if error is not None and not self._is_ready and self._ended_by is None:
                return self._fail(error)
            self._fork_again()
            self._kill_overdue()
            if not self._is_ready and self._ready >= set(self._numbers()) and self._ended_by is None:
                try:
                    self._open()
                except ServiceError as refused:
                    return self._fail(Failure(type(refused).__name__, str(refused)))
            if time.monotonic() - self._looked > _KEEP_SMALL:
                self._looked = time.monotonic()
                with contextlib.suppress(OSError):
                    journals.keep_small(self._folder)
        self._say("ended")
        return 0

    def _numbers(self) -> range:
        """Return the slots in use: the workers', and before them that of the triggers other than HTTP."""
        return range(1 - self._bringers, self._wanted + 1)

    def _open(self) -> None:
        """Take connections from here on: one that was taken before would be lost where a process cannot begin."""
        assert self._listener is not None
        try:
            self._listener.listen(worker.BACKLOG)
        except OSError as error:
            raise _taken(self._options, error) from error
        self._is_ready = True
        self._let_in()
        self._say("ready")

    def _let_in(self) -> None:
        if self._closed >= 0:
            os.close(self._closed)
            self._closed = -1

    # -- signals
    def _listen_to_signals(self) -> None:
        for end in (self._wake_in, self._wake_out):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake_out.fileno())
        self._selector.register(self._wake_in, selectors.EVENT_READ)
        signal.signal(signal.SIGTERM, self._on_terminate)
        signal.signal(signal.SIGINT, self._on_terminate)
        signal.signal(signal.SIGHUP, self._on_scale)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _on_terminate(self, number: int, _: object) -> None:
        if self._ended_by is None:
            self._ended_by = number
            self._kill_at = time.monotonic() + self._options.grace
            if self._listener is not None:
                self._listener.close()  # not the workers' copies: they take what has connected
                self._listener = None
            self._signal_all(signal.SIGTERM)
            self._let_in()

    def _on_scale(self, *_: object) -> None:
        """Take as many workers as the folder says now."""
        with contextlib.suppress(OSError, ValueError):
            self._wanted = max(1, min(MOST_WORKERS, int(json.loads((self._folder / SCALE).read_bytes()))))
        for number in self._numbers():
            if number not in {child.number for child in self._children.values()}:
                self._again.setdefault(number, 0.0)
        for child in self._children.values():
            if child.number > self._wanted:
                _signal(child.pid, signal.SIGTERM)

    def _signal_all(self, number: int) -> None:
        for pid in self._children:
            _signal(pid, number)

    # -- processes
    def _fork(self, number: int) -> None:
        heard, said = os.pipe()
        os.set_blocking(heard, False)
        self._statistics[number].begin()
        pid = os.fork()
        if pid == 0:
            _in_child(lambda: self._child(number, said))
        os.close(said)
        self._children[pid] = Child(pid, number, heard, time.monotonic())
        self._heard[number] = b""
        self._selector.register(heard, selectors.EVENT_READ)
        self._pipes.add(heard)
        if self._ended_by is not None:  # the signal came meanwhile
            _signal(pid, signal.SIGTERM)

    def _child(self, number: int, said: int) -> int:
        """Be a worker."""
        signal.set_wakeup_fd(-1)
        for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(name, signal.SIG_DFL)
        self._selector.close()
        self._let_in()
        listener = self._listener
        assert listener is not None

        def ready() -> None:
            _say(said, b"ready")
            os.read(self._opened, 1)

        try:
            if number == 0:
                listener.close()
                return triggers.serve(self._options, self._statistics[0], ready)
            return worker.serve(self._options, self._folder, listener, self._statistics, number, ready)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is said why this process did not begin
            traceback.print_exc()
            text = "".join(traceback.format_exception(error))[-_LONGEST_ERROR:]
            _say(said, json.dumps({"kind": type(error).__name__, "text": text}).encode())
            return 1

    def _hear(self, fd: int) -> None:
        if fd == self._wake_in.fileno():
            with contextlib.suppress(BlockingIOError):
                self._wake_in.recv(4096)
            return
        number = next((child.number for child in self._children.values() if child.said == fd), None)
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            data = b""  # a process that it forked holds the other end: no more comes
        if not data:
            self._pipes.discard(fd)
            self._selector.unregister(fd)
            os.close(fd)
        elif number is not None:
            self._heard[number] += data
            if self._heard[number] == b"ready":
                self._ready.add(number)

    def _reap(self) -> Failure | None:
        """Note the processes that have ended; return why the first of them that did not begin did not."""
        said: Failure | None = None
        while self._children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return said
            if pid == 0:
                return said
            child = self._children.get(pid)
            if child is None:
                continue
            self._close_pipe(child)
            del self._children[pid]
            began = child.number in self._ready
            self._ready.discard(child.number)
            self._statistics[child.number].set_ready(0)
            self._statistics[child.number].busy_since = 0.0
            self._note_exit(pid, status)
            if self._ended_by is None and child.number <= self._wanted:
                said = said or self._note_end(child, status, began=began)
        return said

    def _note_exit(self, pid: int, status: int) -> None:
        """Say how a process has ended: it may have executed a run, whose client asks."""
        code = os.waitstatus_to_exitcode(status)
        line = json.dumps({"pid": pid, "code": None if code < 0 else code, "signal": -code if code < 0 else None})
        with contextlib.suppress(OSError), open(self._folder / EXITS, "a", encoding="ascii") as file:
            file.write(f"{line}\n")

    def _close_pipe(self, child: Child) -> None:
        """Read what an ended process said last."""
        while child.said in self._pipes:
            self._hear(child.said)

    def _note_end(self, child: Child, status: int, *, began: bool) -> Failure | None:
        """Have a process replaced; return why it did not begin, where it did not."""
        code = os.waitstatus_to_exitcode(status)
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        lasted = time.monotonic() - child.began
        wait = 0.0 if began and lasted > _STEADY else self._waits.get(child.number, 0.0)
        self._waits[child.number] = min(_LONGEST_WAIT, max(_FIRST_WAIT, wait * 2))
        self._again[child.number] = time.monotonic() + wait
        logger.error(
            "worker %s (pid %s) ended by %s after %.1f s: it is replaced", child.number, child.pid, how, lasted
        )
        if began:
            return None
        try:
            return Failure(**json.loads(self._heard.get(child.number, b"")))
        except (ValueError, TypeError):  # it could say nothing any more
            return Failure("", f"its process ended by {how} before it was ready")

    def _fork_again(self) -> None:
        for number, when in list(self._again.items()):
            if self._ended_by is not None or number > self._wanted:
                del self._again[number]
            elif time.monotonic() >= when:
                del self._again[number]
                self._fork(number)

    def _kill_overdue(self) -> None:
        if self._kill_at is not None and time.monotonic() > self._kill_at:
            self._signal_all(signal.SIGKILL)
            self._kill_at = time.monotonic() + 1.0
        limit = self._options.limit
        if limit is None:
            return
        for child in self._children.values():
            slot = self._statistics[child.number]
            since = slot.busy_since
            beat = slot.last_beat if slot.is_ready and child.number else 0.0
            now = time.monotonic()
            if (since and now - since > limit + _SPARE) or (beat and now - beat > limit + _SPARE):
                logger.error("worker %s (pid %s) does not answer: it is killed", child.number, child.pid)
                _signal(child.pid, signal.SIGKILL)

    def _fail(self, error: Failure) -> int:
        self._ended_by = 0
        self._signal_all(signal.SIGKILL)
        while self._children:
            self._reap()
            time.sleep(0.01)
        self._say("failed", error=error)
        return 1

    def _say(self, state: str, *, error: Failure | None = None) -> None:
        url = _url(self._listener) if self._listener is not None else None
        facts: dict[str, str] = {} if error is None else {"error": error.text, "kind": error.kind}
        Status(state, vars(identify(os.getpid())), url, **facts).write(self._folder)  # type: ignore[arg-type]


def _in_child(run: Callable[[], int]) -> None:
    """Run and leave, whatever happens: this process is a copy of its parent."""
    code = 1
    try:
        code = run()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _say(fd: int, text: bytes) -> None:
    with contextlib.suppress(OSError):
        os.write(fd, text)
        os.close(fd)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"


def bind(options: ServerOptions) -> socket.socket:
    """Return a socket that has the address of the options, and does not listen yet; ServiceError where that cannot be."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # the next version takes over while this one ends
    try:
        listener.bind((options.host, options.port))
    except OSError as error:
        listener.close()
        raise _taken(options, error) from error
    return listener


def _taken(options: ServerOptions, error: OSError) -> ServiceError:
    where = f"{options.host}:{options.port}" if options.port else options.host
    return ServiceError(
        f"{options.name} cannot listen at {where} ({error.strerror}): another process has it, or it is no address of this "
        "machine. Give another one, as in mlfn.Http(port=8081), or leave port out for a free one."
    )
