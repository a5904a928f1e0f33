"""A real PostgreSQL for tests: started on loopback, gone when they are over."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

INSTALLED_IN = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
)
# Nothing here has to survive a power cut.
FAST = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off"
ATTEMPTS = 5
MISSING = """These tests need PostgreSQL's server: no pg_ctl is on PATH, nor in the usual folders.
Install it with `apt-get install postgresql` (Debian, Ubuntu) or `brew install postgresql` (macOS)."""


@contextmanager
def postgres() -> Iterator[str]:
    """Start a server and yield the URL of its maintenance database."""
    binaries = _binaries()
    # Not pytest's temporary folder: that is closed to the user the server runs as.
    with tempfile.TemporaryDirectory(prefix="mlfn-postgres-") as folder:
        root, password = Path(folder), secrets.token_hex(16)
        _initialise(binaries, root, password)
        port = _start(binaries, root)
        try:
            yield f"postgresql://tests:{password}@127.0.0.1:{port}/postgres"
        finally:
            # pg_ctl signals the pid that this server wrote into its own data folder.
            _run([binaries / "pg_ctl", "stop", "-D", root / "data", "-m", "immediate", "-w"])


def _binaries() -> Path:
    on_path = shutil.which("pg_ctl")
    if on_path:
        return Path(on_path).resolve().parent
    found = [path for pattern in INSTALLED_IN for path in sorted(Path("/").glob(f"{pattern[1:]}/pg_ctl"))]
    if not found:
        raise RuntimeError(MISSING)
    return found[-1].parent


def _initialise(binaries: Path, root: Path, password: str) -> None:
    secret = root / "password"
    secret.write_text(password)
    owner = _unprivileged()
    for path in (root, secret):
        if owner:
            shutil.chown(path, owner["user"], owner["group"])
    initdb = [
        binaries / "initdb",
        "-D",
        root / "data",
        "-U",
        "tests",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
    ]
    _run([*initdb, "--auth=scram-sha-256", f"--pwfile={secret}"])


def _start(binaries: Path, root: Path) -> int:
    log = root / "log"
    for _ in range(ATTEMPTS):
        port = _free_port()
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='{root}' {FAST}"
        start = [binaries / "pg_ctl", "start", "-D", root / "data", "-l", log, "-w", "-o", options]
        done = _run(start, check=False)
        if done.returncode == 0:
            return port
        # Somebody else may have taken the port since it was found free.
        if "could not bind" not in log.read_text():
            break
    raise RuntimeError(f"PostgreSQL did not start: {done.stderr}\n{log.read_text()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _unprivileged() -> dict[str, Any]:
    """Name whom to run as: PostgreSQL refuses root, so root hands over to a user without rights."""
    if os.geteuid() != 0:
        return {}
    known = {user.pw_name: user for user in pwd.getpwall()}
    user = known.get("postgres") or known["nobody"]
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _run(command: list[Any], *, check: bool = True) -> subprocess.CompletedProcess[str]:
    # Into a file, not a pipe: the server inherits it and would hold a pipe open for ever.
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(
            [str(part) for part in command],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            check=False,
            **_unprivileged(),
        )
        output.seek(0)
        text = output.read()
    if check and done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} ended with {done.returncode}:\n{text}")
    return subprocess.CompletedProcess(done.args, done.returncode, stdout="", stderr=text)
