"""See a submitted run through to its end, in sight of somebody who may press ctrl-C."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import Any

from mlfn.cli import exits
from mlfn.cli.describing import describe_whole
from mlfn.cli.families import describe_family, tell_family
from mlfn.cli.printing import complain, say, write_json
from mlfn.cli.telling import tell_end
from mlfn.client import current_client
from mlfn.handle import Run

_LEAVING_SECONDS = 3.0
_ROWS = 40  # of a sweep's table
_KEYBOARD = "builtins.KeyboardInterrupt"


def see_through(run: Run[Any], *, announced: str, follow: bool, as_json: bool) -> int:
    """Announce a run, wait for it, show how it ended and return the exit code; ctrl-C cancels it."""
    interrupted = False
    try:
        complain(announced)  # in here: whoever has read it may press ctrl-C
        _wait(run, follow=follow, as_json=as_json)
    except KeyboardInterrupt:
        interrupted = True
        _cancel(run)
    record = run.record
    described = describe_whole(current_client(), record)
    family = describe_family(current_client(), record) if record.sweep else None
    if as_json:
        write_json(described if family is None else {**described, "family": family})
    else:
        if family is not None:
            tell_family(family, most=_ROWS)
            say()
        tell_end(described)
    if interrupted or (record.failure is not None and record.failure.type == _KEYBOARD):
        return exits.INTERRUPTED
    return exits.code_of_run(record)


def copy_logs(run: Run[Any], *, to_stderr: bool) -> None:
    """Write what a run writes, as it comes, until it ends."""
    stream = sys.stderr if to_stderr else sys.stdout
    for chunk in run.logs(follow=True):
        stream.write(chunk)
        stream.flush()


def leave_at_once(code: int) -> None:
    """End this process without waiting for what it has taken over: that goes on, or waits for the next who asks."""
    # Beside this thread, and not for long: ctrl-C may have come while something was held that closing waits for.
    closing = threading.Thread(target=_close_quietly, daemon=True)
    closing.start()
    closing.join(_LEAVING_SECONDS)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _close_quietly() -> None:
    with contextlib.suppress(Exception):
        current_client().close()


def _wait(run: Run[Any], *, follow: bool, as_json: bool) -> None:
    if follow:
        copy_logs(run, to_stderr=as_json)
    run.wait()  # in a terminal, with a progress line


def _cancel(run: Run[Any]) -> None:
    try:
        complain(f"cancelling {run.id[:8]} (ctrl-C again leaves it behind)")
        run.cancel()
    except KeyboardInterrupt:
        complain(f"left {run.id[:8]} behind; `mlfn wait {run.id[:8]}` says how it ends.")
        leave_at_once(exits.INTERRUPTED)
