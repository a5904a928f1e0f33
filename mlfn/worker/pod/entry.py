"""What a pod runs before anything else of mlfn: on any Python, it says which one this is; the right one goes on."""

import json
import os
import sys

TASK = "/mlfn/task"
TERMINATION = "/dev/termination-log"
SKEW_EXIT = 65  # EX_DATAERR


def main() -> None:
    """Compare the interpreter with the one that packed the code."""
    with open(os.path.join(TASK, "assignment.json")) as file:
        wanted = json.load(file)["python"]
    here = "%d.%d" % sys.version_info[:2]  # noqa: UP031 - older interpreters get as far as this
    if here != wanted:
        with open(TERMINATION, "w") as file:
            json.dump({"python": here, "wanted": wanted}, file)
        sys.exit(SKEW_EXIT)
    from mlfn.worker.pod.unit import run

    run()


if __name__ == "__main__":
    main()
