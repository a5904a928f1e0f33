"""What is created for an execution, as plain manifests: a Job or an operator's object, its Secret, the ConfigMap with mlfn. Pure."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from typing import Any

from mlfn._version import __version__
from mlfn.backends.kinds.base import Companion, Manifest, Pod
from mlfn.backends.kinds.pods import image_of, label_value, resources, secret_variable
from mlfn.backends.places.kubernetes import spot
from mlfn.backends.places.kubernetes.merging import merged
from mlfn.backends.registry import launch_of
from mlfn.host.frozen import frozen
from mlfn.spec.plan import Plan
from mlfn.worker.pod.folders import FOLDER, TASK, WORKER
from mlfn.worker.task import Task

GROUP = "mlfn.io"
EXECUTION = f"{GROUP}/execution"
HOME = f"{GROUP}/home"
"""The label that says whose data folder an execution belongs to."""
BUNDLE = f"{GROUP}/worker"
"""The label of the ConfigMaps with mlfn."""
ROLE = f"{GROUP}/role"
"""The label of pods beside the main one of an execution, as workers of an MPIJob; the main one has none."""
ASKED = f"{GROUP}/asked"
"""The annotation of an object that is kept for many runs: what it was made for."""
_OURS = {"app.kubernetes.io/managed-by": "mlfn"}
_OF_A_RUN = ("worker", "task")  # volumes
CONTAINER = "main"
USER = 65532
_MOUNT, _, _ARCHIVE = WORKER.rpartition("/")
_MOST_LABEL = 63
_EXIT_SECONDS = 5  # after the grace time of the function, in which the first process writes the summary


@frozen
class Wanted:
    """An execution to be created: its name, what it runs, and how its place is set up; `mark` begins mlfn's lines in its log."""

    name: str
    namespace: str
    plan: Plan
    mark: str
    grace: float
    units: int = 1
    parallel: int | None = None
    failures: int | None = None
    home: str = ""


@frozen
class Resource:
    """What an execution is to the API server."""

    api_version: str = "batch/v1"
    kind: str = "Job"
    plural: str = "jobs"

    def path(self, namespace: str) -> str:
        """Return the path of all of them in a namespace."""
        return f"/apis/{self.api_version}/namespaces/{namespace}/{self.plural}"


JOB = Resource()
RESOURCES = (
    JOB,
    Resource("kubeflow.org/v2beta1", "MPIJob", "mpijobs"),
    Resource("kubernetes.dask.org/v1", "DaskJob", "daskjobs"),
    Resource("sparkoperator.k8s.io/v1beta2", "SparkApplication", "sparkapplications"),
)
"""All that executions may be."""


def resource_of(plan: Plan) -> Resource:
    """Return what an execution of a plan is: its kind may want an operator's object."""
    launch = launch_of(plan)
    if isinstance(launch, Manifest):
        return Resource(launch.api_version, launch.kind, launch.plural)
    return JOB


def companions_of(plan: Plan) -> tuple[Companion, ...]:
    """Return what a plan's kind wants beside the execution's object."""
    launch = launch_of(plan)
    return launch.companions if isinstance(launch, Manifest) else ()


def install_of(plan: Plan) -> str | None:
    """Return what installs the operator that a plan's kind needs; None where that is not known."""
    launch = launch_of(plan)
    return launch.install if isinstance(launch, Manifest) else None


def execution(wanted: Wanted, bundle: str) -> dict[str, Any]:
    """Return the Job, or what the kind wants in its place; `bundle` is the name of the ConfigMap with mlfn."""
    launch, resource = launch_of(wanted.plan), resource_of(wanted.plan)
    spec = _filled(launch.spec, wanted, bundle) if isinstance(launch, Manifest) else _job(wanted, bundle)
    annotations = {f"{GROUP}/function": wanted.plan.name, f"{GROUP}/version": __version__}
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {
            "name": wanted.name,
            "namespace": wanted.namespace,
            "labels": _labels(wanted),
            "annotations": annotations,
        },
        "spec": spec,
    }


