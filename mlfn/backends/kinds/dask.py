"""A function call as a task of a Dask cluster."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from mlfn.backends.kinds.base import ClusterTask, Launch
from mlfn.backends.kinds.daskjob import ADDRESS, address_of, dask_job, kept_cluster, pod_alone
from mlfn.backends.kinds.pods import image_of
from mlfn.backends.places.base import Capabilities
from mlfn.errors import OptionError, PlaceError, RunLostError
from mlfn.spec.plan import Plan
from mlfn.spec.values import option_values, parse_bytes, parse_seconds
from mlfn.worker.task import Extras, Task

_WORKERS_IN_PODS = 2
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,51}[a-z0-9])?")  # of a Service, with the operator's "-scheduler" after it
_REACHED_SECONDS = 300.0  # the scheduler's image may have to be pulled
_CONNECT_SECONDS = 30.0
_AGAIN_SECONDS = 0.2
_WORKER_SECONDS = 600.0
_SCHEMES = ("tcp://", "tls://", "ucx://", "ws://", "wss://")


@option_values
@dataclass(frozen=True)
class Dask:
    """Run the handler as a task of a Dask cluster; ``ctx.dask_client`` is there to fan out from it.

    Without `address` a cluster is started on this machine, one for each set of these options, and closed when the process
    ends or by `mlfn.shutdown`. `workers` is its number of processes (as many as cores by default), `threads` how many tasks
    each has at a time, `mem` the memory of each, as ``"2Gi"``; `adaptive` as ``(1, 8)`` has it grow and shrink between the two
    instead. With `nanny=False` no process watches over a worker: the workers are threads of one process, and `mem` is not held.

    `address` is the scheduler of a cluster that is there, as ``"tcp://10.0.0.1:8786"``, or a `distributed.Client` that is
    connected to it.

    On Kubernetes each run has a cluster of the Dask operator's, of `workers` pods (2 by default), which ends with it. The handler
    is called in a pod of its own beside them, which has the function's `cpu` and `mem` and outlives the client. With `reuse` the
    cluster is kept by that name for all runs of the namespace that ask for its like, until nothing was to be done there for
    `idle_timeout`, as 600 (seconds) or ``"10m"``; without that, for good. On this machine clusters are kept in any case.

    Raises:
        OptionError: a value that does not fit, or an option of a new cluster together with `address`.

    """

    ENGINES: ClassVar[Mapping[str, str]] = {"local": "dask", "kubernetes": "kubernetes_operators"}

    workers: int | None = None
    threads: int = 1
    mem: str | None = None
    adaptive: tuple[int, int] | None = None
    nanny: bool = True
    address: Any = None
    reuse: str | None = None
    idle_timeout: float | str | None = None

    def __post_init__(self) -> None:
        _check_count("workers", self.workers)
        _check_count("threads", self.threads)
        if self.threads is None:
            raise OptionError("Dask(threads=None): a whole number, 1 or more, is allowed.")
        if self.mem is not None:
            parse_bytes(self.mem, option="Dask(mem=...)")
        if not isinstance(self.nanny, bool):
            raise OptionError(f"Dask(nanny={self.nanny!r}): True or False is allowed.")
        if self.adaptive is not None:
            object.__setattr__(self, "adaptive", _range(self.adaptive))
            if self.workers is not None:
                raise OptionError(
                    f"Dask(workers={self.workers}, adaptive={self.adaptive}): give one of them: a number, or the fewest and the most."
                )
        self._check_kept()
        if self.address is not None:
            object.__setattr__(self, "address", _address(self.address))
            self._refuse_own()

    def _check_kept(self) -> None:
        if self.reuse is not None and not (isinstance(self.reuse, str) and _NAME.fullmatch(self.reuse)):
            raise OptionError(
                f"Dask(reuse={self.reuse!r}): a name is allowed of small letters, digits and '-', which begins with a letter, 53 at most."
            )
        if self.idle_timeout is None:
            return
        if self.reuse is None:
            raise OptionError(
                f"Dask(idle_timeout={self.idle_timeout!r}): a cluster that is not kept ends with its run: give it a name, as reuse='team'."
            )
        seconds = math.ceil(parse_seconds(self.idle_timeout, option="Dask(idle_timeout=...)"))
        object.__setattr__(self, "idle_timeout", seconds)

    def _refuse_own(self) -> None:
        """Refuse what a cluster that is there has decided."""
        plain = {"workers": None, "threads": 1, "mem": None, "adaptive": None, "nanny": True, "reuse": None}
        given = [f"{name}={getattr(self, name)!r}" for name, value in plain.items() if getattr(self, name) != value]
        if given:
            raise OptionError(
                f"Dask(address={self.address!r}, {', '.join(given)}): the cluster there has its workers; leave {given[0]} out."
            )

    def launch(self, plan: Plan, capabilities: Capabilities) -> Launch:
        """Return a task of the cluster; on Kubernetes a pod beside a cluster of its own, or one that connects to the cluster there."""
        if capabilities.manifests:
            return self._launch_pods(plan)
        return ClusterTask({name: value for name, value in asdict(self).items() if value is not None})

    def _launch_pods(self, plan: Plan) -> Launch:
        if self.address is not None:
            return pod_alone()
        cluster = {
            "workers": None if self.adaptive is not None else self.workers or _WORKERS_IN_PODS,
            "threads": self.threads,
            "mem": None if self.mem is None else str(parse_bytes(self.mem, option="Dask(mem=...)")),
            "nanny": self.nanny,
            "adaptive": self.adaptive,
            "idle_timeout": self.idle_timeout,
        }
        if self.reuse is None:
            return dask_job(cluster)
        if plan.requirements:
            raise OptionError(
                f"{plan.name} asks for requirements={list(plan.requirements)!r} and Dask(reuse={self.reuse!r}): the pods of a cluster "
                "that is kept have what their image has: put them into image=, or leave reuse= out."
            )
        pods = {
            "image": image_of(plan),
            "env": dict(plan.env),
            "secrets": [secret.name for secret in plan.secrets],
            "node": plan.node,
            "pod": plan.place.options.get("pod"),
        }
        return kept_cluster(self.reuse, cluster, pods)

    def activate(self, task: Task) -> AbstractContextManager[Extras]:
        """Connect this process, of a pod, to its cluster, and wait for a worker."""
        return self._connected(task)

    @contextmanager
    def _connected(self, task: Task) -> Iterator[Extras]:
        from distributed import Client

        from mlfn.artifacts.formats.dask_collections import is_disk_shared

        address = self.address or (address_of(self.reuse) if self.reuse is not None else os.environ[ADDRESS])
        try:
            _wait_for(address)
            client: Any = Client(address, timeout=_CONNECT_SECONDS)
        except OSError as error:
            raise PlaceError(f"No scheduler answers at {address}: {error}.") from error
        with client:
            try:
                client.wait_for_workers(1, timeout=_WORKER_SECONDS)
            except TimeoutError:
                raise PlaceError(
                    f"The cluster at {address} has had no worker for {_WORKER_SECONDS:g} s: is there room for Dask(workers=..., "
                    "mem=...)? `kubectl get pods -l dask.org/component=worker` says what its pods wait for."
                ) from None
            is_disk_shared.set(False)
            scheduler = _scheduler_of(client)
            try:
                yield Extras(offered={"dask_client": lambda: client}, page=dashboard_of(client))
            except Exception as error:
                if _scheduler_of(client) == scheduler:
                    raise
                raise RunLostError(
                    f"{task.run[:8]}: the scheduler of its Dask cluster is gone, and all its tasks with it ({address})."
                ) from error


def _scheduler_of(client: Any) -> str | None:
    """Return the id of a client's scheduler; None while there is none."""
    if client.status != "running":
        return None
    try:
        found: str = client.scheduler_info()["id"]
    except Exception:  # noqa: BLE001 - whatever its connection raises that breaks just now
        return None
    return found


