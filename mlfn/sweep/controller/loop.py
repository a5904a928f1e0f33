"""The loop of a driver: asks the strategy, submits children within a moving window, and tells the strategy how they ended.

The stored children are the one truth: a driver that takes a sweep over reads them, tells the strategy of each again, and
continues with the number after the last. The parent's attempt is the lease: a driver that was replaced can add no child.
"""

from __future__ import annotations

import logging
import os
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from mlfn.backends.places.base import Capabilities
from mlfn.backends.registry import capabilities, engine_of
from mlfn.dispatch.failures import failed
from mlfn.dispatch.session import Session
from mlfn.errors import StorageError, StoreCorruptError, nearest
from mlfn.host.frozen import frozen
from mlfn.host.identity import identify, now
from mlfn.spec.plan import Plan
from mlfn.spec.record import Outcome, Reason, RunRecord, RunState
from mlfn.store.changes import (
    CancelRequested,
    Change,
    Finished,
    FinishedUnstarted,
    Progressed,
    Reused,
    Started,
    Submitted,
    SweepClosed,
)
from mlfn.store.sweeps import ChildRow
from mlfn.sweep.controller.child_factory import ChildFactory
from mlfn.sweep.controller.completion import Completion, preload
from mlfn.sweep.controller.executors import DispatchedExecutor, Executor, InlineExecutor
from mlfn.sweep.controller.pruning import Pruning
from mlfn.sweep.controller.scoreboard import Scoreboard
from mlfn.sweep.params.encoding import PointCodec
from mlfn.sweep.results.child import Child
from mlfn.sweep.results.standing import deciding, report_of, standing_of
from mlfn.sweep.spec import SweepBody
from mlfn.sweep.strategy import Strategy, Told
from mlfn.worker.failures import describe_failure

logger = logging.getLogger(__name__)
T = TypeVar("T")
_POLL_INTERVAL = 0.25  # seconds between reads of the store, for changes that send no event
_BATCH = 128  # children in one transaction, where nothing depends on the order of their ends
_GATHER = 0.01  # seconds in which events of a large window are collected
_QUEUED = 512  # children that wait for workers, where nothing limits how many are in flight


class LeaseLostError(Exception):
    """This driver must stop: another one has the sweep, or its process ends."""


@frozen
class SweepSetup:
    """The children's plan, the sweep's body, its strategy and codec, and a loader of the function for inline children."""

    plan: Plan
    body: SweepBody
    strategy: Strategy
    points: PointCodec
    load: Callable[[], Callable[..., Any]]


@frozen
class _Active:
    """A child that has been submitted and has not ended."""

    iteration: int
    point: Mapping[str, Any]