def companion(wanted: Wanted, bundle: str, item: Companion, *, owner: str = "") -> dict[str, Any]:
    """Return one more object that a kind wants: with `owner`, the id of the execution's object, it goes with that."""
    metadata: dict[str, Any] = {"name": _filled(item.name, wanted, bundle), "namespace": wanted.namespace}
    if item.asked is None:
        metadata["labels"] = _labels(wanted)
        if owner:
            metadata["ownerReferences"] = [_reference(wanted, owner)]
    else:
        metadata["labels"] = dict(_OURS)
        metadata["annotations"] = {ASKED: json.dumps(item.asked, sort_keys=True)}
    spec = _filled(item.spec, wanted, bundle)
    return {"apiVersion": item.api_version, "kind": item.kind, "metadata": metadata, "spec": spec}


def _filled(value: Any, wanted: Wanted, bundle: str) -> Any:
    """Return a manifest with the templates of pods where the kind wants them, and its own name."""
    if isinstance(value, Pod):
        template = _plain_template(wanted, value) if value.plain else _template(wanted, bundle, value)
        return {**template, **_filled(value.beside, wanted, bundle)}
    if isinstance(value, Mapping):
        return {name: _filled(item, wanted, bundle) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_filled(item, wanted, bundle) for item in value]
    return value.replace("{execution}", wanted.name) if isinstance(value, str) else value


def _template(wanted: Wanted, bundle: str, pod: Pod) -> dict[str, Any]:
    labels = _labels(wanted)
    spec = pod_spec(wanted, bundle)
    container = _main_of(spec)
    if pod.argv:
        labels[ROLE] = pod.role
        container["command"] = [*container["command"], *pod.argv]
    _fit(container, pod)
    if pod.account is not None:
        spec = {"serviceAccountName": pod.account, **spec, "automountServiceAccountToken": True}
    if pod.restarts:
        spec["restartPolicy"] = "Always"
    return {"metadata": {"labels": labels}, "spec": spec}


def _plain_template(wanted: Wanted, pod: Pod) -> dict[str, Any]:
    """Return the template of a pod that is no part of a run, with the function's environment."""
    spec = pod_spec(wanted, "")
    container = _main_of(spec)
    container["command"] = list(pod.argv)
    container["env"] = [*container["env"], *({"name": name, "value": text} for name, text in wanted.plan.env.items())]
    for items in (container["volumeMounts"], spec["volumes"]):
        items[:] = [item for item in items if item["name"] not in _OF_A_RUN]
    _fit(container, pod)
    spec["restartPolicy"] = "Always" if pod.restarts else "Never"
    return {"metadata": {"labels": dict(_OURS)}, "spec": spec}


def _main_of(spec: Mapping[str, Any]) -> dict[str, Any]:
    [container] = [item for item in spec["containers"] if item["name"] == CONTAINER]
    found: dict[str, Any] = container
    return found


def _fit(container: dict[str, Any], pod: Pod) -> None:
    """Give a container the ports and the resources that its kind wants."""
    if pod.ports:
        container["ports"] = [{"name": name, "containerPort": port} for name, port in pod.ports.items()]
        container["readinessProbe"] = {"tcpSocket": {"port": next(iter(pod.ports))}, "periodSeconds": 1}
    if pod.resources is not None:
        container["resources"] = dict(pod.resources)


def _job(wanted: Wanted, bundle: str) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "template": _template(wanted, bundle, Pod("main")),
    }
    if wanted.units > 1:
        spec |= {
            "completionMode": "Indexed",
            "completions": wanted.units,
            "parallelism": min(wanted.units, wanted.parallel or wanted.units),
            "backoffLimitPerIndex": 0,
        }
        del spec["backoffLimit"]
        if wanted.failures is not None:
            spec["maxFailedIndexes"] = wanted.failures - 1  # at one more the whole fails
    return spec


