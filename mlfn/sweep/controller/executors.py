"""Executors of a sweep's children: workers of a place through its dispatcher, or the caller's own thread."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from mlfn.dispatch.in_caller import InlineRunner
from mlfn.dispatch.inflight import InflightRun
from mlfn.dispatch.session import Session
from mlfn.host.identity import now
from mlfn.spec.plan import Plan
from mlfn.spec.record import Outcome, RunRecord, RunState
from mlfn.store.changes import Adopted, Submitted

OnEnded = Callable[[str, RunState], None]
OnPoint = Callable[[str, int | None, float], str | None]


class Executor(ABC):
    """Runs children, in the order in which it gets them; `width` of them at a time, unless the sweep sets `parallel`.

    It calls `on_ended` once for each child, or with a state that is not terminal if another client runs it, and
    `on_point` for each point of `metric`.
    """

    width = 1

    def __init__(
        self, session: Session, plan: Plan, *, on_ended: OnEnded, on_point: OnPoint, metric: str | None
    ) -> None:
        self._session, self._plan = session, plan
        self._on_ended, self._on_point, self._metric = on_ended, on_point, metric

    @abstractmethod
    def submit(self, batch: Sequence[Submitted]) -> list[bool]:
        """Store children and run them; False for one that the store refused."""

    @abstractmethod
    def resume(self, records: Sequence[RunRecord]) -> None:
        """Continue children that another driver submitted."""

    def stop(self, runs: Sequence[str], cause: Outcome) -> None:  # noqa: B027
        """Stop children; inline, none runs while the loop does."""

    def answer(self, run: str, why: str | None) -> None:  # noqa: B027
        """Answer a child's point: `why` stops it, unless that is None; inline, `on_point` returned it already."""


class DispatchedExecutor(Executor):
    """Workers of a place; the callbacks come from its dispatcher's thread."""

    def __init__(
        self, session: Session, plan: Plan, *, parallel: int | None, failures: Callable[[], int | None], **calls: Any
    ) -> None:
        super().__init__(session, plan, **calls)
        self._failures = failures
        self._dispatcher = session.dispatcher(plan)
        self._parallel = parallel
        self.width = self._dispatcher.scale_to(parallel)

    def submit(self, batch: Sequence[Submitted]) -> list[bool]:
        inflight_runs = self._dispatcher.submit(batch, self._plan, self._prepare)
        return [inflight is not None for inflight in inflight_runs]

    def resume(self, records: Sequence[RunRecord]) -> None:
        for record in records:
            inflight = self._session.resume(record)
            if inflight is None:  # it ended meanwhile, or another client has it
                self._on_ended(record.id, _state_of(self._session, record.id))
            else:
                inflight.parallel, inflight.failures = self._parallel, self._failures()
                self._follow_points(inflight)
                self._dispatcher.on_done(inflight, partial(self._on_done, inflight))

    def stop(self, runs: Sequence[str], cause: Outcome) -> None:
        for run in runs:
            self._dispatcher.stop(run, cause)

    def answer(self, run: str, why: str | None) -> None:
        self._dispatcher.answer(run, why)

    def _prepare(self, inflight: InflightRun) -> None:
        inflight.callbacks.append(partial(self._on_done, inflight))
        inflight.parallel, inflight.failures = self._parallel, self._failures()
        self._follow_points(inflight)

    def _follow_points(self, inflight: InflightRun) -> None:
        if self._metric is not None:
            inflight.judged, inflight.on_point = self._metric, self._on_point

    def _on_done(self, inflight: InflightRun) -> None:
        state = inflight.state
        self._on_ended(inflight.run, state if state.is_terminal else _state_of(self._session, inflight.run))


class InlineExecutor(Executor):
    """The driver's own thread: a child is over when `submit` returns."""

    def __init__(self, session: Session, plan: Plan, *, load: Callable[[], Callable[..., Any]], **calls: Any) -> None:
        super().__init__(session, plan, **calls)
        judge = self._on_point if self._metric is not None else None
        self._runner = InlineRunner(session, plan, load, self._metric, judge)

    def submit(self, batch: Sequence[Submitted]) -> list[bool]:
        done: list[bool] = []
        for submitted in batch:
            state = self._runner.run(submitted)
            done.append(state is not None)
            if state is not None:
                self._on_ended(submitted.run, state)
        return done

    def resume(self, records: Sequence[RunRecord]) -> None:
        for record in records:
            if record.owner != self._session.id:
                self._session.store.apply([Adopted(record.id, self._session.id, record.owner or "", now())])
            state = self._runner.resume(record)
            self._on_ended(record.id, state or _state_of(self._session, record.id))


def _state_of(session: Session, run: str) -> RunState:
    """Return a child's state; one whose state cannot be read counts as failed."""
    state, _ = session.store.states([run]).get(run, (RunState.FAILED, None))
    return state
