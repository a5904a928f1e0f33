"""Why a worker process ended without reporting an outcome: its exit code or signal as a reason and words."""

from __future__ import annotations

import signal as signals

from mlfn.host.frozen import frozen
from mlfn.spec.record import Reason
from mlfn.spec.values import shown_bytes
from mlfn.worker.journal import MEMORY_EXIT
from mlfn.worker.points import STORAGE_EXIT

DOCTOR = "`mlfn doctor` checks that one can start."


@frozen
class Exit:
    """What the system says of a process that has ended; `mem` is the limit in bytes that it had."""

    code: int | None
    signal: int | None
    memory_killed: bool = False
    stopped: bool = False  # by SIGSTOP, until its heartbeat lapsed; then it was killed
    mem: int | None = None

    def __str__(self) -> str:
        if self.memory_killed:
            return "the system killed it for want of memory"
        if self.signal is None:
            return f"exit code {self.code}"
        try:
            return f"signal {self.signal}, {signals.Signals(self.signal).name}"
        except ValueError:
            return f"signal {self.signal}"


def explain(exit_: Exit, *, began: bool = True, started: bool = True, stderr: str = "") -> tuple[Reason, str]:
    """Return the reason and what follows the function's name in a message.

    `began` says that the worker was ever ready for a run, `started` that it was running one; `stderr` is what it wrote before
    its first.
    """
    if exit_.stopped and started:
        return (
            Reason.LOST,
            ": its worker was stopped (SIGSTOP) and sent no heartbeat, so it was killed; find what stopped it.",
        )
    if exit_.code is None and exit_.signal is None:
        return Reason.LOST, ": its worker is gone without an outcome, and its exit status is unknown."
    if exit_.code == STORAGE_EXIT and began:
        return Reason.STORAGE, ": its worker could not write its journal; is the disk of the data folder full?"
    if exit_.code == MEMORY_EXIT and exit_.mem:
        when = "" if started else " before it could begin"
        return Reason.OOM, f" ran into its limit of mem={shown_bytes(exit_.mem)}{when}; raise mem=, or use less."
    if not started:
        wrote = f" It wrote:\n{stderr}" if stderr else ""
        return Reason.NEVER_STARTED, f": its worker ended ({exit_}) before it could begin; {DOCTOR}{wrote}"
    if exit_.memory_killed:
        return (
            Reason.OOM,
            ": the system killed its worker for want of memory; ask for less, or run it where there is more.",
        )
    if exit_.signal == signals.SIGABRT and exit_.mem:
        return (
            Reason.OOM,
            f": native code gave up (SIGABRT) under its limit of mem={shown_bytes(exit_.mem)}; raise mem=.",
        )
    return (
        Reason.ERROR,
        f": its worker ended ({exit_}) before an outcome was reported; run.logs() has what it wrote, if anything.",
    )
