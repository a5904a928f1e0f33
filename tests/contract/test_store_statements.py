"""An ordinary run costs the store few statements."""

from __future__ import annotations

from mlfn.spec.record import Outcome, Reason, RunState
from mlfn.store.changes import Acknowledged, Change, Claimed, Finished, Progressed, Requeued, Started, StatusNoted
from mlfn.testing.store.base import StoreFixtures, created, output, submitted
from tests.contract.stores import OnSqlite

BATCH = 8
MOST_STATEMENTS = 2.5  # a run, of which one for its submission
RETURNED = Outcome(RunState.SUCCEEDED, returns={"keys": ["return"]}, outputs=(output("return", 1),))


class TestStatements(OnSqlite, StoreFixtures):
    def test_an_ordinary_run_takes_few_statements(self, store):
        store.apply([created("w")])
        runs = [f"r{number}" for number in range(BATCH)]
        statements: list[str] = []
        store.connection.engine._connect().set_trace_callback(statements.append)

        for run in runs:
            store.apply([submitted(run)])
        submits = len(statements)
        store.apply([Claimed(run, "me", "w", 2.0) for run in runs])
        reports: list[Change] = []
        for run in runs:
            reports += [Started(run, 1, 2.5), Finished(run, 1, RETURNED, 3.0)]
        answers = store.apply(reports, cursors={"w": "10"}, client="me")

        store.connection.engine._connect().set_trace_callback(None)
        assert answers == [1] * 2 * BATCH
        assert submits == BATCH
        assert len(statements) <= MOST_STATEMENTS * BATCH, statements

    def test_a_start_within_a_batch_is_kept(self, store, running):
        store.apply([Started("a", 1, 2.5), Finished("a", 1, RETURNED, 3.0)])

        assert store.attempt_started("a", 1) == 2.5

    def test_steps_of_many_attempts_are_written_together(self, store):
        runs = [f"r{number}" for number in range(BATCH)]
        store.apply([submitted(run) for run in runs])
        steps: list[Change] = []
        for run in runs:
            steps += [Claimed(run, "me", "w", 2.0, queued=True), StatusNoted(run, 1, "waits"), Started(run, 1, 2.5)]
            steps += [Acknowledged(run, 1, 2), Acknowledged(run, 1, 3), Finished(run, 1, RETURNED, 3.0)]
        statements: list[str] = []
        store.connection.engine._connect().set_trace_callback(statements.append)

        answers = store.apply(steps)

        store.connection.engine._connect().set_trace_callback(None)
        assert answers == [1] * 6 * BATCH
        assert len(statements) <= 7, statements
        assert {store.get_run(run).state for run in runs} == {RunState.SUCCEEDED}

    def test_each_runs_changes_keep_their_order(self, store):
        store.apply([submitted(run) for run in "ab"])

        answers = store.apply(
            [
                *(Claimed("a", "me", None, 2.0), Started("a", 1, 2.5), Requeued("a", 1, Reason.LOST, None, 0.0, 3.0)),
                *(Claimed("b", "me", None, 2.0), Finished("b", 1, RETURNED, 3.0), Progressed("b", 1, {"done": 1})),
                *(Claimed("a", "me", None, 4.0), Progressed("a", 1, {"done": 1}), Progressed("a", 2, {"done": 2})),
                *(Progressed("a", 2, {"done": 3}), Finished("a", 1, RETURNED, 5.0), Finished("a", 2, RETURNED, 6.0)),
            ]
        )

        assert answers == [1, 1, 1, 1, 1, 0, 2, 0, 1, 1, 0, 1]
        assert [attempt.started for attempt in store.attempts("a")] == [2.5, None]
        assert store.get_run("a").progress == {"done": 3}
        assert store.get_run("b").progress is None
