"""Plan -> stored run -> started -> recorded; retries, deadlines, cancels: the one place where order matters.

A run is in the store before anything starts, claimed there before a worker gets it, and terminal there before anyone
is told. One thread per process and place does all of it after `submit`; the store's fences hold against other processes.
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
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mlfn import errors
from mlfn.backlog import Backlog, Pace
from mlfn.errors import StorageError, StoreError
from mlfn.execution import Task, outcome_from_json
from mlfn.hearing import change_of
from mlfn.identity import ProcessIdentity, identify, now
from mlfn.parents import resolve
from mlfn.places.base import Gone, Place, Reported, Room, WorkerStarted
from mlfn.recording import Entry, Recording
from mlfn.spec.record import Outcome, Reason, RunRecord, RunState
from mlfn.store.changes import (
    Adopted,
    CancelRequested,
    Change,
    Claimed,
    Engaged,
    Finished,
    MetricLogged,
    Requeued,
    Submitted,
    TakenBack,
    Withdrawn,
)
from mlfn.store.reading import WorkerRow
from mlfn.store.sql import SqlStore
from mlfn.ticket import Ticket
from mlfn.verdict import MAX_FREE_ATTEMPTS, failed, of_exit, retry_of, terminated, waits_before_retry

logger = logging.getLogger(__name__)
_TICK = 0.25  # seconds between looks at cancel requests and at other processes' runs
_BEAT = 5.0
_RESCUE = 1.0  # seconds between looks at whether those live who see through what runs here wait for
_AGAIN = 1.0  # seconds until what could not be written is tried again
_LONG = 3600.0
NOBODY = ""


class Dispatcher:
    """The runs that this process submits to one place, and the thread that sees them through."""

    def __init__(
        self, store: SqlStore, place: Place, *, client: str, logs: Path, rescue: Callable[[str], None]
    ) -> None:
        self._store = store
        self._rescue = rescue  # sees to it that somebody sees a run through
        self._place = place
        self._client = client
        self._logs = logs
        self._lock = threading.Lock()
        self._tickets: dict[str, Ticket] = {}
        self._plans: dict[str, Mapping[str, Any]] = {}
        self._calls: deque[Callable[[], None]] = deque()
        self._backlog = Backlog()
        self._held: dict[str, dict[str, Ticket]] = {}  # worker -> the runs it was given, the one it is at first
        self._pace = Pace()
        self._recording = Recording(
            store, client, held=lambda: self._held, instead=self._instead, yielded=self._yield_workers
        )
        self._record = self._recording.add
        self._usurped: set[str] = set()  # workers that another client reads now
        self._warned: set[str] = set()
        self._next_tick = 0.0
        self._next_beat = 0.0
        self._next_rescue = 0.0
        self._warm = False
        self._roused = False
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

    def submit(self, submitted: Submitted, plan: Mapping[str, Any]) -> Ticket:
        """Store a new run and see it through; when this returns, it cannot be lost any more."""
        self._store.apply([submitted])
        ticket = Ticket.of_submitted(submitted)
        self._enter(ticket, plan, lambda: self._admit(ticket))
        return ticket

    def submit_many(
        self, batch: Sequence[Submitted], plan: Mapping[str, Any], prepare: Callable[[Ticket], object]
    ) -> list[Ticket | None]:
        """Store new runs of one plan in one transaction; None for one that the store refused."""
        added = self._store.apply(batch)
        tickets = [Ticket.of_submitted(submitted) if ok else None for submitted, ok in zip(batch, added, strict=True)]
        entering = [ticket for ticket in tickets if ticket is not None]
        for ticket in entering:
            prepare(ticket)
        with self._lock:
            for ticket in entering:
                self._plans[ticket.plan] = plan
                self._tickets[ticket.run] = ticket
        self._call(partial(_each, self._admit, entering))
        return tickets

    def widen(self, parallel: int | None) -> int:
        """Return how many runs the place has room for, after it was asked for `parallel`."""
        return self._place.widen(parallel)

    def answer(self, run: str, why: str | None) -> None:
        """Answer a point of a run's judged metric; a text says why the run should stop."""
        self._call(lambda: self._pass_on(run, why))

    def resume(self, record: RunRecord, plan: Mapping[str, Any]) -> Ticket:
        """See a pending run through that this process has adopted."""
        ticket = Ticket.of_record(record, retries=self._store.retries(record.id))
        wait_until = record.not_before or 0.0
        self._enter(
            ticket, plan, lambda: self._admit(ticket) if wait_until <= now() else self._delay(ticket, wait_until)
        )
        return ticket

    def adopt(self, row: WorkerRow, held: Sequence[tuple[RunRecord, Mapping[str, Any]]]) -> None:
        """Read on in the journal of a dead client's worker, and see through the runs that it holds."""
        tickets = [Ticket.of_record(record, retries=self._store.retries(record.id)) for record, _ in held]
        for ticket, (record, plan) in zip(tickets, held, strict=True):
            ticket.ours, ticket.state = False, RunState.RUNNING
            ticket.started = self._store.begun(record.id, record.attempt)
            with self._lock:
                self._plans[ticket.plan] = plan
                self._tickets[ticket.run] = ticket
            self._held.setdefault(row.id, {})[ticket.run] = ticket
        called_off = {record.id for record, _ in held if record.cancel_requested}
        self._call(partial(self._take_over, row, tickets, called_off))

    def settle(self, row: WorkerRow, held: Sequence[tuple[RunRecord, Mapping[str, Any]]]) -> None:
        """Record, before this returns, what the journal of a worker says that is gone; for a dispatcher of its own."""
        self._thread = threading.current_thread()  # instead of one of its own
        self.adopt(row, held)
        while any(known.id == row.id for known in self._store.workers(self._client)):
            self._turn()
        self._place.close()

    def cancel(self, run: str) -> None:
        """Ask for a run's end; its ticket tells when that is confirmed."""
        self._store.apply([CancelRequested(run, now())])
        self._call(lambda: self._stop(run, Outcome(RunState.CANCELLED)))

    def stop_many(self, runs: Sequence[str], cause: Outcome) -> None:
        """End runs of this process, for a reason of its own."""
        self._call(partial(_each, lambda run: self._stop(run, cause), runs))

    def ticket(self, run: str) -> Ticket | None:
        """Return the ticket of a run that this process sees through."""
        return self._tickets.get(run)

    def unfinished(self) -> list[Ticket]:
        """Return what is not terminal yet."""
        with self._lock:
            return list(self._tickets.values())

    def on_done(self, ticket: Ticket, callback: Callable[[], object]) -> None:
        """Call back from the dispatcher's thread when the run is terminal; at once if it is."""
        with self._lock:
            if not ticket.done.is_set():
                ticket.callbacks.append(callback)
                return
        callback()

    def close(self) -> None:
        """End the thread and idle workers; what still runs goes on by itself, journaled."""
        self._closing = True
        if self._thread is not None and self._thread is not threading.current_thread():
            self._place.wake()
            self._thread.join(timeout=10)

    def let_go(self) -> None:
        """Let nobody in a forked child wait for what its parent sees through: the store will tell."""
        for ticket in self._tickets.values():
            ticket.let_go()
        self._place.let_go()

    def _enter(self, ticket: Ticket, plan: Mapping[str, Any], then: Callable[[], None]) -> None:
        with self._lock:
            self._plans[ticket.plan] = plan
            self._tickets[ticket.run] = ticket
        self._call(then)

    def _call(self, action: Callable[[], None]) -> None:
        """Have the dispatcher's thread do something next."""
        self._calls.append(action)
        if self._thread is None:
            self._start()
        if not self._roused:
            self._roused = True
            self._place.wake()

    # From here on everything happens in the dispatcher's own thread.

    def _take_over(self, row: WorkerRow, tickets: Sequence[Ticket], called_off: AbstractSet[str]) -> None:
        self._place.adopt(row.id, ProcessIdentity(row.host, row.pid, row.started), row.folder, row.consumed)
        for ticket in tickets:
            ticket.worker = (
                row.id
            )  # not before: whoever wants the end of a run asks its worker, which the place must know
            self._set_deadline(ticket, soonest=_TICK)  # its journal is read first
            if ticket.run in called_off:
                # Before that too: the dead client may have told the worker to end.
                self._stop(ticket.run, Outcome(RunState.CANCELLED))

    def _serve(self) -> None:
        while not self._closing:
            try:
                self._turn()
            except StorageError as error:
                logger.warning("what a run needs cannot be written; trying again soon: %s", error)
                time.sleep(_AGAIN)
            except Exception:
                logger.exception("dispatch goes on after an error of its own")
                time.sleep(0.1)
        # Forgotten with their rows: what is left there is taken for the remains of a client that died.
        for worker in self._place.close():
            with suppress(StoreError):
                self._store.remove_worker(worker)

    def _turn(self) -> None:
        """Listen, decide, record in one transaction, and only then tell and start."""
        if not self._recording.is_behind:
            self._listen()
            self._act()
            self._tick()
            self._backlog.move_due(now())
            self._claim()
        self._recording.flush()

    def _act(self) -> None:
        while self._calls:
            try:
                self._calls[0]()
            except StorageError:
                raise  # it stays, and is done when the store can be read again
            except BaseException:
                self._calls.popleft()
                raise
            self._calls.popleft()

    def _listen(self) -> None:
        reports = self._place.collect(self._patience())
        self._roused = False
        for report in reports:
            if isinstance(report, Gone):
                self._bury(report)
            elif isinstance(report, Reported) and report.worker in self._usurped:
                for event in report.events:
                    if event["event"] == "finished":
                        self._place.finished(report.worker)  # its place is free again, its end another's to record
            elif isinstance(report, Reported):
                for event in report.events:
                    try:
                        self._hear(report.worker, event)
                    except Exception as error:
                        logger.exception("a report of worker %s makes no sense: %r", report.worker, event)
                        self._doubt(report.worker, event, error)
                if not self._holds_back(report.worker):
                    self._recording.read(report.worker, report.consumed)

    def _doubt(self, worker: str, event: Mapping[str, Any], error: Exception) -> None:
        """Let a run fail one of whose reports makes no sense, and its worker end after it: that may be what it said."""
        self._place.retire(worker)
        held = self._held.get(worker, {})
        begun = next((run for run, ticket in held.items() if ticket.started is not None), next(iter(held), ""))
        if (ticket := held.get(event["run"]) or held.get(begun)) is not None:
            text = (
                f"{ticket.name}: a report of its worker makes no sense ({type(error).__name__}: {error}), so what it did is "
                "not known. Let nothing but mlfn write to its files, and run one version of it on both sides."
            )
            ticket.doubt = failed(Reason.ERROR, errors.RunError(text))

    def _holds_back(self, worker: str) -> bool:
        """Say whether the end that a worker reported is not recorded yet: whoever reads on must then find it again."""
        return any(ticket.reported is not None for ticket in self._held.get(worker, {}).values())

    def _patience(self) -> float:
        if self._calls:
            return 0.0
        until = _LONG if not self._tickets else _TICK
        if (due := self._backlog.next_due()) is not None:
            until = min(until, due - now())
        return max(0.0, until)

    def _hear(self, worker: str, event: Mapping[str, Any]) -> None:
        what, time_ = event["event"], event["time"]
        if what == "garbled":
            raise ValueError(event["line"])
        change = change_of(event)
        if change is not None:
            self._record(change, said_by=worker)
        ticket = self._held.get(worker, {}).get(event["run"])
        if ticket is None:
            return  # a child that a handler opened, or an attempt that is over
        if what == "started":
            ticket.started = time_
            self._set_deadline(ticket)
        elif isinstance(change, MetricLogged):
            self._have_judged(ticket, change)
        elif what == "finished" and ticket.attempt == event["attempt"]:
            self._hear_end(ticket, worker, ticket.doubt or _outcome(event, ticket.name), time_)

    def _hear_end(self, ticket: Ticket, worker: str, outcome: Outcome, time_: float) -> None:
        self._pace.note(ticket.plan, time_ - ticket.started if ticket.started is not None else _TICK)
        if ticket.cause is not None:
            ticket.reported = (outcome, time_)  # its worker was told to end: the end counts once that is gone
            return
        if outcome.state is RunState.CANCELLED:
            outcome = self._ended_by_another(ticket, time_)  # not by us: `cause` would say so
        self._let_go(ticket, worker)
        self._conclude(ticket, outcome, time_)

    def _ended_by_another(self, ticket: Ticket, ended: float) -> Outcome:
        """Return the outcome of an attempt that was told to end: by its former client, after its time, or by whoever."""
        limit = self._plans[ticket.plan]["timeout"]
        is_overdue = limit is not None and ticket.started is not None and ended - ticket.started >= limit
        return self._overdue(ticket) if is_overdue else terminated(ticket.name)

    def _have_judged(self, ticket: Ticket, point: MetricLogged) -> None:
        if ticket.attempt == point.attempt and ticket.judged == point.name:
            self._recording.afterwards(partial(_judge, ticket, point))

    def _let_go(self, ticket: Ticket, worker: str) -> None:
        runs = self._held[worker]
        del runs[ticket.run]
        if not runs:
            del self._held[worker]
        self._place.finished(worker)

    def _take_back(self, worker: str) -> None:
        """Give others the runs that a worker was given and has not begun."""
        for run in reversed(self._place.take_back(worker)):  # each goes before the others
            ticket = self._held[worker].pop(run)
            self._return(ticket)
        if not self._held.get(worker, True):
            del self._held[worker]

    def _return(self, ticket: Ticket) -> None:
        back = TakenBack(ticket.run, ticket.attempt)
        ticket.attempt -= 1
        ticket.state, ticket.worker, ticket.started = RunState.PENDING, None, None
        if ticket.cause is not None:
            self._record(back)
            self._withdraw(ticket, ticket.cause)
        else:
            self._record(back, lambda _: self._backlog.put_first(ticket))

    def _bury(self, gone: Gone) -> None:
        self._recording.afterwards(partial(self._forget, gone.worker))
        held = self._held.pop(gone.worker, {})
        unread = [held.pop(run) for run in gone.unread if run in held]
        if gone.never_began and unread and unread[0].cause is None:
            # One answers for it: returned as well, it would be given to the next worker, and the next, without an end.
            first = unread.pop(0)
            held[first.run] = first
        for ticket in reversed(unread):  # each goes before the others
            self._return(ticket)
        for ticket in held.values():
            self._lay_to_rest(ticket, gone)

    def _forget(self, worker: str, _: int) -> None:
        self._store.remove_worker(worker)
        self._place.forget(worker)

    def _lay_to_rest(self, ticket: Ticket, gone: Gone) -> None:
        """Conclude a run whose worker ended while it held it."""
        outcome, time_ = ticket.reported or (ticket.doubt, now())
        if outcome is None or (ticket.cause is not None and outcome.state is not RunState.SUCCEEDED):
            plan = self._plans[ticket.plan]
            outcome = ticket.cause or of_exit(ticket.name, gone, started=ticket.started is not None, mem=plan["mem"])
        self._conclude(ticket, outcome, time_)

    def _conclude(self, ticket: Ticket, outcome: Outcome, time_: float) -> None:
        """Record an attempt's end: the run's end, or the way back to pending."""
        retry = retry_of(self._plans[ticket.plan])
        wait = waits_before_retry(outcome, retry, used=ticket.retries, free=ticket.free)
        if wait is None:
            self._record(
                Finished(ticket.run, ticket.attempt, outcome, time_),
                lambda applied: self._finish(ticket, outcome.state, outcome if applied else None),
            )
            return
        reason = outcome.reason or Reason.ERROR
        counts = reason not in (Reason.PREEMPTED, Reason.NEVER_STARTED)
        ticket.retries, ticket.free = ticket.retries + counts, ticket.free + (not counts)
        if reason is Reason.NEVER_STARTED:
            self._warn(ticket.plan, outcome)
        again = Requeued(ticket.run, ticket.attempt, reason, outcome.failure, now() + wait, time_, counts)
        self._record(again, lambda _: self._delay(ticket, again.not_before))
        if not ticket.ours:
            self._record(
                Adopted(ticket.run, NOBODY, self._client, time_), lambda _: self._finish(ticket, RunState.PENDING)
            )

    def _warn(self, plan: str, outcome: Outcome) -> None:
        """Say, once, what makes the runs of a plan wait."""
        if plan not in self._warned and outcome.failure is not None:
            self._warned.add(plan)
            logger.warning("%s\nIt is tried again, up to %d times.", outcome.failure.message, MAX_FREE_ATTEMPTS)

    def _finish(self, ticket: Ticket, state: RunState, outcome: Outcome | None = None) -> None:
        with self._lock:
            ticket.state, ticket.outcome = state, outcome
            ticket.done.set()  # before it is forgotten: `let_go` must know all that somebody may wait for
            self._tickets.pop(ticket.run, None)
        for callback in ticket.callbacks:
            try:
                callback()
            except Exception:
                logger.exception("a callback of run %s failed", ticket.run)
        for child in self._backlog.released(ticket.run):
            self._call(partial(self._admit, child))

    def _delay(self, ticket: Ticket, until: float) -> None:
        ticket.back_to_pending()
        if ticket.ours:
            self._backlog.put_later(ticket, until)

    def _admit(self, ticket: Ticket) -> None:
        """Queue a run whose inputs are there; hold one whose parents still run; fail one whose parent failed."""
        if ticket.state is not RunState.PENDING:
            return  # cancelled while it waited
        try:
            ticket.params, parent = resolve(self._store, ticket.name, ticket.params)
        except (errors.ParentFailedError, errors.NotFoundError, errors.StoreCorruptError) as error:
            self._withdraw(ticket, failed(Reason.ERROR, error))
            return
        if parent is None:
            self._backlog.put(ticket)
        else:
            self._backlog.put_behind(ticket, parent)

    def _claim(self) -> None:
        """Give ready runs to workers that are free, plan by plan in the order in which their first run came."""
        for digest in self._backlog.plans():
            plan = self._plans[digest]
            while (ticket := self._backlog.first(digest)) is not None:
                room = self._place.reserve(digest, plan, backlog=self._pace.most_queued(digest))
                if isinstance(room, Room):
                    self._backlog.take(digest)
                    self._hand_over(ticket, room)
                elif room.error is not None:
                    self._backlog.take(digest)
                    self._withdraw(ticket, failed(Reason.NEVER_STARTED, _as_mlfn(room.error)))
                else:
                    break

    def _hand_over(self, ticket: Ticket, room: Room) -> None:
        if room.report is not None:
            self._record(self._engaged(room.report))
        ticket.state, ticket.worker = RunState.RUNNING, room.worker
        self._held.setdefault(room.worker, {})[ticket.run] = ticket
        log = str(self._logs / ticket.run[:2] / f"{ticket.run}-{ticket.attempt + 1}.log")
        claim = Claimed(ticket.run, self._client, room.worker, log, now())
        self._record(claim, lambda attempt: self._launch(ticket, room.worker, attempt, log))

    def _engaged(self, started: WorkerStarted) -> Engaged:
        return Engaged(started.worker, self._client, identify(started.pid), started.folder)

    def _launch(self, ticket: Ticket, worker: str, attempt: int, log: str) -> None:
        if not attempt:
            try:
                record = self._store.get_run(ticket.run)
            except (errors.NotFoundError, errors.StoreCorruptError):  # it must not keep a worker for itself
                logger.exception("%s cannot be started", ticket.name)
                self._let_go(ticket, worker)
                self._finish(ticket, RunState.FAILED)
                return
            if (record.state, record.owner, record.worker) != (RunState.RUNNING, self._client, worker):
                self._not_claimed(ticket, worker, record)
                return
            attempt = record.attempt  # it was claimed, by a transaction whose answer was lost on the way
        ticket.attempt = attempt
        children = self._store.last_child(ticket.run) if attempt > 1 else 0
        task = Task(ticket.run, attempt, ticket.params, ticket.labels, log, ticket.iteration, ticket.judged, children)
        self._place.start(worker, task)

    def _pass_on(self, run: str, why: str | None) -> None:
        ticket = self._tickets.get(run)
        if ticket is not None and ticket.worker is not None and ticket.state is RunState.RUNNING:
            self._place.answer(ticket.worker, run, why)

    def _not_claimed(self, ticket: Ticket, worker: str, record: RunRecord) -> None:
        """Somebody else asked for its end, or took it over, between queue and claim."""
        self._let_go(ticket, worker)
        ticket.state = record.state
        if record.state is RunState.PENDING and record.owner == self._client:
            self._withdraw(ticket, Outcome(RunState.CANCELLED))
        else:
            self._finish(ticket, record.state)

    def _withdraw(self, ticket: Ticket, outcome: Outcome) -> None:
        ticket.state = outcome.state  # at once, so that no claim comes between
        self._record(Withdrawn(ticket.run, outcome, now()), lambda _: self._finish(ticket, outcome.state))

    def _stop(self, run: str, cause: Outcome) -> None:
        ticket = self._tickets.get(run)
        if ticket is None or ticket.cause is not None or ticket.state.is_terminal:
            return
        if ticket.state is RunState.PENDING:
            self._withdraw(ticket, cause)
        elif ticket.worker is not None:
            worker, ticket.cause = ticket.worker, cause
            self._take_back(worker)  # what it has not begun must not end with it, and is this run one of them?
            if ticket.state is RunState.RUNNING:
                self._place.stop(worker)

    def _set_deadline(self, ticket: Ticket, *, soonest: float = 0.0) -> None:
        if (limit := self._plans[ticket.plan]["timeout"]) is not None:
            left = limit - max(0.0, now() - (ticket.started or now()))
            ticket.deadline = time.monotonic() + max(soonest, left)

    def _tick(self) -> None:
        """Do what no message triggers."""
        moment = time.monotonic()
        if moment < self._next_tick or not self._tickets:
            return
        self._next_tick = moment + _TICK
        for run in self._store.cancel_requests(self._client):
            self._stop(run, Outcome(RunState.CANCELLED))
        self._look_at_held(moment)
        self._look_at_parents(moment)
        if moment >= self._next_beat:
            self._next_beat = moment + _BEAT
            self._store.register_client(self._client, identify(os.getpid()), time=now())

    def _look_at_held(self, moment: float) -> None:
        """End what takes longer than it may; let others have what waits behind a long one."""
        for worker, runs in list(self._held.items()):
            for ticket in list(runs.values()):
                if ticket.deadline is not None and moment >= ticket.deadline:
                    self._stop(ticket.run, self._overdue(ticket))
            if len(runs) > 1 and self._is_stuck(runs):
                self._take_back(worker)

    def _look_at_parents(self, moment: float) -> None:
        """Admit children of runs that other processes see through; carry on those whose process is dead."""
        for parent in self._backlog.parents() - self._tickets.keys():
            for child in self._backlog.released(parent):
                self._admit(child)
        if moment >= self._next_rescue:
            self._next_rescue = moment + _RESCUE
            for parent in self._backlog.parents() - self._tickets.keys():
                self._rescue(parent)

    def _is_stuck(self, runs: Mapping[str, Ticket]) -> bool:
        """Say whether others wait behind a run that takes longer than its like."""
        first = min((ticket.started for ticket in runs.values() if ticket.started is not None), default=None)
        if first is None or now() - first < _TICK:
            return False
        self._pace.slow_down(next(iter(runs.values())).plan, _TICK)
        return True

    def _overdue(self, ticket: Ticket) -> Outcome:
        limit = self._plans[ticket.plan]["timeout"]
        text = f"{ticket.name} did not end within its timeout of {limit:g} s; raise timeout=, or make it quicker."
        return failed(Reason.TIMEOUT, errors.RunTimeoutError(text))

    def _instead(self, change: Change, error: Exception) -> Entry | None:
        """Return the failure to record for an outcome that no store can take."""
        ticket = self._tickets.get(change.run) if isinstance(change, Finished) else None
        if ticket is None or not isinstance(change, Finished):
            return None
        text = f"{ticket.name} ended, but the store cannot keep its outcome: {type(error).__name__}: {error}."
        outcome = failed(Reason.STORAGE, errors.StoreError(text))
        return replace(change, outcome=outcome), lambda _: self._finish(ticket, RunState.FAILED)

    def _yield_workers(self, gone: AbstractSet[str]) -> AbstractSet[str]:
        """Let go of workers, and of the runs they hold, that another client has taken over: it records their ends."""
        logger.warning("this client was taken for dead: another one sees %d of its workers through now", len(gone))
        self._usurped |= gone
        for worker in gone:
            self._held.pop(worker, None)
        # Those too whose end has been heard and not been recorded.
        concerned = {ticket.run: ticket for ticket in self.unfinished() if ticket.worker in gone}
        for ticket in concerned.values():
            self._recording.afterwards(partial(self._leave, ticket))
        return concerned.keys()

    def _leave(self, ticket: Ticket, _answer: int) -> None:
        state, _ = self._store.states([ticket.run]).get(ticket.run, (RunState.FAILED, None))
        self._finish(ticket, state)


def _each(act: Callable[[Any], None], items: Sequence[Any]) -> None:
    for item in items:
        act(item)


def _judge(ticket: Ticket, point: MetricLogged, _: int) -> None:
    if ticket.on_point is not None:
        ticket.on_point(point.run, point.step, point.value)


def _outcome(event: Mapping[str, Any], name: str) -> Outcome:
    try:
        return outcome_from_json(event)
    except (KeyError, TypeError, ValueError) as error:  # a run must not go on for ever because of how it ended
        text = f"{name} ended, but what its worker said of it makes no sense ({error!r}); run one version of mlfn on both sides."
        return failed(Reason.ERROR, errors.RunError(text))


def _as_mlfn(error: Exception) -> errors.MlfnError:
    return error if isinstance(error, errors.MlfnError) else errors.MlfnError(f"{type(error).__name__}: {error}")
