"""``python -m mlfn.serving.server FOLDER``: begin as a process of its own, which outlives the one that starts it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mlfn.backends.hosts.server_options import ServerOptions
from mlfn.backends.hosts.status import Status
from mlfn.errors import MlfnError
from mlfn.host.identity import identify
from mlfn.serving.server import journals
from mlfn.serving.server.supervisor import Supervisor, bind


def main(folder: Path) -> int:
    """Serve the function of a folder; return the exit code."""
    options = ServerOptions.read(folder)
    journals.set_up(options.secrets)
    try:
        listener = bind(options)
    except MlfnError as error:
        Status("failed", vars(identify(os.getpid())), None, str(error)).write(folder)
        return 1
    return Supervisor(options, folder, listener).run()


def detach() -> None:
    """Go on as the child of no other process, in a session of its own."""
    os.setsid()
    if os.fork():
        os._exit(0)
    os.setpgid(0, 0)


if __name__ == "__main__":
    if "--foreground" not in sys.argv[2:]:
        detach()
    sys.exit(main(Path(sys.argv[1])))
