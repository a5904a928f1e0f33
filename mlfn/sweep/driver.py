"""One sweep seen through: its strategy asked, children submitted within a moving window, how they end judged and told.

The stored children are the one truth: whoever takes a sweep over reads them, tells the strategy of each again, and goes
on with the number after the last. The parent's attempt is the lease: a driver that was replaced can add no child.
"""

from __future__ import annotations

import importlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mlfn.client import Client
from mlfn.codec import Codec
from mlfn.errors import ParameterError, StorageError, StoreCorruptError, nearest
from mlfn.execution import describe_failure
from mlfn.identity import identify, new_id, now
from mlfn.registry import place_class
from mlfn.spec.record import Outcome, Reason, RunRecord, RunState
from mlfn.store.changes import (
    CancelRequested,
    Change,
    Finished,
    Progressed,
    Reused,
    Started,
    Submitted,
    SweepClosed,
    Withdrawn,
)
from mlfn.store.families import ChildRow
from mlfn.sweep.body import SweepBody
from mlfn.sweep.child import Child
from mlfn.sweep.crew import Crew, DispatchedCrew, InlineCrew, Listeners
from mlfn.sweep.encoding import PointCodec
from mlfn.sweep.ending import Ending, load_ahead
from mlfn.sweep.grammar import parse_condition, parse_selector
from mlfn.sweep.scoreboard import Limits, Scoreboard, Stop
from mlfn.sweep.standing import deciding, standing_of, told
from mlfn.sweep.strategy import Strategy, Told
from mlfn.ticket import Ticket
from mlfn.verdict import failed

logger = logging.getLogger(__name__)
_TICK = 0.25  # seconds between looks at what no message tells
_BATCH = 128  # children in one transaction, where nothing depends on the order of their ends
_GATHER = 0.01
_AHEAD = 512  # children that wait for workers, where nobody says how many may run


@dataclass(frozen=True)
class _Flying:
    """A child that has been submitted and has not ended."""

    iteration: int
    point: Mapping[str, Any]


class _ReplacedError(Exception):
    """Another driver has this sweep now."""


@dataclass(frozen=True)
class Charge:
    """What a driver is given of its sweep: the plan of its children, its description, and who chooses."""

    plan: Mapping[str, Any]
    body: SweepBody
    strategy: Strategy
    points: PointCodec
    load: Callable[[], Callable[..., Any]]


