"""The DaskJob of a run: a cluster of its own, and a pod beside it that calls the handler; the Dask operator makes pods of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlfn.backends.kinds.base import Manifest, Pod

ADDRESS = "DASK_SCHEDULER_ADDRESS"
"""The variable by which the operator tells pods where the scheduler is."""
_PORTS = {"tcp-comm": 8786, "http-dashboard": 8787}
_REQUIREMENTS = ("distributed",)


def dask_job(*, workers: int, threads: int, mem: str | None, nanny: bool) -> Manifest:
    """Return the run's pod, a scheduler, and `workers` pods with a worker each."""
    service = {
        "type": "ClusterIP",
        "selector": {"dask.org/cluster-name": "{execution}", "dask.org/component": "scheduler"},
        "ports": [{"name": name, "protocol": "TCP", "port": port, "targetPort": name} for name, port in _PORTS.items()],
    }
    limits = {} if mem is None else {"requests": {"memory": mem}, "limits": {"memory": mem}}
    begun = ("command", "{python}", "-m", "dask")
    options = ("--nthreads", str(threads), "--nanny" if nanny else "--no-nanny", "--memory-limit", "auto")
    scheduler = Pod(
        "scheduler",
        (*begun, "scheduler", "--port", "8786", "--dashboard-address", ":8787"),
        ports=_PORTS,
        restarts=True,
        resources={},
        beside={"service": service},
    )
    worker = Pod("worker", (*begun, "worker", *options), restarts=True, resources=limits, beside={"replicas": workers})
    spec = {"job": Pod("runner"), "cluster": {"spec": {"scheduler": scheduler, "worker": worker}}}
    return Manifest("kubernetes.dask.org/v1", "DaskJob", "daskjobs", spec, requirements=_REQUIREMENTS)


def pod_alone() -> Manifest:
    """Return the run's pod alone, which connects to a scheduler that is there."""
    spec: Mapping[str, Any] = {"backoffLimit": 0, "podReplacementPolicy": "Failed", "template": Pod("main")}
    return Manifest("batch/v1", "Job", "jobs", spec, requirements=_REQUIREMENTS)
