"""The root command."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from mlfn._version import __version__
from mlfn.settings.declarations import SETTINGS
from mlfn.ui.cli.commands import LazyGroup, shared_options

COMMANDS = {
    "run": ("mlfn.ui.cli.submitting:run", "Submit a run of a function in a file or module, and wait for it."),
    "sweep": ("mlfn.ui.cli.sweeping:sweep", "Submit many runs of a function, and name the best."),
    "plan": ("mlfn.ui.cli.submitting:plan", "Show what a run would be made of; create nothing."),
    "runs": ("mlfn.ui.cli.reading:runs", "List runs."),
    "show": ("mlfn.ui.cli.reading:show", "Show one run: parameters, results, attempts, error."),
    "logs": ("mlfn.ui.cli.reading:logs", "Print what a run wrote to stdout and stderr."),
    "wait": ("mlfn.ui.cli.steering:wait", "Wait for runs; resume those whose client died."),
    "cancel": ("mlfn.ui.cli.steering:cancel", "End runs, and wait until that is confirmed."),
    "rerun": ("mlfn.ui.cli.steering:rerun", "Submit a run's function version again, some parameters changed."),
    "deploy": ("mlfn.ui.cli.serving:deploy", "Deploy a function as a service, and wait until it is ready."),
    "services": ("mlfn.ui.cli.serving:services", "List services, or show one and its log."),
    "invoke": ("mlfn.ui.cli.serving:invoke", "Call a service, and print its answer."),
    "undeploy": ("mlfn.ui.cli.serving:undeploy", "End services, and remove them."),
    "diff": ("mlfn.ui.cli.comparing:diff", "Show the differences between two function versions."),
    "secret": ("mlfn.ui.cli.keeping:secret", "Set, list and remove secrets of this machine."),
    "rbac": ("mlfn.ui.cli.permitting:rbac", "Print the rights that runs in a Kubernetes namespace take."),
    "doctor": (
        "mlfn.ui.cli.diagnosis:doctor",
        "Check settings, store, folders and that a worker starts; say what takes room.",
    ),
    "rm": ("mlfn.ui.cli.cleaning:rm", "Remove runs and sweeps with all their files."),
    "gc": ("mlfn.ui.cli.cleaning:gc", "Remove files that no run claims, and runs by age, size or name on request."),
}

root = LazyGroup(
    "mlfn",
    table=COMMANDS,
    params=list(shared_options(shown=SETTINGS)),
    help="Submit Python functions as durable, tracked runs, and manage them.",
    epilog="Exit codes: 0 ok, 1 the run failed, 2 usage, 3 not found, 4 cancelled, 5 store or disk, 130 interrupted.",
    no_args_is_help=True,
)
root = click.version_option(__version__, message="mlfn %(version)s", help="Print the version.")(root)


def main() -> None:
    """Run `mlfn` with the arguments of this process, and end it with the exit code."""
    sys.exit(run_command_line(sys.argv[1:]))


def run_command_line(args: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    try:
        answer = root.main(args=list(args), prog_name="mlfn", standalone_mode=False)
        sys.stdout.flush()
    except Exception as error:  # noqa: BLE001 - each kind has its message and code
        from mlfn.ui.cli.exits import explain  # a command that succeeds does without

        return explain(error)
    return answer if isinstance(answer, int) else 0
