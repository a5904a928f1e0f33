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
        asked = json.load(file)
    wanted = asked["python"]
    here = "%d.%d" % sys.version_info[:2]  # noqa: UP031 - older interpreters get as far as this
    if here != wanted:
        with open(TERMINATION, "w") as file:
            json.dump({"python": here, "wanted": wanted}, file)
        sys.exit(SKEW_EXIT)
    if sys.argv[1:]:
        from mlfn.worker.pod.roles import take

        take(*sys.argv[1:])
    else:
        from importlib import import_module

        import_module(asked["starts"]).run()


if __name__ == "__main__":
    main()