def secret(
    wanted: Wanted, assignment: Mapping[str, Any], units: bytes, files: Mapping[str, bytes], *, owner: str
) -> dict[str, Any]:
    """Return the Secret with the tasks, as `packed` makes them; `owner` is the id of the execution's object, with which it goes."""
    content = {"assignment.json": json.dumps(assignment).encode(), "units": units, **files}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": wanted.name,
            "namespace": wanted.namespace,
            "labels": _labels(wanted),
            "ownerReferences": [_reference(wanted, owner)],
        },
        "immutable": True,
        "data": {name: base64.b64encode(data).decode() for name, data in content.items()},
    }


def packed(tasks: Sequence[Task]) -> bytes:
    """Return the tasks of all units as they travel."""
    return gzip.compress(json.dumps([task.to_json() for task in tasks]).encode(), mtime=0)


def _reference(wanted: Wanted, owner: str) -> dict[str, str]:
    resource = resource_of(wanted.plan)
    return {"apiVersion": resource.api_version, "kind": resource.kind, "name": wanted.name, "uid": owner}


def config_map(namespace: str, name: str, archive: bytes) -> dict[str, Any]:
    """Return the ConfigMap with mlfn, which all executions of a version have in common."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": {BUNDLE: __version__}},
        "immutable": True,
        "binaryData": {_ARCHIVE: base64.b64encode(archive).decode()},
    }


def bundle_name(digest: str) -> str:
    """Return the name of the ConfigMap with this archive."""
    return f"mlfn-worker-{__version__}-{digest[:10]}"


def _labels(wanted: Wanted) -> dict[str, str]:
    plan = wanted.plan
    return {
        EXECUTION: wanted.name,
        f"{GROUP}/function": label_value(plan.name),
        f"{GROUP}/project": label_value(plan.project),
        f"{GROUP}/hash": plan.function[:12],
        **_OURS,
        **({HOME: wanted.home} if wanted.home else {}),
    }


def pod_spec(
    wanted: Wanted, bundle: str, *, container: Mapping[str, Any] | None = None, spec: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the spec of a pod whose Secret is called as `wanted` is; the two others are merged over it, then the user's own part."""
    plan = wanted.plan
    volumes: list[tuple[str, str, dict[str, Any], bool]] = [
        ("worker", _MOUNT, {"configMap": {"name": bundle}}, True),
        ("task", TASK, {"secret": {"secretName": wanted.name}}, True),
        ("run", FOLDER, {"emptyDir": {}}, False),
        ("tmp", "/tmp", {"emptyDir": {}}, False),  # noqa: S108 - of the container
    ]
    main: dict[str, Any] = {
        "name": CONTAINER,
        "image": image_of(plan),
        "command": ["python", WORKER],
        "workingDir": FOLDER,
        "env": [{"name": "HOME", "value": FOLDER}, *map(secret_variable, plan.secrets)],
        "resources": resources(plan),
        "terminationMessagePolicy": "File",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": name, "mountPath": path, **({"readOnly": True} if is_fixed else {})}
            for name, path, _, is_fixed in volumes
        ],
    }
    made = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": int(wanted.grace) + _EXIT_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [{**main, **(container or {}), "env": [*main["env"], *(container or {}).get("env", ())]}],
        "volumes": [{"name": name, **source} for name, _, source, _ in volumes],
        **(spec or {}),
        **_placement(plan),
    }
    return merged(made, plan.place.options.get("pod") or {})


def _placement(plan: Plan) -> dict[str, Any]:
    """Return the fields that say on which nodes a pod may run."""
    node = plan.node or {}
    how = node.get("spot")
    affinity = {"nodeAffinity": spot.affinity(how)} if how in ("require", "prevent") else {}
    found = {
        "nodeSelector": node.get("selector"),
        "affinity": {**(node.get("affinity") or {}), **affinity},
        "tolerations": [*(node.get("tolerations") or ()), *(spot.tolerations() if how in ("require", "allow") else ())],
        "priorityClassName": node.get("priority"),
    }
    return {name: value for name, value in found.items() if value}
