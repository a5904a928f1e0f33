"""The root command, and how each way of ending becomes words and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from mlfn._version import __version__
from mlfn.cli import exits
from mlfn.cli.commands import LazyGroup, ReaderGoneError, shared_options
from mlfn.cli.printing import complain
from mlfn.errors import MlfnError
from mlfn.settings import SETTINGS

COMMANDS = {
    "run": ("mlfn.cli.submitting:run", "Submit a run of a function in a file or module, and wait for it."),
    "sweep": ("mlfn.cli.sweeping:sweep", "Submit many runs of a function, and say which is the best."),
    "plan": ("mlfn.cli.submitting:plan", "Show what a run would be made of; create nothing."),
    "runs": ("mlfn.cli.listing:runs", "List runs."),
    "show": ("mlfn.cli.listing:show", "Show one run: parameters, results, attempts, error."),
    "logs": ("mlfn.cli.listing:logs", "Print what a run wrote to stdout and stderr."),
    "wait": ("mlfn.cli.steering:wait", "Wait for runs; carry on those whose client died."),
    "cancel": ("mlfn.cli.steering:cancel", "End runs, and wait until that is confirmed."),
    "rerun": ("mlfn.cli.steering:rerun", "Submit a run's function version again, some parameters changed."),
    "diff": ("mlfn.cli.comparing:diff", "Say what differs between two function versions."),
    "secret": ("mlfn.cli.keeping:secret", "Set, list and remove secrets of this machine."),
    "doctor": ("mlfn.cli.diagnosis:doctor", "Check settings, store, folders and that a worker starts."),
    "gc": ("mlfn.cli.cleaning:gc", "Remove files that no run claims, and old runs on request."),
}

root = LazyGroup(
    "mlfn",
    table=COMMANDS,
    params=[
        *shared_options(shown=SETTINGS),
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            help="Print the version.",
            callback=lambda ctx, _, asked: _print_version(ctx) if asked else None,
        ),
    ],
    help="Submit Python functions as durable, tracked runs, and look after them.",
    epilog="Exit codes: 0 ok, 1 the run failed, 2 usage, 3 not found, 4 cancelled, 5 store or disk, 130 interrupted.",
    no_args_is_help=True,
)


def main() -> None:
    """Run `mlfn` with the arguments of this process, and end it with the exit code."""
    sys.exit(run_command_line(sys.argv[1:]))


def run_command_line(args: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    try:
        return _code(root.main(args=list(args), prog_name="mlfn", standalone_mode=False))
    except click.Abort:  # click's word for ctrl-C and for the end of input at a prompt
        # Noted as the interpreter does it: the client that this process may be cancels what it has submitted.
        sys.last_type = KeyboardInterrupt
        complain("interrupted.")
        return exits.INTERRUPTED
    except click.ClickException as error:
        _explain(error)
        return exits.USAGE
    except MlfnError as error:
        complain(str(error))
        return exits.code_of(error)
    except ReaderGoneError:
        return _reader_gone()
    except Exception:  # noqa: BLE001 - whatever it is, it is ours
        traceback.print_exc()
        complain("that was a bug in mlfn, not in what you typed; please report it with the lines above.")
        return exits.BUG


def _code(answer: Any) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _reader_gone()
    return answer if isinstance(answer, int) else exits.OK


def _explain(error: click.ClickException) -> None:
    if type(error).__name__ == "NoArgsIsHelpError":  # of click 8.2: the message is the whole help
        click.echo(error.format_message(), err=True)
        return
    ctx = getattr(error, "ctx", None)
    if ctx is not None:
        click.echo(ctx.get_usage(), err=True)
    complain(error.format_message())
    if ctx is not None:
        click.echo(f"Try: {ctx.command_path} --help", err=True)


def _reader_gone() -> int:
    # As after `| head`. The interpreter would complain once more when it flushes at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return exits.READER_GONE


def _print_version(ctx: click.Context) -> None:
    click.echo(f"mlfn {__version__}")
    ctx.exit()
