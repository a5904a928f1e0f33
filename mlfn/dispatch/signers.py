"""Which executions may have signed the values of a run: the one that ran it, or that of the run whose values it carries."""

from __future__ import annotations

from mlfn.spec.record import BEST
from mlfn.store.commands import Store


def signers_of(store: Store, run: str) -> set[str]:
    """Return their ids; none for a run of the caller's own process, which signs with the user's key."""
    record = store.get_run(run)
    if record.reused is not None:
        return signers_of(store, record.reused)
    if record.sweep:
        best = next((output.inline for output in store.outputs(run, record.attempt) if output.key == BEST), None)
        child = store.child_at(run, best) if isinstance(best, int) else None
        return signers_of(store, child) if child is not None else set()
    if record.execution is not None:
        return {record.execution}
    # It waits for its next attempt.
    return {one.execution for one in store.attempts(run) if one.attempt == record.attempt and one.execution is not None}
