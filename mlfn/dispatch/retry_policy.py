"""Whether another attempt follows one that failed, and when. Pure."""

from __future__ import annotations

from mlfn.spec.record import Outcome, Reason, RunState
from mlfn.spec.values import Retry

MAX_FREE_ATTEMPTS = 10
"""How many attempts that were preempted or never started a run may have: they use no retry budget, but must end."""
FREE_DELAY = 0.1
"""Seconds before the first of these attempts; doubled before each further one."""
_LONGEST_FREE_DELAY = 30.0

_FREE = (Reason.PREEMPTED, Reason.NEVER_STARTED)
# Another attempt would fail in the same way.
_FINAL = (Reason.SKEW, Reason.STORAGE, Reason.CODE)


def seconds_before_retry(outcome: Outcome, retry: Retry | None, *, used: int, free: int) -> float | None:
    """Return the seconds until another attempt, or None when the outcome stands."""
    if outcome.state is not RunState.FAILED or outcome.reason in _FINAL:
        return None
    if outcome.reason in _FREE:
        return min(FREE_DELAY * 2**free, _LONGEST_FREE_DELAY) if free < MAX_FREE_ATTEMPTS else None
    if retry is None or used >= retry.times or not _wanted(outcome, retry):
        return None
    return retry.wait(used + 1)


def _wanted(outcome: Outcome, retry: Retry) -> bool:
    if not retry.on:
        return True
    types = set(outcome.failure.bases if outcome.failure else ())
    names = types | {name.removeprefix("builtins.") for name in types} | {str(outcome.reason)}
    return any(item in names for item in retry.on)
