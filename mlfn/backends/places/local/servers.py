"""The fork servers of one local place: one for each interpreter and environment, some kept to return to."""

from __future__ import annotations

import selectors
import time
from collections.abc import Iterable

from mlfn.backends.places.local.fork_server import ForkServer, no_forks
from mlfn.backends.places.local.process import fork_server

IDLE_SECONDS = 60.0
_SPARE = 3  # of earlier environments: a caller may return to one, or have another for each run


class ForkServers:
    """Starts them, registers them for what they report, and ends those that are not used."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._servers: list[ForkServer] = []

    def __len__(self) -> int:
        return len(self._servers)

    def get(self, python: str, environ: int, *, busy: Iterable[ForkServer] = ()) -> ForkServer:
        """Return the server of this interpreter and environment, started where there is none."""
        for server in [s for s in self._servers if s.fits(python, environ)]:
            if not (server.is_ready and server.is_gone):
                return server
            self.drop(server)  # it was killed; one that was never ready reports why to the run that waits for it
        for server in [s for s in self._unused(busy) if s.environ != environ][:-_SPARE]:
            self.drop(server)
        with no_forks:
            server = fork_server(python)
            self._servers.append(server)
        self._selector.register(server.channel, selectors.EVENT_READ, server)
        return server

    def check(self, *, busy: Iterable[ForkServer]) -> None:
        """Kill those that take too long to load, and end those that have had no worker for a while."""
        for server in self._servers:
            server.kill_if_late()
        for server in self._unused(busy):
            if time.monotonic() - server.used > IDLE_SECONDS:
                self.drop(server)

    def drop(self, server: ForkServer) -> None:
        """End one; its workers stay."""
        self.unregister(server)
        self._servers.remove(server)
        server.close()

    def unregister(self, server: ForkServer) -> None:
        """Read no more of what it reports."""
        if server.channel in self._selector.get_map():
            self._selector.unregister(server.channel)

    def close(self) -> None:
        """End all."""
        for server in self._servers:
            server.close()
        self._servers.clear()

    def after_fork(self) -> None:
        """Close what leads to them."""
        for server in self._servers:
            server.after_fork()

    def _unused(self, busy: Iterable[ForkServer]) -> list[ForkServer]:
        in_use = set(busy)
        return sorted((s for s in self._servers if s not in in_use), key=lambda s: s.used)
