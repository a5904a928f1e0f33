"""Exit of a process that submitted runs: it waits for them, or cancels them after ctrl-C, and names unobserved failures."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Protocol

from mlfn.dispatch.inflight import InflightRun, RunController
from mlfn.errors import MlfnError
from mlfn.settings.declarations import Settings
from mlfn.spec.record import RunRecord, RunState
from mlfn.store.sweeps import Reader

logger = logging.getLogger(__name__)
_QUIET_SECONDS = 1.0  # of waiting at exit before a line says why
_MOST_NAMED = 5
_exit_by_signal: ExitBySignal | None = None


class Session(Protocol):
    """What the exit of a process asks of a session."""

    @property
    def settings(self) -> Settings: ...
    @property
    def store(self) -> Reader: ...
    def unfinished(self) -> list[InflightRun]: ...
    def unobserved_failures(self) -> list[RunRecord]: ...
    def controller_of(self, run: str) -> RunController | None: ...
    def close(self) -> None: ...


def shut_down(sessions: Sequence[Session]) -> None:
    """Wait for the runs of the sessions, or cancel them after ctrl-C, and close the sessions."""
    global _exit_by_signal
    if was_interrupted():
        _cancel_all(sessions)
    else:
        try:
            _wait_for_all(sessions)
        except KeyboardInterrupt:
            _cancel_all(sessions)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            _exit_by_signal = ExitBySignal()
    for session in sessions:
        try:
            _name_failures(session)
            session.close()
        except Exception:
            logger.exception("a session could not be closed")


class ExitBySignal:
    """Ends the process by SIGINT when it is collected, which is after all exit handlers.

    The exit code cannot be set that late, and an interrupt within an `atexit` function is ignored.
    """

    def __init__(self) -> None:
        # Stored on the instance: module globals are cleared at the interpreter's exit.
        self._kill, self._pid, self._signal = os.kill, os.getpid(), signal.SIGINT

    def __del__(self) -> None:
        self._kill(self._pid, self._signal)


def was_interrupted() -> bool:
    """Return whether ctrl-C ended the main thread: the interpreter keeps the exception in `sys.last_type`."""
    kind = getattr(sys, "last_type", None)
    # In interactive mode it is only the last exception that was shown; the session continued.
    return not hasattr(sys, "ps1") and kind is not None and issubclass(kind, KeyboardInterrupt)


def _wait_for_all(sessions: Sequence[Session]) -> None:
    announced = False
    begun = time.monotonic()
    while inflight_runs := [inflight for inflight in _unfinished(sessions) if not inflight.outlives_client]:
        if not announced and time.monotonic() - begun > _QUIET_SECONDS:
            announced = True
            _say(f"waiting for {_count(inflight_runs)} to end (ctrl-C cancels)")
        inflight_runs[0].done.wait(0.2)


def _cancel_all(sessions: Sequence[Session]) -> None:
    inflight_runs = _unfinished(sessions)
    try:
        for session in sessions:
            for inflight in session.unfinished():
                if (controller := session.controller_of(inflight.run)) is not None:
                    controller.cancel(inflight.run)
        limit = time.monotonic() + max((session.settings.grace for session in sessions), default=0) + 5
        for inflight in inflight_runs:
            inflight.done.wait(max(0.0, limit - time.monotonic()))
    except KeyboardInterrupt:  # the second one: stop waiting
        pass
    cancelled = [inflight for inflight in inflight_runs if inflight.state is RunState.CANCELLED]
    sweeps = {run: text for session in sessions for run, text in _cancelled_sweeps(session, cancelled)}
    if runs := [inflight for inflight in cancelled if inflight.run not in sweeps]:
        _say(f"cancelled {_count(runs)}")
    for text in sweeps.values():
        _say(text)
    if left := [inflight for inflight in inflight_runs if not inflight.done.is_set()]:
        _say(
            f"left {_count(left)} behind: {_named([(run.name, run.run) for run in left])} (mlfn wait {left[0].run[:8]})"
        )


def _cancelled_sweeps(session: Session, cancelled: Sequence[InflightRun]) -> Iterator[tuple[str, str]]:
    """Yield for each sweep how far it was, and how to go on."""
    for inflight in cancelled:
        with suppress(MlfnError):  # it is of another session
            record = session.store.get_run(inflight.run)
            if record.sweep:
                done = session.store.child_counts(record.id).get(RunState.SUCCEEDED, 0)
                total = (record.progress or {}).get("total")
                of = f" of {total}" if total is not None else ""
                short = record.id[:8]
                text = f"cancelled the sweep {record.name} ({short}) after {done}{of} children"
                yield record.id, f"{text}; `mlfn sweep resume {short}` goes on with the others"


def _name_failures(session: Session) -> None:
    """Name the failed runs whose state was never read."""
    if failed := session.unobserved_failures():
        _say(
            f"{_count(failed)} failed: {_named([(record.name, record.id) for record in failed])} "
            f"(mlfn show {failed[0].id[:8]})"
        )


def _unfinished(sessions: Sequence[Session]) -> list[InflightRun]:
    """Return the runs that are not terminal, without the children of sweeps."""
    return [inflight for session in sessions for inflight in session.unfinished() if not inflight.iteration]


def _named(runs: Sequence[tuple[str, str]]) -> str:
    some = ", ".join(f"{name} {run[:8]}" for name, run in runs[:_MOST_NAMED])
    return some + (f" and {len(runs) - _MOST_NAMED} more" if len(runs) > _MOST_NAMED else "")


def _count(runs: Sequence[object]) -> str:
    return f"{len(runs)} run{'' if len(runs) == 1 else 's'}"


def _say(text: str) -> None:
    print(f"mlfn: {text}", file=sys.stderr, flush=True)
