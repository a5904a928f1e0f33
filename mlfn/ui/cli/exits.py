"""Exit codes, by error and by the state of a run, and the message of a command that failed."""

from __future__ import annotations

import os
import sys
import traceback

import click

from mlfn import errors
from mlfn.errors import MlfnError
from mlfn.spec.record import RunRecord, RunState
from mlfn.ui.cli.commands import ReaderGoneError
from mlfn.ui.cli.printing import complain

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
    (errors.NotFoundError, NOT_FOUND),
    (errors.SecretNotFoundError, NOT_FOUND),
    (errors.StoreError, STORAGE),
    (errors.RunCancelledError, CANCELLED),
    (errors.RunError, RUN_FAILED),
    (errors.ServiceError, RUN_FAILED),
    (errors.ResultTimeoutError, STILL_RUNNING),
)
_BY_STATE = {RunState.SUCCEEDED: OK, RunState.CANCELLED: CANCELLED, RunState.PRUNED: OK, RunState.FAILED: RUN_FAILED}


def code_of_run(record: RunRecord) -> int:
    """Return the exit code for a run's end."""
    return _BY_STATE.get(record.state, STILL_RUNNING)


def explain(error: Exception) -> int:
    """Print why a command failed, and return its exit code."""
    if isinstance(error, click.Abort):  # raised by click on ctrl-C and at the end of input at a prompt
        # Set as the interpreter sets it: at its exit this process cancels the runs that it submitted.
        sys.last_type = KeyboardInterrupt
        complain("interrupted.")
        return INTERRUPTED
    if isinstance(error, click.ClickException):
        _explain_usage(error)
        return USAGE
    if isinstance(error, MlfnError):
        complain(str(error))
        # Declarations, parameters and settings are usage.
        return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), USAGE)
    if isinstance(error, (ReaderGoneError, BrokenPipeError)):
        # As after `| head`. The interpreter would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    traceback.print_exception(error)
    complain("that was a bug in mlfn, not in what you typed; please report it with the lines above.")
    return BUG


def _explain_usage(error: click.ClickException) -> None:
    if type(error).__name__ == "NoArgsIsHelpError":  # of click 8.2: the message is the whole help
        click.echo(error.format_message(), err=True)
        return
    ctx = getattr(error, "ctx", None)
    if ctx is not None:
        click.echo(ctx.get_usage(), err=True)
    complain(error.format_message())
    if ctx is not None:
        click.echo(f"Try: {ctx.command_path} --help", err=True)