def dashboard_of(client: Any) -> str | None:
    """Return where a client's cluster shows what it does, to people; None where it does not, or bokeh is missing to draw it."""
    if importlib.util.find_spec("bokeh") is None:
        return None
    try:
        found: str | None = client.dashboard_link
    except KeyError:  # its scheduler has no page
        return None
    return found


def _wait_for(address: str) -> None:
    """Wait until a scheduler listens; raise OSError where none does in time.

    `distributed` gives a try that hangs, as those to a Service without pods do, a fifth of all its time.
    """
    found = urlsplit(address)
    until = time.monotonic() + _REACHED_SECONDS
    while True:
        try:
            socket.create_connection((found.hostname or "", found.port or 8786), timeout=2).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(_AGAIN_SECONDS)
        else:
            return


def _check_count(name: str, value: Any) -> None:
    if value is not None and (type(value) is not int or value < 1):
        raise OptionError(f"Dask({name}={value!r}): a whole number, 1 or more, is allowed.")


def _range(value: Any) -> tuple[int, int]:
    found = tuple(value) if isinstance(value, (list, tuple)) else ()
    if len(found) != 2 or any(type(item) is not int for item in found) or not 0 <= found[0] <= found[1] or not found[1]:
        raise OptionError(
            f"Dask(adaptive={value!r}): the fewest and the most workers are allowed, as in Dask(adaptive=(1, 8))."
        )
    return found


def _address(value: Any) -> str:
    found = value if isinstance(value, str) else getattr(getattr(value, "scheduler", None), "address", None)
    if not isinstance(found, str) or not found.startswith(_SCHEMES):
        shown = repr(value if isinstance(value, str) else type(value).__name__)
        raise OptionError(
            f"Dask(address={shown}): the address of a scheduler that other processes reach, as 'tcp://10.0.0.1:8786', or a "
            "distributed.Client that is connected to one is allowed."
        )
    return found
