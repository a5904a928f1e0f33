"""Wait for a submitted run at a terminal where ctrl-C may be pressed, and print how it ended."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterable
from typing import Any, NoReturn, TextIO

import click

from mlfn.dispatch.session import current_session
from mlfn.handles.run import Run
from mlfn.ui import text
from mlfn.ui.cli import exits
from mlfn.ui.cli.printing import complain, print_children, read_view, say, terminal_width, write_json, write_lines
from mlfn.ui.json_documents import document
from mlfn.ui.views import Source
from mlfn.ui.views.run import ENDING, RunView

_LEAVING_SECONDS = 3.0
_ROWS = 40  # of a sweep's table
_KEYBOARD = "builtins.KeyboardInterrupt"


def wait_and_print(run: Run[Any], *, announced: str, follow: bool, as_json: bool) -> int:
    """Announce a run, wait for it, print how it ended and return the exit code; ctrl-C cancels it."""
    interrupted = False
    try:
        complain(announced)  # within the block: its reader may press ctrl-C at once
        if follow:
            copy_logs(run.logs(follow=True), sys.stderr if as_json else sys.stdout)
        run.wait()  # in a terminal, with a progress line
    except KeyboardInterrupt:
        interrupted = True
        _cancel(run)
    record = run.record
    _print_ending(run, as_json=as_json)
    if interrupted or (record.failure is not None and record.failure.type == _KEYBOARD):
        return exits.INTERRUPTED
    return exits.code_of_run(record)


def copy_logs(chunks: Iterable[str], stream: TextIO) -> None:
    """Write a log as it comes."""
    for chunk in chunks:
        stream.write(chunk)
        stream.flush()


def leave_at_once(code: int) -> NoReturn:
    """End this process without waiting for the runs that it owns: the next client that asks for them adopts them."""
    # In another thread, and not for long: ctrl-C may have come while a lock was held that closing needs.
    closing = threading.Thread(target=_close_quietly, daemon=True)
    closing.start()
    closing.join(_LEAVING_SECONDS)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _print_ending(run: Run[Any], *, as_json: bool) -> None:
    session, record = current_session(), run.record
    view = read_view(Source(session.store, session.folder), record, ENDING)
    if as_json:
        write_json(document(view))
        return
    if isinstance(view, RunView):
        write_lines(text.ending(view, width=terminal_width()))
    else:
        print_children(view, _ROWS)
        say()
        write_lines(text.ending(view.run, width=terminal_width()))
    if failure := text.failure_text(record):
        click.echo(failure, err=True)


def _close_quietly() -> None:
    with contextlib.suppress(Exception):
        current_session().close()


def _cancel(run: Run[Any]) -> None:
    try:
        complain(f"cancelling {run.id[:8]} (ctrl-C again leaves it behind)")
        run.cancel()
    except KeyboardInterrupt:
        complain(f"left {run.id[:8]} behind; `mlfn wait {run.id[:8]}` waits for its end.")
        leave_at_once(exits.INTERRUPTED)
