"""The dispatcher of one place: it claims stored runs, starts them as executions, records how they end, retries and cancels.

The order of writes is the invariant: a run is stored before anything starts, claimed before an execution gets it, and
terminal in the store before its waiters are released. After `submit`, one thread per place does everything; the store
fences off other processes.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

from mlfn import errors
from mlfn.artifacts.nested import LATE
from mlfn.backends.places.base import EventsReceived, Pool, Slot, StatusChanged, StoredExecution, Terminated
from mlfn.dispatch.dependencies import CodecOf, resolve
from mlfn.dispatch.failures import failed, of_termination, stopped_from_outside, with_stacks
from mlfn.dispatch.inflight import InflightRun, OnPoint
from mlfn.dispatch.outbox import Entry, Outbox, change_of
from mlfn.dispatch.queue import Pace, RunQueue
from mlfn.dispatch.retry_policy import MAX_FREE_ATTEMPTS, seconds_before_retry
from mlfn.errors import StorageError, StoreError
from mlfn.host.identity import identify, now
from mlfn.spec.plan import Plan, kills_among, with_more_memory
from mlfn.spec.record import Outcome, Reason, RunRecord, RunState, log_file
from mlfn.store import changes
from mlfn.store.commands import Store
from mlfn.store.queries import ExecutionRow
from mlfn.worker.task import Task

logger = logging.getLogger(__name__)
_TICK = 0.25  # seconds between checks of cancel requests and of upstream runs
_HEARTBEAT = 5.0  # seconds between renewals of this client's heartbeat
_UPSTREAM_CHECK = 1.0  # seconds between checks that the owners of upstream runs are alive
_STORAGE_RETRY = 1.0  # seconds before a failed write is tried again
_IDLE_WAIT = 3600.0  # seconds to wait for reports while nothing runs
_REPORTED = attrgetter("reported")
_NO_RUNS: Mapping[str, InflightRun] = {}
NO_OWNER = ""


class Dispatcher:
    """Owns the runs that this process submits to one place, at one target, and the thread that runs them."""

    def __init__(
        self,
        store: Store,
        place: Pool,
        *,
        name: str,
        target: str,
        client: str,
        folder: Path,
        resume_orphan: Callable[[str], None],
        codec: CodecOf,
    ) -> None:
        self._store = store
        self._resume_orphan = resume_orphan  # resumes a run whose owner is dead
        self._place = place
        self._codec = codec
        self._can = place.CAPABILITIES
        self._name, self._target = name, target
        self._client = client
        self._folder = folder
        self._lock = threading.Lock()
        self._inflight_runs: dict[str, InflightRun] = {}
        self._plans: dict[str, Plan] = {}
        self._calls: deque[Callable[[], None]] = deque()
        self._queue = RunQueue()
        self._held: dict[str, dict[str, InflightRun]] = {}  # execution -> its runs, at a worker the running one first
        self._pace = Pace()
        self._outbox = Outbox(
            store, client, busy=lambda: self._held, replacement=self._failure_instead, usurped=self._yield_executions
        )
        self._record = self._outbox.add
        self._usurped: set[str] = set()  # executions that another client has taken over
        self._foreign: set[str] = set()  # those of them that it may not have removed yet
        self._warned: set[str] = set()
        self._next_tick = 0.0
        self._next_heartbeat = 0.0
        self._next_upstream_check = 0.0
        self._warm = False
        self._is_woken = False
        self._closing = False
        self._thread: threading.Thread | None = None

    def warm(self) -> None:
        """Start the thread and a first worker before they are needed."""
        if not self._warm:
            self._warm = True
            self._call(self._place.warm)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="mlfn-dispatch", daemon=True)
                self._thread.start()

    def submit(
        self, batch: Sequence[changes.Submitted], plan: Plan, prepare: Callable[[InflightRun], object] | None = None
    ) -> list[InflightRun | None]:
        """Store new runs of one plan in one transaction and queue them; None for each that the store refused.

        Once this returns, they cannot be lost. `prepare` gets each run before it can start.
        """
        added = self._store.apply(batch)
        inflight_runs = [_inflight_of(submitted) if ok else None for submitted, ok in zip(batch, added, strict=True)]
        entering = [inflight for inflight in inflight_runs if inflight is not None]
        if prepare is not None:
            for inflight in entering:
                prepare(inflight)
        self._own(entering, plan)

        def admit() -> None:
            for inflight in entering:
                self._admit(inflight)

        self._call(admit)
        return inflight_runs

    def scale_to(self, parallel: int | None) -> int:
        """Ask the place for room for `parallel` runs, and return how many it has room for."""
        return self._place.scale_to(parallel)

    def answer(self, run: str, why: str | None) -> None:
        """Answer a point of a run's judged metric; a text is the reason to stop the run."""
        self._call(lambda: self._send_answer(run, why))

    def resume(self, record: RunRecord, plan: Plan) -> InflightRun:
        """Queue a pending run that this process has adopted."""
        inflight = self._taken_over(record, plan)
        self._call(partial(self._delay, inflight, record.not_before or 0.0))
        return inflight

    def adopt(self, row: ExecutionRow, held: Sequence[tuple[RunRecord, Plan]]) -> None:
        """Own a dead client's execution: follow its journal, and record its runs."""
        inflight_runs = [self._taken_over(record, plan) for record, plan in held]
        for inflight, (record, _) in zip(inflight_runs, held, strict=True):
            inflight.ours, inflight.state, inflight.lines = False, RunState.RUNNING, record.acknowledged
            inflight.started = self._store.attempt_started(record.id, record.attempt)
            self._held.setdefault(row.id, {})[inflight.run] = inflight
        self._call(partial(self._attach, row, inflight_runs, [record for record, _ in held]))

    def settle(self, row: ExecutionRow, held: Sequence[tuple[RunRecord, Plan]]) -> None:
        """Record the journal of an execution that is gone before this returns; only for a dispatcher without a thread."""
        self.run_by_turns()
        self.adopt(row, held)
        while any(known.id == row.id for known in self._store.executions(self._client)):
            self.turn()
        self._place.close()

    def run_by_turns(self) -> None:
        """Start no thread: the calling one does the work, by `turn`. To be called before anything is submitted."""
        self._thread = threading.current_thread()

    def turn(self) -> None:
        """Receive reports, decide, record in one transaction, and only then start runs and release waiters."""
        if not self._outbox.has_pending:
            self._receive()
            self._calls.extend(partial(self._admit, inflight) for inflight in self._queue.take_due(now()))
            self._run_calls()
            self._tick()
            self._claim()
        self._outbox.flush()

    def cancel(self, run: str) -> None:
        """Request a run's cancellation; its `InflightRun` is done when that is confirmed."""
        self._store.apply([changes.CancelRequested(run, now())])
        self.stop(run, Outcome(RunState.CANCELLED))

    def stop(self, run: str, cause: Outcome) -> None:
        """Stop a run of this process, and record `cause` as its outcome."""
        self._call(partial(self._stop, run, cause))

    def inflight(self, run: str) -> InflightRun | None:
        """Return a run that this process owns, until it is terminal."""
        return self._inflight_runs.get(run)

    def unfinished(self) -> list[InflightRun]:
        """Return the runs that are not terminal."""
        with self._lock:
            return list(self._inflight_runs.values())

    def on_done(self, inflight: InflightRun, callback: Callable[[], object]) -> None:
        """Call back from the dispatcher's thread when the run is terminal; at once if it is."""
        with self._lock:
            if not inflight.done.is_set():
                inflight.callbacks.append(callback)
                return
        callback()

    def close(self) -> None:
        """End the thread and idle workers; what runs goes on and writes to its journal."""
        self._closing = True
        if self._thread is None:
            self._place.close()  # nothing was ever called: no thread does it
        elif self._thread is not threading.current_thread():
            self._place.wake()
            self._thread.join(timeout=10)

    def after_fork(self) -> None:
        """Release every waiter in a forked child: the runs belong to the parent process."""
        for inflight in self._inflight_runs.values():
            inflight.after_fork()
        self._place.after_fork()

    def _own(self, inflight_runs: Sequence[InflightRun], plan: Plan) -> None:
        with self._lock:
            for inflight in inflight_runs:
                self._plans[inflight.plan] = plan
                self._inflight_runs[inflight.run] = inflight

    def _taken_over(self, record: RunRecord, plan: Plan) -> InflightRun:
        """Own a run of another client, with the memory that its earlier attempts have earned it."""
        inflight = InflightRun.of_record(record, retries=self._store.retries(record.id))
        if plan.retry is not None and plan.retry.mem is not None:
            plan = with_more_memory(plan, kills_among(self._store.attempts(record.id)))
            inflight.plan = plan.hash
        self._own([inflight], plan)
        return inflight

    def _call(self, action: Callable[[], None]) -> None:
        """Run an action in the dispatcher's thread."""
        self._calls.append(action)
        if self._thread is None:
            self._start()
        if not self._is_woken:
            self._is_woken = True
            self._place.wake()

    # From here on everything happens in the dispatcher's own thread.

    def _attach(self, row: ExecutionRow, inflight_runs: Sequence[InflightRun], records: Sequence[RunRecord]) -> None:
        for lost in (self._usurped, self._foreign):
            lost.discard(row.id)  # another client had taken it over from this one, and has died
        plan = self._plans[inflight_runs[0].plan] if inflight_runs else None
        for inflight in inflight_runs if not self._can.pooled else ():
            with suppress(errors.ParentFailedError, errors.NotFoundError, errors.StoreCorruptError):
                # One that was never observed is created again, and reads them.
                inflight.resolved, _ = resolve(self._store, inflight.name, inflight.params, self._codec)
        tasks = [self._task_of(inflight) for inflight in inflight_runs]
        acknowledged = {record.id: record.acknowledged for record in records}
        units = {record.id: record.unit or 0 for record in records}
        self._place.attach(StoredExecution(row.id, row.handle, row.cursor, plan, tasks, units, acknowledged))
        if not inflight_runs:
            self._discard(row.id)
        for inflight, record in zip(inflight_runs, records, strict=True):
            # After `attach`: stopping a run stops its unit, so the place must know that first.
            inflight.execution = row.id
            self._set_deadline(inflight, soonest=_TICK)  # its journal is read first
            if record.cancel_requested:
                self._stop(inflight.run, Outcome(RunState.CANCELLED))

    def _serve(self) -> None:
        while not self._closing:
            try:
                self.turn()
            except StorageError as error:
                logger.warning("what a run needs cannot be written; trying again soon: %s", error)
                time.sleep(_STORAGE_RETRY)
            except Exception:
                logger.exception("the dispatcher continues after an unexpected error")
                time.sleep(0.1)
        # Remove the rows of closed executions: they would look like a dead client's.
        for execution in self._place.close():
            with suppress(StoreError):
                self._store.remove_execution(execution)

    def _run_calls(self) -> None:
        while self._calls:
            try:
                self._calls[0]()
            except StorageError:
                raise  # it stays first, and runs when the store can be read again
            except BaseException:
                self._calls.popleft()
                raise
            self._calls.popleft()

    def _receive(self) -> None:
        reports = self._place.collect(self._longest_wait())
        self._is_woken = False
        for report in reports:
            if isinstance(report, EventsReceived):
                self._receive_events(report)
            elif isinstance(report, Terminated):
                self._receive_termination(report)
            else:
                self._receive_status(report)

    def _receive_events(self, report: EventsReceived) -> None:
        execution = report.execution
        events: Sequence[Mapping[str, Any]] = report.events
        if execution in self._usurped:
            for event in events:
                if event["event"] == "finished":
                    self._place.finished(execution)  # its slot is free; another client records the end
            return
        unit = None
        if report.run is not None:
            if (unit := self._held.get(execution, {}).get(report.run)) is None:
                return  # it has ended: its journal was delivered again
            events = unit.in_order(events, report.first or 0)
        for event in events:
            try:
                self._receive_event(execution, event)
            except Exception as error:
                logger.exception("execution %s sent an unreadable report: %r", execution, event)
                self._fail_unreadable(execution, event, error)
        if unit is not None:
            self._acknowledge_unit(execution, unit, report.cursor)
        elif report.cursor is not None and not self._has_unrecorded_end(execution):
            self._outbox.acknowledge(execution, report.cursor)

    def _acknowledge_unit(self, execution: str, unit: InflightRun, cursor: str | None) -> None:
        """Record how far a unit's own journal is read, and its end if that was waiting for the rest of the journal."""
        is_held = self._held.get(execution, _NO_RUNS).get(unit.run) is unit  # its end was not among them
        if is_held and unit.reported is None:
            self._record(changes.Acknowledged(unit.run, unit.attempt, unit.lines))
        if cursor is not None:
            self._outbox.acknowledge(execution, cursor)
        if is_held and unit.terminated is not None:
            self._receive_termination(unit.terminated)

    def _receive_status(self, report: StatusChanged) -> None:
        inflight = self._held.get(report.execution, {}).get(report.run)
        if inflight is not None and inflight.started is None and inflight.status != report.message:
            inflight.status = report.message
            self._record(changes.StatusNoted(inflight.run, inflight.attempt, report.message))

    def _fail_unreadable(self, execution: str, event: Mapping[str, Any], error: Exception) -> None:
        """Fail a run that sent an unreadable report, and retire its worker."""
        self._place.retire(execution)
        held = self._held.get(execution, {})
        begun = next((run for run, inflight in held.items() if inflight.started is not None), next(iter(held), ""))
        if (inflight := held.get(event["run"]) or held.get(begun)) is not None:
            text = (
                f"{inflight.name}: its worker sent an unreadable report ({type(error).__name__}: {error}), so its outcome is "
                "unknown. Only mlfn may write to its files, and both sides must run the same version of it."
            )
            inflight.failure = failed(Reason.ERROR, errors.RunError(text))

    def _has_unrecorded_end(self, execution: str) -> bool:
        """Return whether a worker reported an end that is not recorded yet: a successor must read it again."""
        return any(map(_REPORTED, self._held.get(execution, _NO_RUNS).values()))

    def _longest_wait(self) -> float:
        if self._calls:
            return 0.0
        until = _TICK if self._inflight_runs or self._foreign else _IDLE_WAIT
        if (due := self._queue.next_due()) is not None:
            until = min(until, due - now())
        return max(0.0, until)

    def _receive_event(self, execution: str, event: Mapping[str, Any]) -> None:
        what = event["event"]
        held = self._held.get(execution)
        inflight = held.get(event["run"]) if held else None  # None: a handler's child, or an attempt that has ended
        if what == "finished":
            if inflight is not None and inflight.attempt == event["attempt"]:
                outcome = inflight.failure or _outcome(event, inflight.name)
                self._receive_end(inflight, execution, outcome, event["time"])
            return
        if what == "garbled":
            raise ValueError(event["line"])
        change = change_of(event)
        if change is not None:
            self._record(change, execution=execution)
        if inflight is None:
            return
        if what == "started":
            inflight.started = event["time"]
            self._set_deadline(inflight)
        elif inflight.judged is not None and isinstance(change, changes.MetricsLogged):
            self._report_points(inflight, change)

    def _receive_end(self, inflight: InflightRun, execution: str, outcome: Outcome, time_: float) -> None:
        self._pace.note(inflight.plan, time_ - inflight.started if inflight.started is not None else _TICK)
        is_cancelled = outcome.state is RunState.CANCELLED
        if inflight.cause is not None or (is_cancelled and not self._can.pooled):
            inflight.reported = (outcome, time_)  # its unit is being stopped: the outcome counts once that is gone
            return
        if is_cancelled:
            outcome = with_stacks(
                self._stopped_from_outside(inflight, time_), outcome
            )  # had we stopped it, `cause` would be set
        self._release(inflight, execution)
        self._end_attempt(inflight, outcome, time_)

    def _stopped_from_outside(self, inflight: InflightRun, ended: float) -> Outcome:
        """Return the outcome of an attempt that its former client or its process stopped at its timeout, or that anything else stopped."""
        return self._timed_out(inflight) if self._is_late(inflight, ended) else stopped_from_outside(inflight.name)

    def _is_late(self, inflight: InflightRun, ended: float) -> bool:
        limit = self._plans[inflight.plan].timeout
        return limit is not None and inflight.started is not None and ended - inflight.started >= limit

    def _report_points(self, inflight: InflightRun, logged: changes.MetricsLogged) -> None:
        on_point = inflight.on_point
        if on_point is None or inflight.attempt != logged.attempt:
            return
        for name, step, value, _ in logged.points:
            if name == inflight.judged:
                self._outbox.after_flush(partial(_judge, on_point, logged.run, step, value))

    def _release(self, inflight: InflightRun, execution: str) -> None:
        runs = self._held[execution]
        del runs[inflight.run]
        if not runs:
            del self._held[execution]
            self._discard(execution)
        self._place.finished(execution)

    def _discard(self, execution: str) -> None:
        """Remove an execution that was there for its runs alone, once their ends are recorded.

        Its row stays until the place reports that it is gone: a client that dies meanwhile leaves it to the next one.
        """
        if not self._can.pooled:
            self._outbox.after_flush(partial(self._remove, execution))

    def _remove(self, execution: str, _: int) -> None:
        if execution not in self._usurped:
            self._place.cleanup(execution)

    def _recall(self, execution: str) -> None:
        """Requeue the runs that a worker has not begun."""
        for run in reversed(self._place.recall(execution)):  # each goes to the front of the queue
            self._return(self._held[execution].pop(run))
        if not self._held.get(execution, True):
            del self._held[execution]

    def _return(self, inflight: InflightRun) -> None:
        back = changes.Recalled(inflight.run, inflight.attempt)
        inflight.attempt -= 1
        inflight.state, inflight.execution, inflight.started = RunState.PENDING, None, None
        if inflight.cause is not None:
            self._record(back)
            self._withdraw(inflight, inflight.cause)
        else:
            self._record(back, lambda _: self._queue.put_first(inflight))

    def _receive_termination(self, gone: Terminated) -> None:
        """End the attempts that an execution held, or that of one unit; requeue those that had not begun."""
        if gone.run is None:
            self._outbox.after_flush(partial(self._clean_up, gone.execution))
            held = self._held.pop(gone.execution, {})
        else:
            unit = self._held.get(gone.execution, {}).get(gone.run)
            if unit is None:
                return  # it ended before
            if gone.lines is not None and unit.lines < gone.lines:
                unit.terminated = gone  # some of its journal has not arrived
                return
            held = {unit.run: unit}
            self._release(unit, gone.execution)
        unstarted = [held.pop(run) for run in gone.unstarted if run in held]
        if gone.never_began and unstarted and unstarted[0].cause is None:
            # Fail the first run; requeueing it could crash worker after worker.
            first = unstarted.pop(0)
            held[first.run] = first
        for inflight in reversed(unstarted):  # each goes to the front of the queue
            self._return(inflight)
        for inflight in held.values():
            self._end_with_execution(inflight, gone)

    def _clean_up(self, execution: str, _: int) -> None:
        if execution in self._usurped:
            return  # its row and what is left of it are another client's
        self._store.remove_execution(execution)
        self._place.cleanup(execution)

    def _end_with_execution(self, inflight: InflightRun, gone: Terminated) -> None:
        """End the attempt of a run whose execution terminated."""
        self._outbox.acknowledge(gone.execution, None)  # only its owner records how it ended
        outcome, time_ = inflight.reported or (inflight.failure, now())
        is_stopped = inflight.cause is not None or (outcome is not None and outcome.state is RunState.CANCELLED)
        if outcome is None or (is_stopped and outcome.state is not RunState.SUCCEEDED):
            started = inflight.started is not None
            cause = inflight.cause
            if (
                cause is None
                and outcome is not None
                and self._can.deadline == "client"
                and self._is_late(inflight, time_)
            ):
                cause = self._timed_out(inflight)  # by its former client, or by its own process
            outcome = (
                with_stacks(cause, outcome)
                if cause is not None
                else of_termination(inflight.name, gone, started=started)
            )
        self._end_attempt(inflight, outcome, time_)

    def _end_attempt(self, inflight: InflightRun, outcome: Outcome, time_: float) -> None:
        """Record the end of an attempt: the run is terminal, or is requeued for its next attempt."""
        wait = None
        if outcome.state is RunState.FAILED:
            retry = self._plans[inflight.plan].retry
            wait = seconds_before_retry(outcome, retry, used=inflight.retries, free=inflight.free)
        if wait is not None and outcome.reason is Reason.OOM and not self._gets_more_memory(inflight):
            wait = None
        if wait is None:
            self._record(
                changes.Finished(inflight.run, inflight.attempt, outcome, time_),
                lambda applied: self._finish(inflight, outcome.state, outcome if applied else None),
            )
            return
        reason = outcome.reason or Reason.ERROR
        counts = reason not in (Reason.PREEMPTED, Reason.NEVER_STARTED)
        inflight.retries, inflight.free = inflight.retries + counts, inflight.free + (not counts)
        if reason is Reason.NEVER_STARTED:
            self._warn_once(inflight.plan, outcome)
        again = changes.Requeued(inflight.run, inflight.attempt, reason, outcome.failure, now() + wait, time_, counts)
        self._record(again, lambda _: self._delay(inflight, again.not_before))
        if not inflight.ours:
            self._record(
                changes.Adopted(inflight.run, NO_OWNER, self._client, time_),
                lambda _: self._finish(inflight, RunState.PENDING),
            )

    def _gets_more_memory(self, inflight: InflightRun) -> bool:
        """Have the next attempt ask for what its retry policy says; False where its place has not that much."""
        plan = with_more_memory(self._plans[inflight.plan], 1)
        if plan.hash == inflight.plan:
            return True
        try:
            self._place.check_plan(plan)
        except errors.OptionError as error:
            logger.warning("%s (%s) is not tried again with more memory: %s", inflight.name, inflight.run[:8], error)
            return False
        self._plans[plan.hash], inflight.plan = plan, plan.hash
        return True

    def _warn_once(self, plan: str, outcome: Outcome) -> None:
        """Warn once a plan why its runs do not start."""
        if plan not in self._warned and outcome.failure is not None:
            self._warned.add(plan)
            logger.warning("%s\nRetrying, up to %d times.", outcome.failure.message, MAX_FREE_ATTEMPTS)

    def _finish(self, inflight: InflightRun, state: RunState, outcome: Outcome | None = None) -> None:
        with self._lock:
            inflight.state, inflight.outcome = state, outcome
            inflight.done.set()  # before it is removed: `after_fork` must find every run that has waiters
            self._inflight_runs.pop(inflight.run, None)
        for callback in inflight.callbacks:
            try:
                callback()
            except Exception:
                logger.exception("a callback of run %s failed", inflight.run)
        for child in self._queue.release(inflight.run):
            self._call(partial(self._admit, child))

    def _delay(self, inflight: InflightRun, until: float) -> None:
        inflight.back_to_pending()
        if inflight.ours:
            self._queue.put_later(inflight, until)

    def _admit(self, inflight: InflightRun) -> None:
        """Queue a run whose upstream runs have ended; hold it while one runs; fail it when one failed."""
        if inflight.state is not RunState.PENDING:
            return  # cancelled meanwhile
        if not any(
            "output" in value or "path" in value or value.get("packer") in LATE for value in inflight.params.values()
        ):
            self._queue.put(inflight)  # it reads its parameters as they are stored
            return
        try:
            inflight.resolved, parent = resolve(self._store, inflight.name, inflight.params, self._codec)
        except (errors.ParentFailedError, errors.NotFoundError, errors.StoreCorruptError) as error:
            self._withdraw(inflight, failed(Reason.ERROR, error))
            return
        if parent is None:
            self._queue.put(inflight)
        else:
            self._queue.put_waiting(inflight, parent)

    def _claim(self) -> None:
        """Claim ready runs for free slots, plan by plan in order of their first run."""
        for digest in self._queue.plans():
            plan = self._plans[digest]
            while (first := self._queue.first(digest)) is not None:
                slot = self._place.reserve(
                    plan,
                    waiting=self._queue.count(digest),
                    backlog=self._pace.most_queued(digest),
                    parallel=first.parallel,
                    failures=first.failures,
                )
                if isinstance(slot, Slot):
                    taken = self._queue.take(digest, slot.units)
                    self._assign(taken, slot)
                    for _ in range(slot.units - len(taken)):  # some of those waiting were cancelled meanwhile
                        self._place.finished(slot.execution)
                elif slot.error is not None:
                    [refused] = self._queue.take(digest, 1)
                    reason = Reason.SKEW if isinstance(slot.error, errors.SkewError) else Reason.NEVER_STARTED
                    self._withdraw(refused, failed(reason, _as_mlfn(slot.error)))
                else:
                    break

    def _assign(self, inflight_runs: Sequence[InflightRun], slot: Slot) -> None:
        """Claim runs for one slot; their execution is stored before, and started after."""
        execution = slot.execution
        tasks: list[Task] = []
        if slot.handle is not None:
            self._record(
                changes.ExecutionCreated(
                    execution, self._client, self._name, self._target, slot.handle, units=len(inflight_runs)
                )
            )
        held = self._held.setdefault(execution, {})
        moment = now()
        for unit, inflight in enumerate(inflight_runs):
            inflight.state, inflight.execution, inflight.lines = RunState.RUNNING, execution, 0
            held[inflight.run] = inflight
            claim = changes.Claimed(
                inflight.run,
                self._client,
                execution,
                moment,
                unit=None if self._can.pooled else unit,
                queued=slot.queued,
            )
            self._record(claim, partial(self._claimed, inflight, execution, tasks))
        self._outbox.after_flush(partial(self._start_tasks, execution, tasks))

    def _claimed(self, inflight: InflightRun, execution: str, tasks: list[Task], attempt: int) -> None:
        """Add the task of a run that was claimed; drop one that was not."""
        if not attempt:
            try:
                record = self._store.get_run(inflight.run)
            except (errors.NotFoundError, errors.StoreCorruptError):  # its slot must become free
                logger.exception("%s cannot be started", inflight.name)
                self._release(inflight, execution)
                self._finish(inflight, RunState.FAILED)
                return
            if not record.is_claimed or (record.owner, record.execution) != (self._client, execution):
                self._not_claimed(inflight, execution, record)
                return
            attempt = record.attempt  # it was claimed by a transaction whose answer was lost
        inflight.attempt = attempt
        tasks.append(self._task_of(inflight))

    def _task_of(self, inflight: InflightRun) -> Task:
        run, attempt = inflight.run, inflight.attempt
        return Task(
            run,
            attempt,
            inflight.params if inflight.resolved is None else inflight.resolved,
            inflight.labels,
            log_file(self._folder, run, attempt),
            inflight.iteration,
            inflight.judged,
            self._store.last_iteration(run) if attempt > 1 else 0,
        )

    def _start_tasks(self, execution: str, tasks: Sequence[Task], _: int) -> None:
        if tasks:
            self._place.start(execution, tasks)
        if self._can.outlives_client:
            for inflight in self._held.get(execution, _NO_RUNS).values():
                inflight.outlives_client = True

    def _send_answer(self, run: str, why: str | None) -> None:
        inflight = self._inflight_runs.get(run)
        if inflight is not None and inflight.execution is not None and inflight.state is RunState.RUNNING:
            self._place.answer(inflight.execution, run, why)

    def _not_claimed(self, inflight: InflightRun, execution: str, record: RunRecord) -> None:
        """Drop a run that was cancelled or adopted by another client between queue and claim."""
        self._release(inflight, execution)
        inflight.state = record.state
        if record.state is RunState.PENDING and not record.is_claimed and record.owner == self._client:
            self._withdraw(inflight, Outcome(RunState.CANCELLED))
        else:
            self._finish(inflight, record.state)

    def _withdraw(self, inflight: InflightRun, outcome: Outcome) -> None:
        inflight.state = outcome.state  # at once: it must not be claimed any more
        self._record(
            changes.FinishedUnstarted(inflight.run, outcome, now()), lambda _: self._finish(inflight, outcome.state)
        )

    def _stop(self, run: str, cause: Outcome) -> None:
        inflight = self._inflight_runs.get(run)
        if inflight is None or inflight.cause is not None or inflight.state.is_terminal:
            return
        if inflight.state is RunState.PENDING:
            self._withdraw(inflight, cause)
        elif inflight.execution is not None:
            execution, inflight.cause = inflight.execution, cause
            self._recall(execution)  # runs that it has not begun must not end with it; this run may be one of them
            if inflight.state is RunState.RUNNING:
                self._place.stop(execution, run)

    def _set_deadline(self, inflight: InflightRun, *, soonest: float = 0.0) -> None:
        limit = self._plans[inflight.plan].timeout
        if limit is not None and self._can.deadline == "client":
            left = limit - max(0.0, now() - (inflight.started or now()))
            inflight.deadline = time.monotonic() + max(soonest, left)

    def _tick(self) -> None:
        """Check what no report triggers: cancel requests, deadlines, upstream runs, the heartbeat."""
        moment = time.monotonic()
        if moment < self._next_tick or not (self._inflight_runs or self._foreign):
            return
        self._next_tick = moment + _TICK
        for run in self._store.cancel_requests(self._client):
            self._stop(run, Outcome(RunState.CANCELLED))
        self._check_deadlines(moment)
        self._check_upstream(moment)
        if moment >= self._next_heartbeat:
            self._next_heartbeat = moment + _HEARTBEAT
            self._store.register_client(self._client, identify(os.getpid()), time=now())
            self._remove_unowned()

    def _check_deadlines(self, moment: float) -> None:
        """Stop runs past their timeout; requeue runs that wait behind a slow one."""
        for execution, runs in list(self._held.items()):
            for inflight in list(runs.values()):
                if inflight.deadline is not None and moment >= inflight.deadline:
                    self._stop(inflight.run, self._timed_out(inflight))
            if self._can.pooled and len(runs) > 1 and self._is_stuck(runs):
                self._recall(execution)

    def _check_upstream(self, moment: float) -> None:
        """Admit runs that wait for runs of other processes; resume upstream runs whose owner is dead."""
        for parent in self._queue.upstream() - self._inflight_runs.keys():
            for child in self._queue.release(parent):
                self._admit(child)
        if moment >= self._next_upstream_check:
            self._next_upstream_check = moment + _UPSTREAM_CHECK
            for parent in self._queue.upstream() - self._inflight_runs.keys():
                self._resume_orphan(parent)

    def _is_stuck(self, runs: Mapping[str, InflightRun]) -> bool:
        """Return whether runs wait behind one that takes longer than is usual for its plan."""
        first = min((inflight.started for inflight in runs.values() if inflight.started is not None), default=None)
        if first is None or now() - first < _TICK:
            return False
        self._pace.slow_down(next(iter(runs.values())).plan, _TICK)
        return True

    def _timed_out(self, inflight: InflightRun) -> Outcome:
        limit = self._plans[inflight.plan].timeout
        text = f"{inflight.name} did not end within its timeout of {limit:g} s; raise timeout=, or make it quicker."
        return failed(Reason.TIMEOUT, errors.RunTimeoutError(text))

    def _failure_instead(self, change: changes.Change, error: Exception) -> Entry | None:
        """Return the failure to record in place of an outcome that the store cannot take."""
        inflight = self._inflight_runs.get(change.run) if isinstance(change, changes.Finished) else None
        if inflight is None or not isinstance(change, changes.Finished):
            return None
        text = f"{inflight.name} ended, but the store cannot keep its outcome: {type(error).__name__}: {error}."
        outcome = failed(Reason.STORAGE, errors.StoreError(text))
        return change._replace(outcome=outcome), lambda _: self._finish(inflight, RunState.FAILED)

    def _yield_executions(self, gone: AbstractSet[str]) -> AbstractSet[str]:
        """Drop executions that another client has taken over, and their runs: that client records how they end."""
        logger.warning("another client considered this one dead and took over %d of its executions", len(gone))
        self._usurped |= gone
        for execution in gone:
            self._held.pop(execution, None)
        if not self._can.pooled:
            self._foreign |= gone
        # Runs whose reported end is not recorded yet are among them.
        concerned = {inflight.run: inflight for inflight in self.unfinished() if inflight.execution in gone}
        for inflight in concerned.values():
            self._outbox.after_flush(partial(self._drop, inflight))
        return concerned.keys()

    def _remove_unowned(self) -> None:
        """Remove executions that this client created after the one that had taken them over had removed them."""
        if self._foreign:
            for execution in self._foreign - self._store.execution_ids():
                self._foreign.remove(execution)
                self._place.cleanup(execution)

    def _drop(self, inflight: InflightRun, _answer: int) -> None:
        state, _ = self._store.states([inflight.run]).get(inflight.run, (RunState.FAILED, None))
        self._finish(inflight, state)


def _judge(on_point: OnPoint, run: str, step: int | None, value: float, _answer: int) -> None:
    on_point(run, step, value)


def _inflight_of(run: changes.Submitted) -> InflightRun:
    return InflightRun(run.run, run.name, run.plan, run.params, run.labels, iteration=run.iteration)


def _outcome(event: Mapping[str, Any], name: str) -> Outcome:
    try:
        return Outcome.from_json(event)
    except (KeyError, TypeError, ValueError) as error:
        text = f"{name} ended, but its worker reported an unreadable outcome ({error!r}); run the same version of mlfn on both sides."
        return failed(Reason.ERROR, errors.RunError(text))


def _as_mlfn(error: Exception) -> errors.MlfnError:
    return error if isinstance(error, errors.MlfnError) else errors.MlfnError(f"{type(error).__name__}: {error}")
