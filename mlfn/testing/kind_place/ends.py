"""How runs end, other than by themselves."""

from __future__ import annotations

import json
import sys
import time

import mlfn
from mlfn import errors
from mlfn.testing.kind_place.inside import OTHER_MINOR, submitting_from_another_python
from mlfn.testing.kind_place.marks import CannotBeAttemptedError
from mlfn.testing.kind_place.pair import Pair

_ENDS = """
for name, options in (("leave", {}), ("kill_itself", {}), ("hungry", {"mem": "256Mi"})):
    run = placed(name, **options).submit()
    error = run.exception()  # who started this waits no longer than its patience
    print(__import__("json").dumps([str(run.record.reason), str(error)]))
"""
_UNTIL_KILLED = """
placed("limited", timeout=float(sys.argv[1])).submit(SHARED, float(sys.argv[2]))
time.sleep(600)
"""


class EndsCases(Pair):
    """Cancel, time limit, retry, and the ends that nobody asked for."""

    def test_cancel_pending_starts_nothing(self) -> None:
        for _ in range(self.width):
            self.begin(self.placed("endless"), str(self.shared))
        self.wait_until(lambda: len(self.notes("start")) == self.width, "there is no room left")
        run = self.begin(self.placed("endless"), str(self.shared))

        assert run.cancel()

        assert run.state == "cancelled"
        assert [item for item in run.attempts if item.started is not None] == []
        assert [note for note in self.notes() if note.run == run.id] == []

    def test_cancel_running_is_confirmed_after_finally(self) -> None:
        run = self.begin(self.placed("endless"), str(self.shared))
        self.wait_until(self.have_begun, "the run has begun")

        assert run.cancel()

        assert len(self.notes("finally", every_rank=True)) == self.ranks
        assert run.state == "cancelled"
        self.raised(errors.RunCancelledError, run.result)

    def test_ignored_sigterm_is_killed_after_grace(self) -> None:
        run = self.begin(self.placed("stubborn"), str(self.shared))
        self.wait_until(self.have_begun, "the run has begun")
        self.wait_until(lambda: self.notes("beat"), "the run ignores SIGTERM")

        begun = time.monotonic()
        assert run.cancel()

        assert time.monotonic() - begun >= float(str(self.settings["grace"]))
        assert run.state == "cancelled"
        self._refuse_beats()

    def _refuse_beats(self) -> None:
        """Fail if a handler that should be gone still writes."""
        before = len(self.notes("beat", every_rank=True))
        time.sleep(0.2)  # ten of its beats
        assert len(self.notes("beat", every_rank=True)) == before

    def test_timeout_has_its_words(self) -> None:
        run = self.begin(self.placed("limited", timeout=self.limit), str(self.shared), 4 * self.limit)

        error = run.exception(self.patience)

        assert isinstance(error, errors.RunTimeoutError) and isinstance(error, TimeoutError)
        assert f"{self.limit:g} s" in str(error)
        assert (run.state, run.record.reason) == ("failed", "timeout")
        assert self.notes("finally") and not self.notes("end")

    def test_timeout_holds_without_a_client(self) -> None:
        client = self.client(_UNTIL_KILLED, str(self.limit), str(4 * self.limit))
        self.wait_until(lambda: self.notes("start"), "the run has begun")
        self.kill(client)

        self.wait_until(lambda: self.notes("finally"), "the run has ended")

        assert self.notes("end") == [], "it went on past its time limit"
        [run] = mlfn.runs()
        self.raised(errors.RunTimeoutError, lambda: run.result(self.patience))
        assert (run.state, run.record.reason, len(run.attempts)) == ("failed", "timeout", 1)

    def test_exit_signal_oom_each_has_its_reason(self) -> None:
        # In a process of its own: where runs are in the caller's process, it ends with them.
        lines = self.finish(self.client(_ENDS)).splitlines()

        exit_code, by_signal, memory = (json.loads(line) for line in lines)
        assert exit_code[0] == "error" and "exit code 3" in exit_code[1]
        assert by_signal[0] == "error" and "signal 9" in by_signal[1]
        assert memory[0] == "oom" and "256Mi" in memory[1]

    def test_preempted_uses_no_budget(self) -> None:
        run = self.begin(self.placed("stays_at_first"), str(self.shared))
        self.wait_until(lambda: self.notes("start"), "the run has begun")

        self.preempt(run)

        assert run.result(self.patience) == 2
        assert [(item.state, item.reason) for item in run.attempts] == [("failed", "preempted"), ("succeeded", None)]

    def test_retry_is_a_new_attempt(self) -> None:
        run = self.placed("second_time", retry=mlfn.Retry(1, delay=0.01)).submit(str(self.shared))

        assert run.result(self.patience) == 2
        # One rank may have failed, and ended the others, before these began.
        assert sorted({note.attempt for note in self.notes("start", every_rank=True)}) == [1, 2]
        assert [item.state for item in run.attempts] == ["failed", "succeeded"]
        assert "at the first attempt" in str(run.attempts[0].failure)

    def test_python_skew_names_both_sides(self) -> None:
        with submitting_from_another_python():
            run = self.placed("double").submit(2)

        error = run.exception(self.patience)

        assert isinstance(error, errors.SkewError)
        assert OTHER_MINOR in str(error) and "{}.{}".format(*sys.version_info) in str(error)
        assert (run.state, run.record.reason) == ("failed", "skew")

    def test_deleted_by_others_is_named(self) -> None:
        run = self.begin(self.placed("stays_at_first"), str(self.shared))
        self.wait_until(lambda: self.notes("start"), "the run has begun")

        self.delete(run)

        error = run.exception(self.patience)
        assert isinstance(error, errors.RunError) and self.deleted in str(error), error
        assert len(run.attempts) == 1

    def test_one_rank_fails_all_with_its_traceback(self) -> None:
        if self.ranks == 1:
            raise CannotBeAttemptedError("ranks is 1: no other rank is there to be ended.")

        run = self.begin(self.placed("fail_in_rank"), str(self.shared), self.ranks - 1)

        error = run.exception(self.patience)
        assert type(error) is self.handlers.OutOfStockError
        assert "in fail_in_rank" in str(run.error)
        assert {note.rank for note in self.notes("start", every_rank=True)} == set(range(self.ranks))
