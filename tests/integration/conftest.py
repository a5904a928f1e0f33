from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlfn.dispatch import session as session_module
from tests.ledger import wait_until, worker_processes


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the test a data folder, workers that are soon missed, and an end that leaves no process behind."""
    data = tmp_path / "data"
    monkeypatch.setenv("MLFN_DATA", str(data))
    monkeypatch.setenv("MLFN_HEARTBEAT", "0.2")
    monkeypatch.setenv("MLFN_GRACE", "2")
    yield data
    clients = list(session_module._sessions.values())
    session_module._sessions.clear()
    for client in clients:
        for ticket in client.unfinished():
            controller = client.controller_of(ticket.run)
            if controller is not None:  # else it has just ended
                controller.cancel(ticket.run)
        for ticket in client.unfinished():
            ticket.done.wait(10)
        client.close()
    wait_until(lambda: not worker_processes(data))


@pytest.fixture
def processes(tmp_path: Path) -> Callable[[str], int]:
    """Return the pid that a handler wrote under a name, once it has."""

    def pid(name: str) -> int:
        path = tmp_path / name
        return int(wait_until(lambda: path.exists() and path.read_text().strip()))

    return pid
