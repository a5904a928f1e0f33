"""What the kind dask becomes on Kubernetes, of which the Dask operator makes pods: a DaskJob, or a DaskCluster that is kept. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlfn.backends.kinds.base import Companion, Manifest, Pod

ADDRESS = "DASK_SCHEDULER_ADDRESS"
"""The variable by which the operator tells pods where the scheduler is."""
_API = "kubernetes.dask.org/v1"
_INSTALL = "helm install dask-operator dask-kubernetes-operator --repo https://helm.dask.org -n dask-operator --create-namespace"
_PORTS = {"tcp-comm": 8786, "http-dashboard": 8787}
_REQUIREMENTS = ("distributed",)
_SCHEDULER = ("-m", "dask", "scheduler", "--port", "8786", "--dashboard-address", ":8787")
_WORKER = ("-m", "dask", "worker", "--memory-limit", "auto")
_NAME = ("--name", "$(DASK_WORKER_NAME)")  # by which the operator has it retired


def dask_job(cluster: Mapping[str, Any]) -> Manifest:
    """Return the run's pod, and a cluster with these options of `mlfn.Dask` that ends with it."""
    pods = _pods(cluster, "{execution}", ("command", "{python}"))
    spec = {"job": Pod("runner"), "cluster": {"spec": pods}}
    scaled = () if cluster["adaptive"] is None else (_autoscaler("{execution}", cluster["adaptive"]),)
    return Manifest(_API, "DaskJob", "daskjobs", spec, requirements=_REQUIREMENTS, companions=scaled, install=_INSTALL)


def pod_alone(*companions: Companion) -> Manifest:
    """Return the run's pod alone, which connects to a scheduler that is there."""
    spec: Mapping[str, Any] = {"backoffLimit": 0, "podReplacementPolicy": "Failed", "template": Pod("main")}
    return Manifest(
        "batch/v1", "Job", "jobs", spec, requirements=_REQUIREMENTS, companions=companions, install=_INSTALL
    )


def kept_cluster(name: str, cluster: Mapping[str, Any], pods: Mapping[str, Any]) -> Manifest:
    """Return the run's pod, and a cluster of this name that stays for other runs; `pods` says what its pods are made of."""
    asked = {option: value for option, value in {**cluster, **pods}.items() if value not in (None, {}, [])}
    timeout = {} if cluster["idle_timeout"] is None else {"idleTimeout": cluster["idle_timeout"]}
    spec = {**timeout, **_pods(cluster, name, ("python",), plain=True)}
    kept = [Companion(_API, "DaskCluster", "daskclusters", name, spec, asked)]
    if cluster["adaptive"] is not None:
        kept.append(_autoscaler(name, cluster["adaptive"], asked))
    return pod_alone(*kept)


def address_of(name: str) -> str:
    """Return where pods of its namespace reach the scheduler of a kept cluster."""
    return f"tcp://{name}-scheduler:{_PORTS['tcp-comm']}"


def _pods(cluster: Mapping[str, Any], name: str, begun: tuple[str, ...], *, plain: bool = False) -> dict[str, Any]:
    """Return scheduler and workers of a cluster; their commands go on from `begun`, which starts a Python."""
    service = {
        "type": "ClusterIP",
        "selector": {"dask.org/cluster-name": name, "dask.org/component": "scheduler"},
        "ports": [{"name": port, "protocol": "TCP", "port": at, "targetPort": port} for port, at in _PORTS.items()],
    }
    mem = cluster["mem"]
    limits = {} if mem is None else {"requests": {"memory": mem}, "limits": {"memory": mem}}
    least, _ = cluster["adaptive"] or (cluster["workers"], None)
    options = ("--nthreads", str(cluster["threads"]), "--nanny" if cluster["nanny"] else "--no-nanny", *_NAME)
    scheduler = Pod(
        "scheduler",
        (*begun, *_SCHEDULER),
        ports=_PORTS,
        restarts=True,
        resources={},
        beside={"service": service},
        plain=plain,
    )
    # One at least, which a run waits for.
    replicas = {"replicas": max(1, least)}
    worker = Pod("worker", (*begun, *_WORKER, *options), restarts=True, resources=limits, beside=replicas, plain=plain)
    return {"scheduler": scheduler, "worker": worker}


def _autoscaler(name: str, bounds: tuple[int, int], asked: Mapping[str, Any] | None = None) -> Companion:
    least, most = bounds
    spec = {"cluster": name, "minimum": least, "maximum": most}
    return Companion(_API, "DaskAutoscaler", "daskautoscalers", name, spec, asked)
