"""A client of a Dask scheduler; its methods block, so threads call them."""

from __future__ import annotations

import builtins
import tempfile
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlfn._version import __version__
from mlfn.backends.kinds.dask import dashboard_of
from mlfn.backends.places.bundle import package_bundle
from mlfn.backends.places.dask.own import Cluster, OwnCluster, own_cluster
from mlfn.errors import MissingExtraError, PlaceError, SkewError
from mlfn.host.frozen import frozen
from mlfn.host.identity import new_id

CONNECT_SECONDS = 10.0
_MUST_AGREE = ("python", "distributed", "cloudpickle")
Call = Callable[..., Any]


@frozen
class Connection:
    """A connection to a scheduler; `own` is the cluster where mlfn has started it."""

    client: Any
    cluster: Cluster
    address: str
    own: OwnCluster | None = None

    @property
    def dashboard(self) -> str | None:
        """Where the cluster shows what it does, to people; None where that is not known."""
        return dashboard_of(self.client)

    @property
    def is_alive(self) -> bool:
        """Whether the scheduler is there, as far as is known here."""
        return (self.own is None or self.own.is_alive) and self.client.status == "running"

    def submit(self, function: Call, tasks: Sequence[bytes], keys: Sequence[str], **common: Any) -> list[Any]:
        """Submit one task for each of `tasks`, and return their futures."""
        found: list[Any] = self.client.map(function, tasks, key=list(keys), pure=False, **common)
        return found

    def when_done(self, future: Any, call: Call) -> None:
        """Call something with a future's status and error once it is done, in the thread of the client: it must not wait."""
        from distributed.client import done_callback

        async def ended() -> None:
            await done_callback(future, lambda _: None)
            call(future.status, await future._exception() if future.status == "error" else None)

        # The future's own `add_done_callback` takes a pool of threads, which is closed before this process's last tasks are done.
        self.client.loop.add_callback(ended)

    def ask(self, function: Call, *args: Any, workers: Sequence[str] | None = None) -> dict[str, Any]:
        """Call a function in workers, beside their tasks, and return what those answered that could."""
        found: dict[str, Any] = self.client.run(
            function, *args, workers=None if workers is None else list(workers), on_error="ignore"
        )
        return found

    def restart(self, worker: str) -> None:
        """End a worker with all that it does, and have another one in its place."""
        self.client.restart_workers([worker], timeout=CONNECT_SECONDS)

    def close(self) -> None:
        """Leave the scheduler, which gives up what this client has submitted."""
        with suppress(Exception):
            self.client.close(timeout=2)


def connect(cluster: Cluster, topics: Mapping[str, Call], folder: Path) -> Connection:
    """Return a connection to a cluster, which is started if it has no address; `topics` says who gets which events.

    Its workers read and write `folder`, which is this client's.

    Raises:
        MissingExtraError: distributed is not installed here.
        PlaceError: no cluster can be started, no scheduler answers at its address, or its workers do not see the folder.
        SkewError: the other side has a Python or packages with which no task can be exchanged, mlfn among them.

    """
    try:
        import distributed
    except ImportError as error:
        raise MissingExtraError("kind='dask' needs distributed: pip install 'mlfn[dask]'.") from error
    own = None if cluster.address is not None else own_cluster(cluster)
    address = cluster.address or (own.address if own is not None else "")
    try:
        client = distributed.Client(
            address,
            set_as_default=False,
            name="mlfn",
            timeout=CONNECT_SECONDS,
            security=_security(address),
            heartbeat_interval=1000,
        )
    except (OSError, ValueError) as error:
        raise PlaceError(
            f"No Dask scheduler answers at {address} within {CONNECT_SECONDS:g} s ({type(error).__name__}: {error}): check the "
            "address, and that this machine reaches it."
        ) from error
    found = Connection(client, cluster, address, own)
    try:
        _check_versions(client, address)
        if cluster.address is not None:
            _prepare_workers(client, address, folder)
        for topic, handler in topics.items():
            client.subscribe_topic(topic, handler)
    except BaseException:
        found.close()
        raise
    return found


def _security(address: str) -> Any:
    """Return the credentials of the user's own client of this scheduler, if there is one in this process."""
    from distributed import Client

    for client in list(Client._instances):
        scheduler = client.scheduler
        if scheduler is not None and scheduler.address == address:
            return client.security
    return None


def _check_versions(client: Any, address: str) -> None:
    """Refuse a cluster that no task could be exchanged with, before there is one."""
    found = client.get_versions()
    ours = _packages(found["client"])
    others = {
        "its scheduler": found["scheduler"],
        **{f"its worker {name}": of for name, of in found["workers"].items()},
    }
    for who, of in others.items():
        theirs = _packages(of)
        wrong = [name for name in _MUST_AGREE if theirs.get(name) != ours.get(name)]
        if wrong:
            here, there = _listed(ours, wrong), _listed(theirs, wrong)
            raise SkewError(
                f"The Dask cluster at {address} cannot run tasks from here: {who} has {there}, and here is {here}. Have the same "
                "on both sides."
            )


def _prepare_workers(client: Any, address: str, folder: Path) -> None:
    """Have workers import mlfn that do not have it; refuse those that have another one, or other disks."""
    proof = folder / "workers" / f"seen-{new_id()}"
    proof.touch(mode=0o600)
    try:
        found: dict[str, tuple[str | None, bool]] = client.run(_by_value(_look), str(proof))
    finally:
        proof.unlink(missing_ok=True)
    for worker, (version, sees) in found.items():
        if not sees:
            raise PlaceError(
                f"Worker {worker} of the Dask cluster at {address} does not see the data folder {folder}, in which runs find their "
                "code and leave their results: choose one on a disk that all of them share, as MLFN_DATA=/shared/mlfn."
            )
        if version not in (None, __version__):
            raise SkewError(
                f"Worker {worker} of the Dask cluster at {address} has mlfn {version}, and here is mlfn {__version__}: have the same "
                "on both sides, or none there, and it is sent."
            )
    if not found or any(version is None for version, _ in found.values()):
        digest, archive = package_bundle()
        with tempfile.TemporaryDirectory() as parent:
            path = Path(parent, f"mlfn-{digest[:16]}.zip")
            path.write_bytes(archive)
            client.upload_file(str(path))


def _look(proof: str) -> tuple[str | None, bool]:
    """Return which mlfn is there, and whether a file is. It travels as code, as mlfn may be missing."""
    import os

    try:
        from mlfn._version import __version__ as version
    except ImportError:
        return None, os.path.exists(proof)
    return version, os.path.exists(proof)


def _by_value(function: Call) -> Call:
    """Return a function that needs nothing of its module, so that it is pickled as code."""
    code: types.CodeType = function.__code__
    return types.FunctionType(code, {"__builtins__": builtins, "__name__": "__main__"}, code.co_name)


def _packages(of: Mapping[str, Any]) -> dict[str, str]:
    python = of["host"]["python"] if isinstance(of["host"], Mapping) else dict(of["host"])["python"]
    found = {name: str(version) for name, version in of["packages"].items()}
    return {**found, "python": ".".join(str(python).split(".")[:2])}


def _listed(packages: Mapping[str, str], names: Sequence[str]) -> str:
    return ", ".join(f"{name} {packages.get(name, 'none')}" for name in names)
