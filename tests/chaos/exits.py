"""Why a unit ended, as a reason and words."""

from __future__ import annotations

import signal as signals

from mlfn.spec.record import Reason
from mlfn.spec.values import shown_bytes
from tests.chaos.engine import Template, UnitStatus


def explain(unit: UnitStatus, template: Template) -> tuple[Reason, str]:
    """Return the reason and what follows the function's name in a message."""
    if unit.reason == "deadline":
        limit = template.timeout or 0.0
        return Reason.TIMEOUT, f" did not end within its timeout of {limit:g} s; raise timeout=, or make it quicker."
    if unit.reason == "evicted":
        return Reason.PREEMPTED, ": the engine evicted it."
    if unit.reason == "stopped":
        return Reason.PREEMPTED, ": a client that is gone had it stopped."
    if unit.reason == "deleted":
        return Reason.LOST, ": its unit was deleted at the engine, and not by mlfn."
    if unit.reason == "unschedulable":
        return Reason.NEVER_STARTED, ": the engine found no room for it in time."
    if unit.reason == "oom":
        limit = f"its limit of mem={shown_bytes(template.mem)}" if template.mem else "what the engine has"
        return Reason.OOM, f" took more memory than {limit}; raise mem=, or use less."
    how = f"exit code {unit.exit_code}" if unit.signal is None else f"signal {unit.signal}, {_name(unit.signal)}"
    return (
        Reason.ERROR,
        f": its unit ended ({how}) before an outcome was reported; run.logs() has what it wrote, if anything.",
    )


def _name(number: int) -> str:
    try:
        return signals.Signals(number).name
    except ValueError:
        return "unknown"
