"""Who runs a sweep's children: workers of a place through its dispatcher, or the caller's own thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from mlfn.client import Client
from mlfn.dispatch import Dispatcher
from mlfn.identity import now
from mlfn.inline import carry_on_here, run_here
from mlfn.spec.record import Outcome, RunRecord, RunState
from mlfn.store.changes import Adopted, Submitted
from mlfn.ticket import Ticket

Ended = Callable[[str, RunState], None]
Judge = Callable[[str, int | None, float], str | None]


@dataclass(frozen=True)
class Listeners:
    """What a crew tells: `ended` of each child once; `judge` of each point of the judged metric."""

    ended: Ended
    judge: Judge
    judged: str | None = None


class Crew(Protocol):
    """Runs children, in the order in which it gets them."""

    width: int
    """How many of them run at the same time, where nobody says otherwise."""

    def submit(self, batch: Sequence[Submitted]) -> list[bool]:
        """Store children and have them run; False for one that the store refused."""
        ...

    def carry_on(self, records: Sequence[RunRecord]) -> None:
        """See children through that another driver submitted."""
        ...

    def stop(self, runs: Sequence[str], cause: Outcome) -> None:
        """Have children end."""
        ...

    def answer(self, run: str, why: str | None) -> None:
        """Answer a child's point: a text says that it should stop, and why."""
        ...


class DispatchedCrew:
    """Workers of a place; news come from its dispatcher's thread."""

    def __init__(
        self, client: Client, dispatcher: Dispatcher, plan: Mapping[str, Any], tell: Listeners, *, parallel: int | None
    ) -> None:
        self._client = client
        self._dispatcher = dispatcher
        self._plan = plan
        self._tell = tell
        self.width = dispatcher.widen(parallel)

    def submit(self, batch: Sequence[Submitted]) -> list[bool]:
        tickets = self._dispatcher.submit_many(batch, self._plan, self._prepare)
        return [ticket is not None for ticket in tickets]

    def carry_on(self, records: Sequence[RunRecord]) -> None:
        for record in records:
            ticket = self._client.carry_on(record)
            if ticket is None:  # it ended meanwhile, or another client has it
                self._watch(record.id)
                continue
            if self._tell.judged is not None:
                ticket.judged, ticket.on_point = self._tell.judged, self._tell.judge
            self._dispatcher.on_done(ticket, partial(self._ended, ticket))

    def stop(self, runs: Sequence[str], cause: Outcome) -> None:
        self._dispatcher.stop_many(runs, cause)

    def answer(self, run: str, why: str | None) -> None:
        self._dispatcher.answer(run, why)

    def _prepare(self, ticket: Ticket) -> None:
        ticket.callbacks.append(partial(self._ended, ticket))
        if self._tell.judged is not None:
            ticket.judged, ticket.on_point = self._tell.judged, self._tell.judge

    def _ended(self, ticket: Ticket) -> None:
        if ticket.state.is_terminal:
            self._tell.ended(ticket.run, ticket.state)
        else:
            self._watch(ticket.run)

    def _watch(self, run: str) -> None:
        """Follow a child that another client has."""
        state = _state_of(self._client, run)
        self._tell.ended(run, state if state.is_terminal else RunState.PENDING)


class InlineCrew:
    """The thread that drives: a child is over when `submit` returns."""

    width = 1

    def __init__(
        self, client: Client, plan: Mapping[str, Any], load: Callable[[], Callable[..., Any]], tell: Listeners
    ) -> None:
        self._client = client
        self._plan = plan
        self._load = load
        self._tell = tell

    def submit(self, batch: Sequence[Submitted]) -> list[bool]:
        done: list[bool] = []
        for submitted in batch:
            state = run_here(
                self._client, submitted, self._plan, self._load, judged=self._tell.judged, judge=self._judge
            )
            done.append(state is not None)
            if state is not None:
                self._tell.ended(submitted.run, state)
        return done

    def carry_on(self, records: Sequence[RunRecord]) -> None:
        for record in records:
            if record.owner != self._client.id:
                self._client.store.apply([Adopted(record.id, self._client.id, record.owner or "", now())])
            judged, judge = self._tell.judged, self._judge
            state = carry_on_here(self._client, record, self._plan, self._load, judged=judged, judge=judge)
            self._tell.ended(record.id, state or _state_of(self._client, record.id))

    def stop(self, runs: Sequence[str], cause: Outcome) -> None:
        pass  # none runs while the driver does

    def answer(self, run: str, why: str | None) -> None:
        pass  # `judge` answers by itself

    @property
    def _judge(self) -> Judge | None:
        return self._tell.judge if self._tell.judged is not None else None


def _state_of(client: Client, run: str) -> RunState:
    """Return where a child is; one whose state cannot be read counts as failed."""
    state, _ = client.store.states([run]).get(run, (RunState.FAILED, None))
    return state
