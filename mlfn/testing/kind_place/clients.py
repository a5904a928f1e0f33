"""Clients that die, leave, come back, or are several."""

from __future__ import annotations

import signal
from typing import Any

import mlfn
from mlfn import errors
from mlfn.testing.kind_place.inside import adoptions, declare_clients_dead, ends_recorded
from mlfn.testing.kind_place.marks import CannotBeAttemptedError
from mlfn.testing.kind_place.pair import Pair

_STEPS = [(0, 0.0), (1, 0.125), (2, 0.25)]
_TO_THE_END = """
placed("brief").submit(SHARED).wait()
"""
_STAGED = """
run = placed("staged").submit(SHARED)
print("submitted", flush=True)
run.wait()
print(run.state)
"""
_AT_ONCE = """
placed("staged").submit(SHARED)
while not Path(SHARED, "notes").exists():
    time.sleep(0.01)
"""
_CANCEL = """
assert mlfn.run(sys.argv[1]).cancel()
"""


class ClientsCases(Pair):
    """A run goes on, and is recorded once, whatever becomes of its client."""

    def test_killed_between_record_and_create(self) -> None:
        self._die_at("killed_between_record_and_create")

        self._exists_and_is_recorded_once()

    def test_killed_between_create_and_first_status(self) -> None:
        self._die_at("killed_between_create_and_first_status")

        self._exists_and_is_recorded_once()

    def test_killed_before_recording_the_end(self) -> None:
        self._die_at("killed_before_recording_the_end")

        self._exists_and_is_recorded_once()

    def _die_at(self, case: str) -> None:
        if case not in self.failpoints:
            raise CannotBeAttemptedError(f"failpoints has no {case!r}: the client cannot be ended there.")
        self.finish(self.client(_TO_THE_END, MLFN_FAILPOINT=self.failpoints[case]), code=-signal.SIGKILL)

    def _exists_and_is_recorded_once(self) -> None:
        [run] = mlfn.runs()
        assert run.result(self.patience) == 7
        assert len(self.notes("start")) == len(self.notes("end")) == 1, "it ran more than once"
        self._is_recorded_once(run)

    def _is_recorded_once(self, run: mlfn.Run[Any]) -> None:
        assert run.metrics.history("loss") == _STEPS
        assert ends_recorded(self.data, run.id) == ["succeeded"]

    def _kill_at_work(self) -> None:
        """Have a client submit a run and die while it is at its second step."""
        client = self.client(_STAGED)
        self.wait_until(lambda: self.notes("start"), "the run has begun")
        [run] = mlfn.runs()
        self.wait_until(
            lambda: "loss" in run.metrics and len(run.metrics.history("loss")) == 2, "two steps are recorded"
        )
        self.kill(client)

    def test_hour_away_loses_nothing(self) -> None:
        self._kill_at_work()
        self.go()
        self.wait_until(lambda: self.notes("end"), "the run has ended without a client")

        self.leave_for_an_hour()

        [run] = mlfn.runs()
        assert (run.result(self.patience), run.state) == (7, "succeeded")
        assert run.logs(rank=0) == "step 0\nstep 1\nstep 2\n"
        self._is_recorded_once(run)

    def test_usurped_client_records_nothing(self) -> None:
        client = self.client(_STAGED)
        self.wait_until(lambda: self.notes("start"), "the run has begun")
        [run] = mlfn.runs()
        self.wait_until(
            lambda: "loss" in run.metrics and len(run.metrics.history("loss")) == 2, "two steps are recorded"
        )

        declare_clients_dead(self.data)
        waiting = self.in_thread(lambda: run.wait(self.patience))
        self.wait_until(lambda: adoptions(self.data, run.id), "another client has taken over")
        self.go()
        waiting.join(self.patience)
        self.finish(client)

        assert ends_recorded(self.data, run.id) == ["failed" if self.in_caller else "succeeded"]
        assert run.metrics.history("loss") == (_STEPS[:2] if self.in_caller else _STEPS)

    def test_other_process_cancels(self) -> None:
        run = self.begin(self.placed("endless"), str(self.shared))
        self.wait_until(lambda: self.notes("start"), "the run has begun")

        self.finish(self.client(_CANCEL, run.id))

        assert run.state == "cancelled"
        assert len(self.notes("finally")) == 1
        assert ends_recorded(self.data, run.id) == ["cancelled"]
        self.raised(errors.RunCancelledError, run.result)

    def test_unreachable_place_concludes_nothing(self) -> None:
        run = self.begin_staged()

        self.wait_until(lambda: run.state == "running", "the client has heard that it runs")
        with self.unreachable():
            self.leave_for_an_hour()
            assert run.state == "running"
        self.go()

        assert run.result(self.patience) == 7
        assert len(run.attempts) == 1

    def test_replayed_journal_changes_nothing(self) -> None:
        self._kill_at_work()

        self.replay_journals()
        self.go()

        [run] = mlfn.runs()
        assert run.result(self.patience) == 7
        self._is_recorded_once(run)

    def test_exit_leaves_what_outlives_it(self) -> None:
        client = self.client(_AT_ONCE)
        self.wait_until(lambda: self.notes("start"), "the run has begun")

        self.wait_until(lambda: client.poll() is not None, "the client has ended")

        assert client.returncode == 0
        self.go()
        [run] = mlfn.runs()
        assert run.result(self.patience) == 7
