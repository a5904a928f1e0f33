"""Failures that no handler raised: by an error of mlfn's own, as an outcome. Pure."""

from __future__ import annotations

import signal as signals
from dataclasses import replace

from mlfn import errors
from mlfn.backends.places.base import Terminated
from mlfn.spec.record import Outcome, Reason, RemoteFailure, RunState

_ERRORS: dict[Reason, type[errors.MlfnError]] = {
    Reason.LOST: errors.RunLostError,
    Reason.STORAGE: errors.StorageError,
    Reason.OOM: errors.OutOfMemoryError,
    Reason.TIMEOUT: errors.RunTimeoutError,
    Reason.SKEW: errors.SkewError,
}


def failed(
    reason: Reason, error: errors.MlfnError, *, exit_code: int | None = None, signal: int | None = None
) -> Outcome:
    """Return a failure by an error of mlfn's own; readers rebuild it by the name of its type."""
    return Outcome(RunState.FAILED, reason, RemoteFailure.of_error(error, exit_code=exit_code, signal=signal))


def of_termination(name: str, gone: Terminated, *, started: bool) -> Outcome:
    """Return the outcome of an attempt whose worker terminated without reporting one."""
    is_unknown = gone.reason is Reason.LOST and not gone.deleted
    reason = Reason.NEVER_STARTED if is_unknown and not started else gone.reason
    error = _ERRORS.get(gone.reason, errors.WorkerDiedError)(f"{name}{gone.message}")
    return failed(reason, error, exit_code=gone.exit_code, signal=gone.signal)


def stopped_from_outside(name: str) -> Outcome:
    """Return the outcome of an attempt that got SIGTERM, which no client has sent: by its handler itself, for example."""
    text = f"{name}: its worker got signal 15, SIGTERM, which mlfn did not send; find what sent it, or cancel with run.cancel()."
    return failed(Reason.ERROR, errors.WorkerDiedError(text), signal=int(signals.SIGTERM))


def with_stacks(cause: Outcome, reported: Outcome | None) -> Outcome:
    """Return why an attempt was stopped, with where its ranks stood then, if its worker has reported that."""
    if (
        reported is None
        or reported.state is not RunState.CANCELLED
        or reported.failure is None
        or cause.failure is None
    ):
        return cause
    text = f"{reported.failure.traceback}{cause.failure.type}: {cause.failure.message}"
    return replace(cause, failure=replace(cause.failure, traceback=text))
