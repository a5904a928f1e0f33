"""What an attempt's end means: its words, and whether another attempt follows. Pure."""

from __future__ import annotations

import signal as signals
from collections.abc import Mapping
from typing import Any

from mlfn import errors
from mlfn.errors import MlfnError
from mlfn.places.base import Gone
from mlfn.spec.record import Outcome, Reason, RemoteFailure, RunState
from mlfn.spec.values import Retry, shown_bytes
from mlfn.worker.journal import MEMORY_EXIT, STORAGE_EXIT

MAX_FREE_ATTEMPTS = 10
"""How often a run may be preempted or never start: that uses no retry budget, but is no endless loop either."""
FREE_DELAY = 0.1
"""Seconds before the first of these attempts; doubled before each further one."""
_LONGEST_FREE_DELAY = 30.0

_FREE = (Reason.PREEMPTED, Reason.NEVER_STARTED)
# These would fail again in the same way.
_FINAL = (Reason.SKEW, Reason.STORAGE)


def failed(reason: Reason, error: MlfnError, *, exit_code: int | None = None, signal: int | None = None) -> Outcome:
    """Return a failure in mlfn's own words; the reader rebuilds the error by its type's name."""
    kind = type(error)
    bases = tuple(f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__[:-1])
    failure = RemoteFailure(f"{kind.__module__}.{kind.__qualname__}", str(error), "", bases, None, exit_code, signal)
    return Outcome(RunState.FAILED, reason, failure)


def of_exit(name: str, gone: Gone, *, started: bool, mem: int | None) -> Outcome:
    """Return the outcome of an attempt whose worker ended without reporting one."""
    if gone.stopped and started:
        text = (
            f"{name}: its worker was stopped (SIGSTOP) and gave no sign of life, so it was ended; see what stopped it."
        )
        return failed(Reason.LOST, errors.RunLostError(text))
    if gone.lost:
        text = f"{name}: its worker is gone without an outcome, and nobody saw how it ended."
        return failed(Reason.LOST if started else Reason.NEVER_STARTED, errors.RunLostError(text))
    if gone.exit_code == STORAGE_EXIT and not gone.never_began:
        text = f"{name}: its worker could not write its journal; is the disk of the data folder full?"
        return failed(Reason.STORAGE, errors.StorageError(text), exit_code=gone.exit_code)
    if gone.exit_code == MEMORY_EXIT and mem:
        when = "" if started else " before it could begin"
        text = f"{name} ran into its limit of mem={shown_bytes(mem)}{when}; raise mem=, or use less."
        return failed(Reason.OOM, errors.OutOfMemoryError(text), exit_code=gone.exit_code)
    if not started:
        text = (
            f"{name}: its worker ended ({_how(gone)}) before it could begin; `mlfn doctor` checks that one can start."
        )
        if gone.said:
            text += f" It wrote:\n{gone.said}"
        return failed(Reason.NEVER_STARTED, errors.WorkerDiedError(text), exit_code=gone.exit_code, signal=gone.signal)
    if gone.memory_killed:
        text = f"{name}: the system killed its worker for want of memory; ask for less, or run it where there is more."
        return failed(Reason.OOM, errors.OutOfMemoryError(text), signal=gone.signal)
    if gone.signal == signals.SIGABRT and mem:
        text = f"{name}: native code gave up (SIGABRT) under its limit of mem={shown_bytes(mem)}; raise mem=."
        return failed(Reason.OOM, errors.OutOfMemoryError(text), signal=gone.signal)
    text = f"{name}: its worker ended ({_how(gone)}) before an outcome was reported; run.logs() has what it wrote, if anything."
    return failed(Reason.ERROR, errors.WorkerDiedError(text), exit_code=gone.exit_code, signal=gone.signal)


def waits_before_retry(outcome: Outcome, retry: Retry | None, *, used: int, free: int) -> float | None:
    """Return the seconds until another attempt, or None when the outcome stands."""
    if outcome.state is not RunState.FAILED or outcome.reason in _FINAL:
        return None
    if outcome.reason in _FREE:
        return min(FREE_DELAY * 2**free, _LONGEST_FREE_DELAY) if free < MAX_FREE_ATTEMPTS else None
    if retry is None or used >= retry.times or not _wanted(outcome, retry):
        return None
    return retry.wait(used + 1)


def terminated(name: str) -> Outcome:
    """Return the outcome of an attempt that somebody ended by SIGTERM, though no cancel was asked for: a shutdown, say."""
    text = f"{name}: its worker was told to end (SIGTERM) by another program; nobody had cancelled the run."
    return failed(Reason.PREEMPTED, errors.WorkerDiedError(text), signal=int(signals.SIGTERM))


def retry_of(plan: Mapping[str, Any]) -> Retry | None:
    """Return a plan's retry policy."""
    return Retry.of_plan(plan["retry"]) if plan["retry"] else None


def _wanted(outcome: Outcome, retry: Retry) -> bool:
    if not retry.on:
        return True
    types = set(outcome.failure.bases if outcome.failure else ())
    names = types | {name.removeprefix("builtins.") for name in types} | {str(outcome.reason)}
    return any(item in names for item in retry.on)


def _how(gone: Gone) -> str:
    if gone.memory_killed:
        return "the system killed it for want of memory"
    if gone.signal is not None:
        try:
            return f"signal {gone.signal}, {signals.Signals(gone.signal).name}"
        except ValueError:
            return f"signal {gone.signal}"
    return f"exit code {gone.exit_code}"