class Driver:
    """Sees one sweep through, in a thread of its own or, inline, in the caller's."""

    def __init__(self, client: Client, record: RunRecord, charge: Charge) -> None:
        self._client = client
        self._record = record
        self._plan = charge.plan
        self._body = body = charge.body
        self._strategy = charge.strategy
        self._points = charge.points
        self._codec: Codec = client.codec()
        self._news: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._flying: dict[str, _Flying] = {}
        self._former: dict[int, ChildRow] = {}  # what the sweep that this one comes after has left
        self._elsewhere: set[str] = set()  # children that another client sees through
        self._ended: list[tuple[str, _Flying, RunState]] = []
        self._doomed: dict[str, float] = {}  # children told to stop, and until when they may take
        self._steps: dict[str, int] = {}
        self._last = 0  # the number of the last child
        self._exhausted = False
        self._cancelled = False
        self._broke: Exception | None = None  # what the strategy raised when it was told of a point
        self._unjudged: set[str] = set()  # children of which a point cannot be judged
        self._told_progress: Mapping[str, Any] = {}
        self._next_tick = time.monotonic() + _TICK
        self._loads_ahead = False
        self._began = now()
        self._before = 0.0  # seconds that earlier drivers took
        self._lock = threading.Lock()
        self._ticket = Ticket(record.id, record.name, record.project, record.plan, record.params, record.labels)
        self._ticket.attempt, self._ticket.state = record.attempt, RunState.RUNNING
        selectors = tuple(parse_selector(text) for text in body.select)
        stop_when = parse_condition(body.stop_when) if body.stop_when is not None else None
        self._standing = standing_of(client.store, body)
        self._decide = deciding(body)
        self._has_seen = False
        limits = Limits(stop_when, body.max_failures, body.max_failure_rate, body.timeout)
        self.board = Scoreboard(selectors, limits)
        self._thread: threading.Thread | None = None
        self._crew = self._make_crew(charge.load)
        self._width = self._make_width()

    # What the client asks of whoever sees runs through.

    def ticket(self, run: str) -> Ticket | None:
        """Return the sweep's ticket, while it is not over."""
        return self._ticket if run == self._ticket.run and not self._ticket.done.is_set() else None

    def unfinished(self) -> list[Ticket]:
        """Return the ticket unless the sweep is over."""
        return [] if self._ticket.done.is_set() else [self._ticket]

    def cancel(self, run: str) -> None:
        """Ask for the end of the sweep and of its children."""
        self._client.store.apply([CancelRequested(run, now())])
        self._news.put(self._cancel)

    def let_go(self) -> None:
        """Let nobody in a forked child wait for the sweep here."""
        self._ticket.let_go()

    def on_done(self, ticket: Ticket, callback: Callable[[], object]) -> None:
        """Call back when the sweep is over; at once if it is."""
        with self._lock:
            if not ticket.done.is_set():
                ticket.callbacks.append(callback)
                return
        callback()

    def close(self) -> None:
        """Leave the sweep to whoever asks for it next."""
        self._news.put(_leave)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=10)

    def start(self) -> Ticket | None:
        """Drive in a thread, and return the sweep's ticket; inline, until the sweep is over."""
        self._client.drives(self._record.id, self)
        importlib.import_module("concurrent.futures.thread")  # pandas needs it, and it cannot be loaded at exit
        if isinstance(self._crew, InlineCrew):
            self._drive()
            return None
        self._thread = threading.Thread(target=self._drive, name=f"mlfn-sweep-{self._record.id[:8]}", daemon=True)
        self._thread.start()
        return self._ticket

    # From here on everything happens in the driver's own thread.

    def _drive(self) -> None:
        try:
            self._see_through()
        except (_LeaveError, _ReplacedError):
            pass  # another driver has it, or will
        finally:
            state, _ = self._client.store.states([self._record.id]).get(self._record.id, (RunState.FAILED, None))
            self._settle(state)

    def _see_through(self) -> None:
        """Drive until the sweep is over, and record how it ended; ctrl-C within an inline child goes on to the caller."""
        interrupted: KeyboardInterrupt | None = None
        try:
            ending = self._driven()
        except (_LeaveError, _ReplacedError):
            raise
        except KeyboardInterrupt as error:  # the child was cancelled, and so is the rest
            interrupted, ending = error, Ending(Stop("cancelled", "it was cancelled"), RunState.CANCELLED)
        except BaseException as error:  # noqa: BLE001 - a strategy is the user's own code
            ending = self._broken(error)
            self._wind_down()
        try:
            self._record_end(ending)
        except Exception as error:  # what the children came to cannot be put together: that is how it ends
            logger.exception("the end of sweep %s cannot be recorded as it should", self._record.id)
            failure = Outcome(RunState.FAILED, Reason.ERROR, describe_failure(error, self._codec))
            end = Finished(self._record.id, self._record.attempt, failure, now())
            self._patiently(lambda: self._client.store.apply([end, SweepClosed(self._record.id)]))
        if interrupted is not None:
            raise interrupted

    def _broken(self, error: BaseException) -> Ending:
        """Return the end of a sweep by what its strategy raised, which is the user's own code, or what else broke."""
        return Ending(None, RunState.FAILED, describe_failure(error, self._codec))

    def _record_end(self, ending: Ending) -> None:
        self._patiently(lambda: ending.record(self._client, self._record, self._body, self._standing, self.board))

    def _driven(self) -> Ending:
        self._take_over()
        while True:
            self._judge()
            self.board.look(self._elapsed())
            if self._cancelled or self.board.stop is not None:
                break
            self._fill()
            if self._flying:
                self._hear()
            elif self._exhausted and not self._ended:
                break
            if self._broke is not None:
                raise self._broke
        if not self._cancelled:
            self.board.run_out(self._body.size)
        stop = self.board.stop
        self._wind_down()
        if self._cancelled:
            return Ending(Stop("cancelled", "it was cancelled"), RunState.CANCELLED)
        return Ending(stop, RunState.FAILED if stop is not None and stop.failed else RunState.SUCCEEDED)

    def _take_over(self) -> None:
        """Read what earlier drivers left, tell the strategy of it, and see through what is in flight."""
        started = Started(self._record.id, self._record.attempt, now())
        self._patiently(lambda: self._client.store.apply([started]))
        if self._body.after is not None:
            succeeded = self._client.store.children(self._body.after, states=(RunState.SUCCEEDED,))
            self._former = {row.iteration: row for row in succeeded}
        rows = self._client.store.children(self._record.id)
        self._last = self._client.store.last_child(self._record.id)  # which may be one that cannot be read
        if not rows:
            return
        ends = [row.ended for row in rows if row.ended is not None]
        self._before = max(0.0, max(ends, default=0.0) - (self._record.started or self._began))
        children = self._standing.children(rows)
        left: dict[str, ChildRow] = {}
        held = self._round_left_open(rows)
        for row, child in zip(rows, children, strict=True):
            self.board.started += 1
            point = self._points.point(row.point)
            if self.board.started > held and row.state.is_terminal:
                # Its result was not known yet when the others of its round were chosen.
                self._strategy.tell(Told(row.iteration, point, RunState.RUNNING, None))
                self._ended.append((row.run, _Flying(row.iteration, point), row.state))
                continue
            self._strategy.tell(told(child, point))
            if row.state.is_terminal:
                self.board.take(child, elapsed=self._elapsed())
            else:
                self._flying[row.run] = _Flying(row.iteration, point)
                left[row.run] = row
        self._carry_on(left)

    def _carry_on(self, left: Mapping[str, ChildRow]) -> None:
        """See children through that others submitted; one that cannot be read fails, for nobody can see it through."""
        readable = self._client.store.readable_runs(list(left))
        for run, row in left.items():
            if run not in readable:
                text = (
                    f"Child {row.iteration} of {self._record.name}: its row cannot be read, so that it could not go on."
                )
                outcome = failed(Reason.STORAGE, StoreCorruptError(text))
                ends: list[Change] = [Withdrawn(run, outcome, now()), Finished(run, row.attempt, outcome, now())]
                self._patiently(partial(self._client.store.apply, ends))
                self._on_ended(run, RunState.FAILED)
        self._crew.carry_on(list(readable.values()))

    def _round_left_open(self, rows: Sequence[ChildRow]) -> int:
        """Return how many children come before the round that an earlier driver left open; all, if it left none."""
        if not self._in_rounds:
            return len(rows)
        before = (len(rows) - 1) // self._width * self._width
        last = rows[before:]
        is_over = len(last) == self._width and all(row.state.is_terminal for row in last)
        return len(rows) if is_over else before

    @property
    def _in_rounds(self) -> bool:
        """Whether nothing is told before all of a round have ended, so that the order of their ends tells nothing."""
        return self._body.deterministic and self._strategy.adaptive

    def _fill(self) -> None:
        """Submit children while there is room, in the order of their numbers."""
        room = self._width - len(self._flying)
        if self._in_rounds:
            begun = self.board.started % self._width
            if not begun and self._flying:
                return
            room = self._width - begun
        busy = len(self._flying) >= 2 * self._crew.width  # others wait already for the workers that come free
        if busy and not self._strategy.adaptive and room < min(self._width, _BATCH) // 2:
            return  # soon there is room for a batch
        one_by_one = self._strategy.adaptive or self._width == 1 or self.board.limits.counts_starts
        while room > 0 and not self._exhausted and self.board.stop is None:
            batch = self._asked(1 if one_by_one else min(room, _BATCH))
            if not batch:
                return
            self._submit(batch)
            room -= len(batch)
            if self.board.limits.counts_starts:
                self.board.look(self._elapsed())
            if self._strategy.adaptive and not self._news.empty() and not self._body.deterministic:
                return  # what has ended meanwhile is told first

    def _asked(self, most: int) -> list[tuple[Submitted, Mapping[str, Any]]]:
        batch: list[tuple[Submitted, Mapping[str, Any]]] = []
        while len(batch) < most:
            number = self._strategy.following(self._last)
            point = self._strategy.ask(number)
            if point is None:
                self._exhausted = True
                break
            self._last = number
            batch.append((self._submitted(number, point), point))
        return batch

    def _submitted(self, iteration: int, point: Mapping[str, Any]) -> Submitted:
        run, record, body = new_id(), self._record, self._body
        params = self._points.checked(body, point)
        stored = self._points.encode(run, point)
        # What checking made something else of, as of a text that names a file, is submitted as that.
        made = {key: value for key, value in params.items() if key not in stored or value is not point[key]}
        encoded = {**body.fixed, **{key: stored[key] for key in params if key in stored and key not in made}}
        encoded.update(self._points.encode(run, made))
        return Submitted(
            run=run,
            name=record.name,
            project=record.project,
            function=record.function,
            plan=record.plan,
            place=record.place,
            owner=self._client.id,
            params=encoded,
            time=now(),
            labels=record.labels,
            parent=record.id,
            iteration=iteration,
            point=stored,
            memo=self._points.memo(encoded) if body.memo else None,
            driver=record.attempt,
        )

    def _submit(self, batch: Sequence[tuple[Submitted, Mapping[str, Any]]]) -> None:
        fresh: list[Submitted] = []
        for submitted, point in batch:
            self._flying[submitted.run] = _Flying(submitted.iteration, point)
            if not self._reuse(submitted):
                fresh.append(submitted)
        self.board.started += len(batch)
        taken: list[bool] = self._patiently(lambda: self._crew.submit(fresh)) if fresh else []
        if not all(taken):
            raise _ReplacedError

    def _reuse(self, submitted: Submitted) -> bool:
        """Give a child the outcome of a run that had the same function and parameters, if it may and there is one."""
        source = self._source(submitted)
        if source is None:
            return False
        added, reused = self._client.store.apply([submitted, Reused(submitted.run, source, now())])
        if not added:
            raise _ReplacedError
        if reused:
            self._on_ended(submitted.run, RunState.SUCCEEDED)
        else:  # removed in between
            self._crew.carry_on([self._client.store.get_run(submitted.run)])
        return True

    def _source(self, submitted: Submitted) -> str | None:
        former = self._former.get(submitted.iteration)
        if former is not None and former.point == submitted.point:
            return former.reused or former.run
        return self._client.store.find_finished(submitted.function, submitted.memo) if submitted.memo else None

    def _judge(self) -> None:
        """Take in the children that have ended, and tell the strategy."""
        if not self._ended:
            return
        if self._in_rounds:
            is_open = self.board.started % self._width and not self._exhausted
            if self._flying or is_open:
                return  # a round is judged when it is over, in the order of its numbers
            self._ended.sort(key=lambda item: item[1].iteration)
        ended, self._ended = self._ended, []
        children = self._read(ended)
        for (_, flying, _), child in zip(ended, children, strict=True):
            self._miss(child)
            self.board.take(child, elapsed=self._elapsed())
            self._strategy.tell(told(child, flying.point))

    def _read(self, ended: Sequence[tuple[str, _Flying, RunState]]) -> list[Child]:
        items = [(run, flying.iteration, state) for run, flying, state in ended]
        found: list[Child] = self._patiently(lambda: self._standing.ended(items))
        return found

    def _miss(self, child: Child) -> None:
        """Say once which of the metrics that decide the first child that succeeded has not reported."""
        if self._has_seen or child.state is not RunState.SUCCEEDED or not self._decide:
            return
        self._has_seen = True
        for option, name in self._decide:
            if name not in child.metrics:
                logger.warning(
                    "%s speaks of %r, which child %d of %s has not reported. %s",
                    option,
                    name,
                    child.iteration,
                    self._record.name,
                    nearest(name, child.metrics),
                )

    def _hear(self) -> None:
        """Wait for news, or for the next look around."""
        limit = self.board.limits.timeout
        patience = max(0.0, self._next_tick - time.monotonic())
        if limit is not None:
            patience = min(patience, max(0.0, limit - self._elapsed()))
        try:
            self._news.get(timeout=patience)()
            if len(self._flying) > _BATCH:
                time.sleep(_GATHER)  # nothing waits for what ended first: many are then judged at once
            while True:
                self._news.get_nowait()()
        except queue.Empty:
            pass
        if time.monotonic() >= self._next_tick:
            self._next_tick = time.monotonic() + _TICK
            self._tick()

    def _tick(self) -> None:
        record = self._patiently(lambda: self._client.store.get_run(self._record.id))
        if record.attempt != self._record.attempt or record.state is not RunState.RUNNING:
            raise _ReplacedError
        if record.cancel_requested:
            self._cancelled = True
        self._patiently(lambda: self._client.store.register_client(self._client.id, identify(os.getpid()), time=now()))
        for run, (state, owner) in self._client.store.states(list(self._elsewhere)).items():
            if state.is_terminal:
                self._on_ended(run, state)
            elif not self._client.owner_lives(owner):
                self._elsewhere.discard(run)
                self._crew.carry_on(list(self._client.store.readable_runs([run]).values()))
        moment = time.monotonic()
        if not self._loads_ahead:
            self._loads_ahead = True
            load_ahead()
        overdue = [run for run, limit in self._doomed.items() if moment >= limit]
        if overdue:
            self._crew.stop(overdue, Outcome(RunState.PRUNED))
            for run in overdue:
                del self._doomed[run]
        self._tell_progress()

    def _tell_progress(self) -> None:
        progress = self.board.progress(self._body.size)
        if progress != self._told_progress:
            self._told_progress = progress
            change = Progressed(self._record.id, self._record.attempt, progress)
            self._patiently(lambda: self._client.store.apply([change]))

    def _wind_down(self) -> None:
        """End what is in flight, and take in how it ended."""
        self._crew.stop(list(self._flying), Outcome(RunState.CANCELLED))
        calls = [CancelRequested(run, now()) for run in self._elsewhere]
        self._patiently(lambda: self._client.store.apply(calls))
        while self._flying:
            self._hear()
        for child in self._read(self._ended):
            self.board.take(child, elapsed=self._elapsed())
        self._ended = []

    # News: called by the crew, from whatever thread.

    def _on_ended(self, run: str, state: RunState) -> None:
        self._news.put(lambda: self._take_end(run, state))

    def _on_point(self, run: str, step: int | None, value: float) -> str | None:
        self._news.put(lambda: self._crew.answer(run, self._verdict(run, step, value)))
        return None

    def _take_end(self, run: str, state: RunState) -> None:
        if not state.is_terminal:
            self._elsewhere.add(run)
            return
        self._elsewhere.discard(run)
        self._doomed.pop(run, None)
        self._steps.pop(run, None)
        flying = self._flying.pop(run, None)
        if flying is not None:
            self._ended.append((run, flying, state))

    def _verdict(self, run: str, step: int | None, value: float) -> str | None:
        """Say why a child that logged this point should stop, if it should.

        Inline it is asked within the handler, which is to hear of the child alone: what breaks ends the sweep later.
        """
        flying = self._flying.get(run)
        if flying is None or self._broke is not None:
            return None
        self._steps[run] = step = self._steps.get(run, -1) + 1 if step is None else step
        try:
            why = self._strategy.report(flying.iteration, step, value)
        except ParameterError as error:
            if run not in self._unjudged:
                self._unjudged.add(run)
                logger.warning("%s of %s is not pruned by such points: %s", run[:8], self._record.name, error)
            return None
        except Exception as error:  # noqa: BLE001 - a pruner can be the user's own
            self._broke = error
            return None
        if why is not None:
            self._doomed[run] = time.monotonic() + self._client.settings.grace
        return why

    def _cancel(self) -> None:
        self._cancelled = True

    def _elapsed(self) -> float:
        return self._before + now() - self._began

    def _settle(self, state: RunState) -> None:
        with self._lock:
            self._ticket.state = state
            self._ticket.done.set()
        self._client.has_driven(self._record.id)
        for callback in self._ticket.callbacks:
            try:
                callback()
            except Exception:
                logger.exception("a callback of sweep %s failed", self._record.id)

    def _patiently(self, act: Callable[[], Any]) -> Any:
        """Do what needs the disk; where that is full, again in a second."""
        while True:
            try:
                return act()
            except StorageError as error:
                logger.warning("what a sweep needs cannot be written; trying again in a second: %s", error)
                time.sleep(1.0)

    def _make_crew(self, load: Callable[[], Callable[..., Any]]) -> Crew:
        if place_class(self._plan["place"]["name"]).runs_in_caller:
            return InlineCrew(
                self._client, self._plan, load, Listeners(self._on_ended, self._verdict, self._body.judged)
            )
        place = self._plan["place"]
        dispatcher = self._client.dispatcher(place["name"], place["options"])
        listeners = Listeners(self._on_ended, self._on_point, self._body.judged)
        return DispatchedCrew(self._client, dispatcher, self._plan, listeners, parallel=self._body.parallel)

    def _make_width(self) -> int:
        """Return how many children may be in flight: what ends one early must be seen before another begins."""
        if isinstance(self._crew, InlineCrew) and not self._in_rounds:
            return 1
        if self._body.parallel is not None:
            return self._body.parallel
        return self._crew.width if self._strategy.adaptive or self.board.limits else _AHEAD


class _LeaveError(Exception):
    """This process ends, and leaves the sweep to another."""


def _leave() -> None:
    raise _LeaveError
