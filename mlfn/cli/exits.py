"""Exit codes, and which error ends with which."""

from __future__ import annotations

from mlfn.errors import (
    MlfnError,
    NotFoundError,
    ResultTimeoutError,
    RunCancelledError,
    RunError,
    SecretNotFoundError,
    StoreError,
)
from mlfn.spec.record import RunRecord, RunState

OK = 0
RUN_FAILED = 1
USAGE = 2
NOT_FOUND = 3
CANCELLED = 4
STORAGE = 5
BUG = 70  # EX_SOFTWARE
STILL_RUNNING = 124  # as timeout(1) has it
INTERRUPTED = 130  # 128 + SIGINT
READER_GONE = 141  # 128 + SIGPIPE

_BY_ERROR: tuple[tuple[type[MlfnError], int], ...] = (
    (NotFoundError, NOT_FOUND),
    (SecretNotFoundError, NOT_FOUND),
    (StoreError, STORAGE),
    (RunCancelledError, CANCELLED),
    (RunError, RUN_FAILED),
    (ResultTimeoutError, STILL_RUNNING),
)
_BY_STATE = {RunState.SUCCEEDED: OK, RunState.CANCELLED: CANCELLED, RunState.PRUNED: OK, RunState.FAILED: RUN_FAILED}


def code_of(error: MlfnError) -> int:
    """Return the exit code for an error; declarations, parameters and settings are usage."""
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), USAGE)


def code_of_run(record: RunRecord) -> int:
    """Return the exit code for a run's end."""
    return _BY_STATE.get(record.state, STILL_RUNNING)
