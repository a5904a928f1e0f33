"""The files of a run that a service executes, which both sides know."""

from __future__ import annotations

from mlfn.code.envelope import derive

WORKER = "worker"
"""Which process executes it: pid, host and start time as JSON."""
ASKED_TO_STOP = "stop"
"""It is there when the run is to be stopped; the process is sent SIGTERM after that."""
EXITS = "exits"
"""In a server's folder: a line of JSON for each of its processes that has ended, with pid, code and signal."""
RUNS_PATH = "/__internal/runs"
TOKEN_HEADER = "x-mlfn-internal"  # noqa: S105 - a name


def internal_token(key: bytes, project: str, name: str) -> str:
    """Return what a service knows mlfn by: whoever has the user's signing key can work it out, and nobody else."""
    return derive(key, f"service {project}/{name}").hex()
