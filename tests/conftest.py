"""What every test gets: a world of its own. And what a test can ask for: a real PostgreSQL."""

from __future__ import annotations

import os
import secrets
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from hypothesis import settings

from tests.ledger import processes_with
from tests.postgres_server import postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

# The suites there are imported by tests, and their assertions are to say as much as a test's own.
pytest.register_assert_rewrite("mlfn.testing")

# Whoever starts the tests in the background may have SIGINT ignored, and every process started here would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Caches of other programs are no state of ours, and cost minutes to fill again.
CACHES = {"MPLCONFIGDIR": "matplotlib", "PIP_CACHE_DIR": "pip", "UV_CACHE_DIR": "uv"}
REAL_CACHE = Path.home() / ".cache"

settings.register_profile("tests", deadline=None)  # a busy machine is no failure
settings.load_profile("tests")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the tests that kill at random do so as often as docs/reliability.md says, in place of a third of that."""
    parser.addoption(
        "--full", action="store_true", help="kill as often as docs/reliability.md says; takes half an hour"
    )


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the test a home, data, config and working folder of its own, and no setting from outside.

    Workers whose client it has killed would go on when it is over, some for ever: they are known by that home, and end with it.
    """
    for name in list(os.environ):
        # A developer's kubeconfig would let a test reach a real cluster.
        if name.startswith("MLFN_") or name == "KUBECONFIG":
            monkeypatch.delenv(name)
    for name, folder in CACHES.items():
        if name not in os.environ:
            monkeypatch.setenv(name, str(REAL_CACHE / folder))
    root = tmp_path_factory.mktemp("home")
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(root / name.lower()))
    work = root / "work"
    work.mkdir()
    monkeypatch.setenv("HOME", str(root))
    monkeypatch.chdir(work)
    yield root
    for pid in processes_with("HOME", root):
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # each has a session of its own


@pytest.fixture(autouse=True)
def clients(home: Path) -> Iterator[None]:
    """End what the test submitted, its worker processes and its settings with the test."""
    yield
    loaded = sys.modules.get("mlfn.dispatch.session")
    if loaded is not None:
        ending = list(loaded._sessions.values())
        loaded._sessions.clear()  # first: a store that a test has broken must not reach the next one
        for client in ending:
            for inflight in client.unfinished():
                client.cancel(client.store.get_run(inflight.run))
                inflight.done.wait(10)
            client.close()
    if "mlfn.settings.current" in sys.modules:
        sys.modules["mlfn.settings.current"].reset()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Start a PostgreSQL server for this test process; fail, not skip, where there is none to start."""
    with postgres() as url:
        yield url


@pytest.fixture
def postgres_store_url(postgres_url: str) -> Iterator[str]:
    """Create an empty database for one test."""
    # Here, so that tests without a database run where the driver is not installed.
    import psycopg
    from psycopg import sql

    name = f"test_{secrets.token_hex(6)}"
    identifier = sql.Identifier(name)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(identifier))
        yield urlsplit(postgres_url)._replace(path=f"/{name}").geturl()
        # A connection that the test left open would refuse a plain DROP.
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier))
