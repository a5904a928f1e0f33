"""The embedded server as the first process of a pod: it installs what is missing, then serves until SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from mlfn.backends.hosts.server_options import ServerOptions
from mlfn.backends.hosts.status import Status
from mlfn.errors import MlfnError
from mlfn.serving.server import journals
from mlfn.serving.server.supervisor import Supervisor, bind
from mlfn.worker import context as user_context
from mlfn.worker.pod.folders import FOLDER, TASK, TERMINATION
from mlfn.worker.pod.preparation import prepare

TOKEN = "MLFN_SERVICE_TOKEN"  # noqa: S105 - the name of a variable
_LONGEST = 3500  # characters of an error: a termination message has 4096 bytes


def run() -> None:
    """Serve what this pod's Secret asks for."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # the first process of a container ignores it otherwise
    user_context.in_worker = True
    asked = json.loads(Path(TASK, "assignment.json").read_text())
    token = os.environ.pop(TOKEN)
    server = asked["server"]
    passwords = {name: os.environ.pop(variable) for name, variable in server["passwords"].items()}
    try:
        prepare(asked, lambda said: os.write(2, said))
        options = ServerOptions.of_json({**server, "binding": asked["plan"], "token": token, "passwords": passwords})
        journals.set_up([token, *passwords.values()])
        listener = bind(options)
    except MlfnError as error:
        _say(str(error), type(error).__name__)
        sys.exit(1)
    folder = Path(FOLDER)
    code = Supervisor(options, folder, listener).run()
    status = Status.read(folder)
    if status is not None and status.error:
        _say(status.error, status.kind)
    sys.exit(code)


def _say(error: str, kind: str | None) -> None:
    """Leave word of why this pod ends."""
    with suppress(OSError), open(TERMINATION, "w", encoding="ascii") as file:
        json.dump({"error": error[-_LONGEST:], "kind": kind}, file)
