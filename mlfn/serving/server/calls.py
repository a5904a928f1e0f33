"""`Calls`: a worker's events, one at a time in its main thread, while its connections are served.

Handlers run in the main thread, where libraries expect them, whatever they take. Those that are done within a millisecond are
called where the request was read, without any hand-over; the loop that serves the connections then runs in the main thread
too. For slower ones it runs in a thread beside: other clients still get answers, such as that all workers are busy. Which of
both it is follows from how long the last calls took. Asynchronous handlers run in the loop, many at a time.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from asyncio import events
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from mlfn.backends.hosts.server_options import ServerOptions
from mlfn.serving.adapter import Adapter
from mlfn.serving.answers import Answer, problem
from mlfn.serving.events import Event
from mlfn.serving.server.statistics import Slot

T = TypeVar("T")
_FAST = 0.001  # seconds, within which a call may hold up the connections
_SLOW, _VERY_SLOW = 0.005, 0.05
_MOST_SLOW = 3  # slow calls in a row, or a very slow one, after which the handler no longer counts as fast
_TRIALS = 32  # fast calls in a row after which the handler counts as fast
_TICK = 0.05
EXIT_STUCK = 75  # EX_TEMPFAIL: an event exceeded its time limit


class Calls:
    """Calls one adapter.

    `stuck` ends the process after the answers have been sent. `hung` does where the loop cannot send them: it gets what the
    event that hangs would have been answered with.
    """

    def __init__(
        self,
        adapter: Adapter,
        options: ServerOptions,
        slot: Slot,
        stuck: Callable[[], None],
        hung: Callable[[Any], None],
    ) -> None:
        self._adapter = adapter
        self._limit = options.limit
        self._wait = options.wait
        self._most_waiting = -(-options.queue // options.workers)
        self._slot = slot
        self._stuck = stuck
        self._hung = hung
        self._is_stuck = False
        self._is_fast = adapter.is_async
        self._streak = 0
        self._slow = 0
        self._busy = False
        self._running = 0  # asynchronous events
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._items: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._current: asyncio.Future[Any] | None = None
        self._main = threading.get_ident()
        self._ended = False
        self._send: Any = None

    # -- of the loop
    async def answer(self, event: Event) -> Answer:
        """Return the answer to an event: 503 where no worker is free in time, 408 where the time limit was exceeded."""
        if self._adapter.is_async:
            return await self._answer_async(event)
        return await self._in_turn(lambda: self._adapter.handle(event))  # type: ignore[no-any-return]

    def answer_now(self, event: Event, send: Any) -> Answer | None:
        """Return the answer to an event without a hand-over, where the handler is fast and free; else None."""
        self._send = send
        if not self._is_fast or self._busy or self._adapter.is_async or threading.get_ident() != self._main:
            return None
        return self._call_here(lambda: self._adapter.handle(event))

    async def run_beside(self, call: Callable[[], T]) -> T | None:
        """Call in the main thread with the connections served beside, however long it takes; None where it is not free."""
        if self._busy or self._waiting or self._running or self._is_stuck:
            return None
        self._busy = True
        loop = asyncio.get_running_loop()
        try:
            done = loop.create_future()
            self._items.put((call, done))
            if self._is_fast and threading.get_ident() == self._main:
                self._is_fast, self._streak = False, 0
                loop.stop()
            found: T = await done
            return found
        finally:
            self._busy = False
            self._wake_next()

    async def next_piece(self, pieces: Any) -> bytes | None:
        """Return the next piece of a stream, None at its end; a plain generator's comes from the main thread too."""
        if hasattr(pieces, "__anext__"):
            found: bytes | None = await anext(pieces, None)
            return found
        piece = await self._in_turn(lambda: next(pieces, None))
        if isinstance(piece, Answer):
            raise BrokenPipeError("the stream was cut: no worker was free")
        return piece  # type: ignore[no-any-return]

    async def _answer_async(self, event: Event) -> Answer:
        if self._running > self._most_waiting:
            return busy(self._adapter.name)
        self._running += 1
        self._slot.set_waiting(self._running - 1)
        try:
            return await asyncio.wait_for(self._adapter.handle_async(event), self._limit)
        except asyncio.TimeoutError:
            return self._timed_out()
        finally:
            self._running -= 1

    async def _in_turn(self, call: Callable[[], Any]) -> Any:
        if (self._busy or self._waiting) and not await self._turn():
            return busy(self._adapter.name)
        if self._is_stuck:
            return busy(self._adapter.name)
        self._busy = True
        try:
            if self._is_fast and threading.get_ident() == self._main:
                return self._call_here(call)
            done = self._current = asyncio.get_running_loop().create_future()
            self._items.put((call, done))
            return await done
        finally:
            self._busy = False
            self._current = None
            self._wake_next()

    async def _turn(self) -> bool:
        """Wait until it is this event's turn; False where that takes too long, or too many wait already."""
        if len(self._waiting) >= self._most_waiting:
            return False
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._slot.set_waiting(len(self._waiting))
        try:
            await asyncio.wait_for(turn, self._wait)
        except asyncio.TimeoutError:
            return False
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)
            self._slot.set_waiting(len(self._waiting))
        return True

    def _wake_next(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                self._busy = True  # no other may come between
                turn.set_result(None)
                return

    def _tick(self) -> None:
        """Answer for the event that exceeds its limit, and have this process replaced."""
        loop = asyncio.get_running_loop()
        loop.call_later(_TICK, self._tick)
        assert self._limit is not None
        if self._is_stuck or self._current is None:
            return
        since = self._slot.busy_since
        if since and time.monotonic() - since > self._limit and not self._current.done():
            self._is_stuck = True
            self._current.set_result(self._timed_out())
            while self._waiting:
                turn = self._waiting.popleft()
                if not turn.done():
                    turn.set_result(None)
            self._stuck()

    def _timed_out(self) -> Answer:
        return timed_out(self._adapter.name, self._limit or 0)

    # -- of the main thread
    def run(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run the loop, and call handlers, until `end`; in the main thread."""
        if self._limit is not None and not self._adapter.is_async:
            loop.call_soon(self._tick)
            threading.Thread(target=self._watch, daemon=True).start()
        while not self._ended:
            if self._is_fast:
                loop.run_forever()
            else:
                self._run_beside(loop)

    def end(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make `run` return; called in the loop."""
        self._ended = True
        self._items.put(None)
        loop.stop()

    def _run_beside(self, loop: asyncio.AbstractEventLoop) -> None:
        thread = threading.Thread(target=loop.run_forever, name="connections")
        thread.start()
        while not self._is_fast and not self._ended and (item := self._items.get()) is not None:
            self._do(loop, *item)
        if not self._ended:
            loop.call_soon_threadsafe(loop.stop)
        thread.join()
        while not self._ended and not self._items.empty() and (item := self._items.get()) is not None:
            self._do(loop, *item)

    def _do(self, loop: asyncio.AbstractEventLoop, call: Callable[[], Any], done: asyncio.Future[Any]) -> None:
        begun = time.monotonic()
        if done is self._current:  # a run has a time limit of its own
            self._slot.busy_since = begun
        error: BaseException | None = None
        value: Any = None
        try:
            value = call()
        except BaseException as raised:  # noqa: BLE001 - a stream that breaks; adapters raise nothing
            error = raised
        took = time.monotonic() - begun
        self._slot.busy_since = 0.0
        self._streak = self._streak + 1 if took < _FAST else 0
        if self._streak >= _TRIALS or self._adapter.is_async:
            self._is_fast = True
        loop.call_soon_threadsafe(_settle, done, value, error)

    def _call_here(self, call: Callable[[], T]) -> T:
        """Call in the loop's own thread. Within it no loop runs: a handler may run one of its own."""
        begun = self._slot.busy_since = time.monotonic()
        loop = asyncio.get_running_loop()
        events._set_running_loop(None)
        try:
            return call()
        finally:
            events._set_running_loop(loop)
            self._slot.busy_since = 0.0
            took = time.monotonic() - begun
            if took > _SLOW:
                self._note_slow(took, loop)
            else:
                self._slow = 0

    def _note_slow(self, took: float, loop: asyncio.AbstractEventLoop) -> None:
        self._slow += 1
        if took > _VERY_SLOW or self._slow >= _MOST_SLOW:
            self._is_fast, self._streak, self._slow = False, 0, 0
            loop.call_soon(loop.stop)  # it goes on beside

    def _watch(self) -> None:
        """Answer for a fast handler that hangs where the request was read: the loop cannot, and this process is replaced."""
        limit = self._limit or 0
        while True:
            time.sleep(min(_TICK, limit))
            since = self._slot.busy_since
            if self._is_fast and since and time.monotonic() - since > limit:
                self._hung(self._send)
                return


def _settle(done: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if done.done():
        return  # it was answered: its time limit was exceeded
    if error is None:
        done.set_result(value)
    else:
        done.set_exception(error)


def busy(name: str) -> Answer:
    """Return the answer where no worker is free."""
    answer = problem(503, f"{name} has no free worker: try again, or give it more of them, as in Http(workers=4).")
    answer.headers = [("Retry-After", "1")]
    return answer


def timed_out(name: str, limit: float) -> Answer:
    """Return the answer where an event exceeded its time limit."""
    return problem(408, f"{name} took longer than its time limit of {limit:g} seconds.")
