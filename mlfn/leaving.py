"""The end of a process that submitted runs: it waits for them, or ends them after ctrl-C, and says what nobody heard of."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlfn.spec.record import RunState

if TYPE_CHECKING:
    from mlfn.client import Client
    from mlfn.ticket import Ticket

logger = logging.getLogger(__name__)
_SAYS_SO_AFTER = 1.0  # seconds of waiting at exit before a line tells why
_MOST_NAMED = 5
_last_word: LastWord | None = None


def leave(clients: Sequence[Client]) -> None:
    """At a normal end wait for what was submitted; after ctrl-C cancel it."""
    global _last_word
    if was_interrupted():
        _cancel_all(clients)
    else:
        try:
            _wait_for_all(clients)
        except KeyboardInterrupt:
            _cancel_all(clients)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            _last_word = LastWord()
    for client in clients:
        try:
            _tell_failed(client)
            client.close()
        except Exception:
            logger.exception("leaving the store behind")


class LastWord:
    """Ends the process by SIGINT once it is collected: when everything else that happens at exit has happened.

    An exit code cannot be chosen that late, and an interrupt in a function that `atexit` calls is ignored.
    """

    def __init__(self) -> None:
        # Kept here: when this is collected, modules are empty.
        self._kill, self._pid, self._signal = os.kill, os.getpid(), signal.SIGINT

    def __del__(self) -> None:
        self._kill(self._pid, self._signal)


def was_interrupted() -> bool:
    """Say whether ctrl-C ended the main thread: the interpreter leaves the exception that did here."""
    kind = getattr(sys, "last_type", None)
    # Before a prompt it is the last one that was shown, and the session went on after it.
    return not hasattr(sys, "ps1") and kind is not None and issubclass(kind, KeyboardInterrupt)


def _wait_for_all(clients: Sequence[Client]) -> None:
    told = False
    begun = time.monotonic()
    while tickets := _unfinished(clients):
        if not told and time.monotonic() - begun > _SAYS_SO_AFTER:
            told = True
            _say(f"waiting for {_count(tickets)} to end (ctrl-C cancels)")
        tickets[0].done.wait(0.2)


def _cancel_all(clients: Sequence[Client]) -> None:
    tickets = _unfinished(clients)
    try:
        for client in clients:
            for ticket in client.unfinished():
                if (keeper := client.keeper_of(ticket.run)) is not None:
                    keeper.cancel(ticket.run)
        limit = time.monotonic() + max((client.settings.grace for client in clients), default=0) + 5
        for ticket in tickets:
            ticket.done.wait(max(0.0, limit - time.monotonic()))
    except KeyboardInterrupt:  # the second: nothing is waited for any more
        pass
    if cancelled := [ticket for ticket in tickets if ticket.state is RunState.CANCELLED]:
        _say(f"cancelled {_count(cancelled)}")
    if left := [ticket for ticket in tickets if not ticket.done.is_set()]:
        _say(f"left {_count(left)} behind: {_named([(t.name, t.run) for t in left])} (mlfn wait {left[0].run[:8]})")


def _tell_failed(client: Client) -> None:
    """Say which runs failed that were submitted here and that nobody has asked about."""
    if failed := client.unheard_failures():
        _say(
            f"{_count(failed)} failed: {_named([(record.name, record.id) for record in failed])} "
            f"(mlfn show {failed[0].id[:8]})"
        )


def _unfinished(clients: Sequence[Client]) -> list[Ticket]:
    """Return what is not over, less the children of sweeps."""
    return [ticket for client in clients for ticket in client.unfinished() if not ticket.iteration]


def _named(runs: Sequence[tuple[str, str]]) -> str:
    some = ", ".join(f"{name} {run[:8]}" for name, run in runs[:_MOST_NAMED])
    return some + (f" and {len(runs) - _MOST_NAMED} more" if len(runs) > _MOST_NAMED else "")


def _count(runs: Sequence[object]) -> str:
    return f"{len(runs)} run{'' if len(runs) == 1 else 's'}"


def _say(text: str) -> None:
    print(f"mlfn: {text}", file=sys.stderr, flush=True)
