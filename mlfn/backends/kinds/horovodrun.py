"""Starts ranks as `horovodrun --gloo` does on one machine: ``python -m mlfn.backends.kinds.horovodrun RANKS COMMAND...``.

`horovodrun` itself writes each variable of its environment, with keys and secrets in them, into the command line of each rank,
which any user of the machine may read; listens at every address of the machine; and imports TensorFlow before it starts a rank,
to find out whether Gloo was built. Here ranks inherit the variables, and only this machine reaches the server.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence

_LOOPBACK = "127.0.0.1"
_POLL_SECONDS = 0.02


def main() -> None:
    """Run the command in as many ranks as the command line says; exit with 1 if one of them fails."""
    from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts
    from horovod.runner.common.util.settings import Settings
    from horovod.runner.driver.driver_service import get_local_interfaces
    from horovod.runner.gloo_run import create_run_env_vars, create_slot_env_vars
    from horovod.runner.http.http_server import RendezvousHandler, RendezvousHTTPServer

    ranks, *command = sys.argv[1:]
    slots = get_host_assignments(parse_hosts(f"localhost:{ranks}"), int(ranks))
    server = RendezvousHTTPServer((_LOOPBACK, 0), RendezvousHandler, 0)
    server.init(slots)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    shared = create_run_env_vars(_LOOPBACK, get_local_interfaces(Settings(verbose=0)), str(server.server_port))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(_run(command, [{**os.environ, **shared, **create_slot_env_vars(slot)} for slot in slots]))


def _run(command: Sequence[str], environs: Sequence[Mapping[str, str]]) -> int:
    """Start the command once in each environment; wait for all, or end all where one fails. Return 1 if one failed."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        # With a group of its own, all that a rank starts ends with it.
        started.extend(subprocess.Popen(command, env=environ, start_new_session=True) for environ in environs)
        while None in (codes := [process.poll() for process in started]) and not any(codes):
            time.sleep(_POLL_SECONDS)
        return int(any(codes))
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()


if __name__ == "__main__":
    main()
