"""The process of one unit: ``python -m tests.chaos.unit FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from mlfn.worker import context as user_context
from mlfn.worker.assignment import ENDS_WELL, Assignment, run_rank
from mlfn.worker.log_capture import prepare_logging


def main() -> None:
    """Run the assignment of the folder that the command line names."""
    user_context.in_worker = True
    prepare_logging()
    folder = Path(sys.argv[1])
    sys.exit(run_rank(Assignment.read(folder), folder) not in ENDS_WELL)


if __name__ == "__main__":
    main()
