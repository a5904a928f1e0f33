"""The contract of a run's states under any order of changes; needs Hypothesis."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mlfn.spec.record import TRANSITIONS, Outcome, Reason, RunState
from mlfn.store.changes import (
    Adopted,
    CancelRequested,
    Change,
    Finished,
    FinishedUnstarted,
    OutputLogged,
    Progressed,
    Recalled,
    Requeued,
)
from mlfn.store.commands import Store
from mlfn.testing.store.base import CANCELLED, FAILED, SUCCEEDED, StoreFixtures, claimed, output, point, submitted


class RunLife(RuleBasedStateMachine):
    """One run beside a model of it: the store's answers and the state of the run must agree with the model."""

    store: ClassVar[Store]
    seen: ClassVar[set[tuple[RunState, RunState]]]
    names: ClassVar[Iterator[int]]

    @initialize()
    def submit(self) -> None:
        self.run = f"life{next(self.names)}"
        self.state, self.attempt, self.cancel, self.owner = RunState.PENDING, 0, False, "me"
        self.retries = 0
        assert self.store.apply([submitted(self.run)]) == [1]

    def apply(self, change: Change, *, applies: bool, to: RunState | None = None) -> None:
        [answer] = self.store.apply([change])
        assert bool(answer) == applies, (change, self.state, self.attempt)
        if applies and to is not None:
            assert to in TRANSITIONS[self.state]
            self.seen.add((self.state, to))
            self.state = to

    @rule(owner=st.sampled_from(["me", "you"]))
    def claim(self, owner: str) -> None:
        applies = self.state is RunState.PENDING and owner == self.owner and not self.cancel
        self.apply(claimed(self.run, owner=owner), applies=applies, to=RunState.RUNNING)
        self.attempt += applies

    @rule(
        offset=st.sampled_from([0, 0, 0, -1, 1]),
        outcome=st.sampled_from([SUCCEEDED, FAILED, CANCELLED, Outcome(RunState.PRUNED)]),
    )
    def finish(self, offset: int, outcome: Outcome) -> None:
        applies = self.state is RunState.RUNNING and offset == 0
        self.apply(Finished(self.run, self.attempt + offset, outcome, 3.0), applies=applies, to=outcome.state)

    @rule(offset=st.sampled_from([0, 0, 0, -1, 1]), counts=st.booleans())
    def requeue(self, offset: int, counts: bool) -> None:  # noqa: FBT001 - Hypothesis passes it by name
        applies = self.state is RunState.RUNNING and offset == 0
        change = Requeued(self.run, self.attempt + offset, Reason.ERROR, None, 0.0, 3.0, counts)
        self.apply(change, applies=applies, to=RunState.PENDING)
        self.retries += applies and counts

    # Claims by chance alone would rarely be followed by each way to leave `running`.
    @precondition(lambda self: self.state is RunState.PENDING and not self.cancel)
    @rule(outcome=st.sampled_from([None, None, SUCCEEDED, FAILED, CANCELLED, Outcome(RunState.PRUNED)]))
    def claim_and_finish_or_requeue(self, outcome: Outcome | None) -> None:
        self.claim(self.owner)
        if outcome is None:
            self.requeue(0, counts=True)
        else:
            self.finish(0, outcome)

    @rule(offset=st.sampled_from([0, 0, -1, 1]))
    def recall(self, offset: int) -> None:
        applies = self.state is RunState.RUNNING and offset == 0
        self.apply(Recalled(self.run, self.attempt + offset), applies=applies, to=RunState.PENDING)
        self.attempt -= applies

    @rule(outcome=st.sampled_from([FAILED, CANCELLED]))
    def withdraw(self, outcome: Outcome) -> None:
        self.apply(FinishedUnstarted(self.run, outcome, 3.0), applies=self.state is RunState.PENDING, to=outcome.state)

    @precondition(lambda self: self.attempt > 0)
    @rule()
    def request_cancel(self) -> None:
        self.apply(CancelRequested(self.run, 3.0), applies=not self.state.is_terminal and not self.cancel)
        self.cancel = self.cancel or not self.state.is_terminal

    @rule(owner=st.sampled_from(["me", "you"]), former=st.sampled_from(["me", "you"]))
    def adopt(self, owner: str, former: str) -> None:
        applies = not self.state.is_terminal and former == self.owner
        self.apply(Adopted(self.run, owner, former, 3.0), applies=applies)
        self.owner = owner if applies else self.owner

    @rule(offset=st.sampled_from([0, -1, 1]))
    def report(self, offset: int) -> None:
        applies = self.state is RunState.RUNNING and offset == 0
        attempt = self.attempt + offset
        self.apply(point(self.run, attempt, "loss", 1, 0.5, 3.0), applies=applies)
        self.apply(OutputLogged(self.run, attempt, output("n", 1)), applies=applies)
        self.apply(Progressed(self.run, attempt, {"done": 1}), applies=applies)

    @invariant()
    def store_agrees(self) -> None:
        record = self.store.get_run(self.run)
        assert (record.state, record.attempt, record.owner) == (self.state, self.attempt, self.owner)
        assert record.cancel_requested == self.cancel
        assert self.store.retries(self.run) == self.retries
        attempts = self.store.attempts(self.run)
        assert [a.attempt for a in attempts] == list(range(1, self.attempt + 1))
        assert sum(a.state == "running" for a in attempts) == (self.state is RunState.RUNNING)
        assert (record.ended is not None) == self.state.is_terminal
        ends = [
            what
            for _, _, what, _ in self.store.events(self.run)
            if what in ("succeeded", "failed", "cancelled", "pruned")
        ]
        assert ends == ([str(self.state)] if self.state.is_terminal else [])


class LifeContract(StoreFixtures):
    """What every transition of a run relies on, to be subclassed."""

    def test_no_order_of_changes_leaves_the_legal_transitions(self, store: Store) -> None:
        seen: set[tuple[RunState, RunState]] = set()
        names = itertools.count()

        class Machine(RunLife):
            pass

        Machine.store, Machine.seen, Machine.names = store, seen, names
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=100,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
                database=None,
                derandomize=True,
            ),
        )

        # Chance decides which ways are tried; each way by itself is a test of the other suites.
        assert seen <= {(old, new) for old, allowed in TRANSITIONS.items() for new in allowed}
        assert {old for old, _ in seen} == {RunState.PENDING, RunState.RUNNING}