class SweepLoop:
    """Drives one sweep until it is over; all but `cancel`, `leave` and the callbacks happens in one thread."""

    def __init__(self, session: Session, record: RunRecord, setup: SweepSetup) -> None:
        self._session, self._record = session, record
        self._body, self._strategy, self._points = setup.body, setup.strategy, setup.points
        self._factory = ChildFactory(session, record, setup.body, setup.points)
        self._pruning = Pruning(setup.strategy, record.name, session.settings.grace)
        self._standing = standing_of(session.store, setup.body)
        self._scoreboard = Scoreboard(self._standing.selectors, setup.body)
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._active: dict[str, _Active] = {}
        self._remote: set[str] = set()  # active children that another client runs
        self._ended: list[
            tuple[Child, Mapping[str, Any]]
        ] = []  # with their points, which the strategy has not received yet
        self._last = 0  # the number of the last child
        self._exhausted = False
        self._cancelled = False
        self._has_warned = False
        self._has_preloaded = False
        self._stored_progress: Mapping[str, Any] = {}
        self._next_poll = time.monotonic() + _POLL_INTERVAL
        self._began = now()
        self._earlier = 0.0  # seconds that earlier drivers took
        self._executor = self._make_executor(setup)
        self._batch = _BATCH
        self._window = self._make_window(capabilities(engine_of(setup.plan).name), setup.plan)

    @property
    def is_inline(self) -> bool:
        """Whether the children run in the thread of the loop."""
        return isinstance(self._executor, InlineExecutor)

    def cancel(self) -> None:
        """Stop the sweep as cancelled; from any thread."""
        self._events.put(self._poll)  # which reads that it was requested

    def leave(self) -> None:
        """Stop the loop and leave the sweep unfinished; from any thread."""
        self._events.put(_lose_lease)

    def run(self) -> None:
        """Drive until the sweep is over, and record how it ended; ctrl-C within an inline child is raised after that."""
        interrupted: KeyboardInterrupt | None = None
        try:
            completion = self._drive()
        except LeaseLostError:
            raise
        except KeyboardInterrupt as error:  # the child was cancelled, and so is the rest
            interrupted, completion = error, Completion.cancelled()
        except BaseException as error:  # noqa: BLE001 - a strategy is the user's own code
            completion = self._failure(error)
            self._stop_children()
        try:
            _until_stored(
                lambda: completion.record(self._session, self._record, self._body, self._standing, self._scoreboard)
            )
        except Exception as error:  # the results cannot be put together: the sweep fails with that
            logger.exception("the end of sweep %s cannot be recorded as it should", self._record.id)
            outcome = Outcome(RunState.FAILED, Reason.ERROR, self._failure(error).failure)
            end = Finished(self._record.id, self._record.attempt, outcome, now())
            self._apply(end, SweepClosed(self._record.id))
        if interrupted is not None:
            raise interrupted

    def _failure(self, error: BaseException) -> Completion:
        return Completion(None, RunState.FAILED, describe_failure(error, self._session.codec()))

    def _drive(self) -> Completion:
        self._restore()
        while True:
            self._take_ended()
            self._scoreboard.check_limits(self._elapsed())
            if self._cancelled or self._scoreboard.stop is not None:
                break
            self._fill_window()
            if self._active:
                self._wait_for_events()
            elif self._exhausted and not self._ended:
                break
            if self._pruning.error is not None:
                raise self._pruning.error
        if not self._cancelled:
            self._scoreboard.mark_exhausted(self._body.size)
        stop = self._scoreboard.stop
        self._stop_children()
        if self._cancelled:
            return Completion.cancelled()
        return Completion(stop, RunState.FAILED if stop is not None and stop.failed else RunState.SUCCEEDED)

    # Taking over from an earlier driver.

    def _restore(self) -> None:
        """Read the children of earlier drivers, tell the strategy of them, and continue those in flight."""
        self._apply(Started(self._record.id, self._record.attempt, now()))
        rows = self._session.store.children(self._record.id)
        self._last = self._session.store.last_iteration(self._record.id)  # which may be one that cannot be read
        ends = [row.ended for row in rows if row.ended is not None]
        self._earlier = max(0.0, max(ends, default=0.0) - (self._record.started or self._began))
        left: dict[str, ChildRow] = {}
        closed = self._in_closed_rounds(rows)
        for row, child in zip(rows, self._standing.children(rows), strict=True):
            self._scoreboard.started += 1
            point = self._points.point(row.point)
            if self._scoreboard.started > closed and row.state.is_terminal:
                # Its result was not known yet when the others of its round were chosen.
                self._strategy.tell(Told(row.iteration, point, RunState.RUNNING, None))
                self._ended.append((Child(row.iteration, row.run, row.state), point))
                continue
            self._strategy.tell(report_of(child, point))
            if row.state.is_terminal:
                self._scoreboard.add(child, elapsed=self._elapsed())
            else:
                self._active[row.run] = _Active(row.iteration, point)
                left[row.run] = row
        self._resume(left)

    def _resume(self, left: Mapping[str, ChildRow]) -> None:
        """Continue children that others submitted; fail those whose row cannot be read."""
        if not left:
            return
        readable = self._session.store.readable_runs(list(left))
        for run, row in left.items():
            if run not in readable:
                text = (
                    f"Child {row.iteration} of {self._record.name}: its row cannot be read, so that it cannot continue."
                )
                outcome = failed(Reason.STORAGE, StoreCorruptError(text))
                self._apply(FinishedUnstarted(run, outcome, now()), Finished(run, row.attempt, outcome, now()))
                self._on_ended(run, RunState.FAILED)
        self._executor.resume(list(readable.values()))

    def _in_closed_rounds(self, rows: Sequence[ChildRow]) -> int:
        """Return how many children come before the round that an earlier driver left open; all, if it left none."""
        if not self._in_rounds or not rows:
            return len(rows)
        before = (len(rows) - 1) // self._window * self._window
        last = rows[before:]
        is_over = len(last) == self._window and all(row.state.is_terminal for row in last)
        return len(rows) if is_over else before

    @property
    def _in_rounds(self) -> bool:
        """Whether the strategy receives a whole round at once, so that the order of ends has no influence."""
        return self._body.deterministic and self._strategy.adaptive

    # Submitting.

    def _fill_window(self) -> None:
        """Submit children while there is room, in the order of their numbers."""
        room = self._window - len(self._active)
        if self._in_rounds:
            begun = self._scoreboard.started % self._window
            if not begun and self._active:
                return
            room = self._window - begun
        is_busy = len(self._active) >= 2 * self._executor.width  # others wait already for the workers that come free
        if is_busy and not self._strategy.adaptive and room < min(self._window, self._batch) // 2:
            return  # soon there is room for a batch
        counts_starts = self._scoreboard.counts_starts
        most = 1 if self._strategy.adaptive or self._window == 1 or counts_starts else self._batch
        while room > 0 and not self._exhausted and self._scoreboard.stop is None:
            batch = self._ask(min(room, most))
            if not batch:
                return
            self._submit(batch)
            room -= len(batch)
            if counts_starts:
                self._scoreboard.check_limits(self._elapsed())
            if self._strategy.adaptive and not self._events.empty() and not self._body.deterministic:
                return  # the strategy first receives the children that ended meanwhile

    def _ask(self, most: int) -> list[tuple[Submitted, Mapping[str, Any]]]:
        batch: list[tuple[Submitted, Mapping[str, Any]]] = []
        while len(batch) < most:
            number = self._strategy.following(self._last)
            point = self._strategy.ask(number)
            if point is None:
                self._exhausted = True
                break
            self._last = number
            batch.append((self._factory.make(number, point), point))
        return batch

    def _submit(self, batch: Sequence[tuple[Submitted, Mapping[str, Any]]]) -> None:
        new: list[Submitted] = []
        for child, point in batch:
            self._active[child.run] = _Active(child.iteration, point)
            if not self._reuse(child):
                new.append(child)
        self._scoreboard.started += len(batch)
        if new and not all(_until_stored(lambda: self._executor.submit(new))):
            raise LeaseLostError

    def _reuse(self, child: Submitted) -> bool:
        """Store a child with the outcome of a run that had the same function and parameters, if there is one."""
        source = self._factory.find_reusable(child)
        if source is None:
            return False
        added, reused = self._session.store.apply([child, Reused(child.run, source, now())])
        if not added:
            raise LeaseLostError
        if reused:
            self._on_ended(child.run, RunState.SUCCEEDED)
        else:  # the run was removed in between
            self._executor.resume([self._session.store.get_run(child.run)])
        return True

    # Children that ended.

    def _take_ended(self) -> None:
        """Count the children that have ended, and tell the strategy; of a round when it is over, by number."""
        if not self._ended:
            return
        if self._in_rounds:
            is_open = self._scoreboard.started % self._window and not self._exhausted
            if self._active or is_open:
                return
            self._ended.sort(key=lambda item: item[0].iteration)
        ended, self._ended = self._ended, []
        for (_, point), child in zip(ended, self._read(ended), strict=True):
            self._check_metrics(child)
            self._scoreboard.add(child, elapsed=self._elapsed())
            self._strategy.tell(report_of(child, point))

    def _read(self, ended: Sequence[tuple[Child, Mapping[str, Any]]]) -> list[Child]:
        return _until_stored(lambda: self._standing.children([child for child, _ in ended]))

    def _check_metrics(self, child: Child) -> None:
        """Look once at what the first child that succeeded has not reported: stop for a selected metric, warn of others."""
        if self._has_warned or child.state is not RunState.SUCCEEDED:
            return
        self._has_warned = True
        for option, name in deciding(self._body):
            if name in child.metrics:
                continue
            near = nearest(name, child.metrics) if child.metrics else "it has reported nothing."
            near = near[0].upper() + near[1:]
            is_misspelt = option.startswith("select=") and bool(
                child.metrics
            )  # one that reports nothing is no evidence
            text = f"{option} speaks of {name!r}, which child {child.iteration} of {self._record.name} has not reported. {near}"
            if is_misspelt and self._body.strict and not self._is_last():
                self._scoreboard.fail(f"{text} with_options(strict=False) waits for the others all the same")
            else:
                logger.warning("%s", text)

    def _is_last(self) -> bool:
        """Return whether no other child is left that a stop would spare."""
        return not self._active and self._body.size is not None and self._scoreboard.started >= self._body.size

    def _stop_children(self) -> None:
        """Cancel the active children, and count how they end."""
        self._executor.stop(list(self._active), Outcome(RunState.CANCELLED))
        self._apply(*(CancelRequested(run, now()) for run in self._remote))
        while self._active:
            self._wait_for_events()
        for child in self._read(self._ended):
            self._scoreboard.add(child, elapsed=self._elapsed())
        self._ended = []

    # Events and polling.

    def _wait_for_events(self) -> None:
        """Handle the next events, or poll the store when it is time."""
        timeout = max(0.0, self._next_poll - time.monotonic())
        if self._body.timeout is not None:
            timeout = min(timeout, max(0.0, self._body.timeout - self._elapsed()))
        try:
            self._events.get(timeout=timeout)()
            if len(self._active) > _BATCH:
                time.sleep(_GATHER)  # a large window is not empty soon: more events can be handled at once
            while True:
                self._events.get_nowait()()
        except queue.Empty:
            pass
        if time.monotonic() >= self._next_poll:
            self._next_poll = time.monotonic() + _POLL_INTERVAL
            self._poll()

    def _poll(self) -> None:
        store = self._session.store
        record = _until_stored(lambda: store.get_run(self._record.id))
        if record.attempt != self._record.attempt or record.state is not RunState.RUNNING:
            raise LeaseLostError
        self._cancelled = self._cancelled or record.cancel_requested
        _until_stored(lambda: store.register_client(self._session.id, identify(os.getpid()), time=now()))
        for run, (state, owner) in store.states(list(self._remote)).items():
            if state.is_terminal:
                self._on_ended(run, state)
            elif not self._session.owner_lives(owner):
                self._remote.discard(run)
                self._executor.resume(list(store.readable_runs([run]).values()))
        if not self._has_preloaded:
            self._has_preloaded = True
            preload()
        if overdue := self._pruning.overdue():
            self._executor.stop(overdue, Outcome(RunState.PRUNED))
        progress = self._scoreboard.progress(self._body.size)
        if progress != self._stored_progress:
            self._stored_progress = progress
            self._apply(Progressed(self._record.id, self._record.attempt, progress))

    # Callbacks of the executor, from any thread.

    def _on_ended(self, run: str, state: RunState) -> None:
        self._events.put(partial(self._handle_end, run, state))

    def _on_point(self, run: str, step: int | None, value: float) -> str | None:
        self._events.put(lambda: self._executor.answer(run, self._verdict(run, step, value)))
        return None

    def _handle_end(self, run: str, state: RunState) -> None:
        if not state.is_terminal:
            self._remote.add(run)
            return
        self._remote.discard(run)
        self._pruning.forget(run)
        active = self._active.pop(run, None)
        if active is not None:
            self._ended.append((Child(active.iteration, run, state), active.point))

    def _verdict(self, run: str, step: int | None, value: float) -> str | None:
        active = self._active.get(run)
        return None if active is None else self._pruning.verdict(run, active.iteration, step, value)

    def _elapsed(self) -> float:
        return self._earlier + now() - self._began

    def _apply(self, *changes: Change) -> None:
        _until_stored(lambda: self._session.store.apply(list(changes)))

    def _make_executor(self, setup: SweepSetup) -> Executor:
        plan = setup.plan
        calls: dict[str, Any] = {"on_ended": self._on_ended, "metric": self._body.judged}
        if capabilities(engine_of(plan).name).in_caller:
            return InlineExecutor(self._session, plan, load=setup.load, on_point=self._verdict, **calls)
        return DispatchedExecutor(
            self._session,
            plan,
            parallel=self._body.parallel,
            failures=lambda: self._scoreboard.failures_left,
            on_point=self._on_point,
            **calls,
        )

    def _make_window(self, can: Capabilities, plan: Plan) -> int:
        """Return how many children may be in flight: few where the end of one decides whether or how another begins.

        Where none does and the place keeps the window, it gets as many at once as one execution can hold.
        """
        if self.is_inline and not self._in_rounds:
            return 1
        body = self._body
        limits = (body.stop_when, body.max_failure_rate, body.timeout)
        is_counted = can.counts_failures and _is_countable(body, plan, can.max_units)
        has_limit = any(limit is not None for limit in limits) or (body.max_failures is not None and not is_counted)
        if can.window == "place" and not self._strategy.adaptive and not has_limit:
            self._batch = can.max_units
            return max(_QUEUED, can.max_units)
        if self._body.parallel is not None:
            return self._body.parallel
        return self._executor.width if self._strategy.adaptive or has_limit else _QUEUED


def _is_countable(body: SweepBody, plan: Plan, most: int) -> bool:
    """Return whether one execution holds all children, and each that fails there has failed: its place can count them."""
    is_tried_again = plan.retry is not None and plan.retry.times > 0
    return body.size is not None and body.size <= most and not is_tried_again


def _lose_lease() -> None:
    raise LeaseLostError


def _until_stored(act: Callable[[], T]) -> T:
    """Do something that needs the disk, again each second while the disk is full."""
    while True:
        try:
            return act()
        except StorageError as error:
            logger.warning("what a sweep needs cannot be written; trying again in a second: %s", error)
            time.sleep(1.0)
