"""The command line: what a terminal, a script or a cron job asks of the same library."""

from __future__ import annotations

import sys


def main() -> None:
    """Run `mlfn` with the arguments of this process, and end it with the exit code."""
    from mlfn.cli.app import run_command_line

    sys.exit(run_command_line(sys.argv[1:]))
