"""What is created for an execution, as plain manifests: a Job, its Secret, and the ConfigMap that holds mlfn. Pure."""

from __future__ import annotations

import base64
import gzip
import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from mlfn._version import __version__
from mlfn.backends.places.kubernetes.merging import merged
from mlfn.host.frozen import frozen
from mlfn.settings.secrets import Secret, variables_of
from mlfn.spec.plan import Plan
from mlfn.worker.pod.folders import FOLDER, TASK, WORKER
from mlfn.worker.task import Task

GROUP = "mlfn.io"
EXECUTION = f"{GROUP}/execution"
CONTAINER = "main"
SECRET_KEY = "value"  # noqa: S105 - a name
"""The key of a Secret that a reference without a key means."""
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


def image_of(plan: Plan) -> str:
    """Return the image that a plan asks for, or the plain one of this Python."""
    return plan.image or "python:{}.{}-slim".format(*sys.version_info)


def job(wanted: Wanted, bundle: str) -> dict[str, Any]:
    """Return the Job; `bundle` is the name of the ConfigMap with mlfn."""
    plan = wanted.plan
    labels = _labels(wanted)
    spec: dict[str, Any] = {
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "template": {"metadata": {"labels": labels}, "spec": _pod(wanted, bundle)},
    }
    if wanted.units > 1:
        spec |= {
            "completionMode": "Indexed",
            "completions": wanted.units,
            "parallelism": min(wanted.units, wanted.parallel or wanted.units),
            "backoffLimitPerIndex": 0,
        }
        del spec["backoffLimit"]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": wanted.name,
            "namespace": wanted.namespace,
            "labels": labels,
            "annotations": {f"{GROUP}/function": plan.name, f"{GROUP}/version": __version__},
        },
        "spec": spec,
    }


def secret(
    wanted: Wanted, assignment: Mapping[str, Any], tasks: Sequence[Task], files: Mapping[str, bytes], *, owner: str
) -> dict[str, Any]:
    """Return the Secret with the task; `owner` is the id of the Job, with which it goes."""
    units = gzip.compress(json.dumps([task.to_json() for task in tasks]).encode(), mtime=0)
    content = {"assignment.json": json.dumps(assignment).encode(), "units": units, **files}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": wanted.name,
            "namespace": wanted.namespace,
            "labels": _labels(wanted),
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": wanted.name, "uid": owner}],
        },
        "immutable": True,
        "data": {name: base64.b64encode(data).decode() for name, data in content.items()},
    }


def config_map(namespace: str, name: str, archive: bytes) -> dict[str, Any]:
    """Return the ConfigMap with mlfn, which all executions of a version have in common."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": {f"{GROUP}/worker": __version__}},
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
        "app.kubernetes.io/managed-by": "mlfn",
    }


def label_value(text: str) -> str:
    """Return a text as a label may hold it: letters, digits, '-', '_' and '.', one of the first two at both ends."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", text)[:_MOST_LABEL]
    return plain.strip("-_.")


def _pod(wanted: Wanted, bundle: str) -> dict[str, Any]:
    plan = wanted.plan
    volumes: list[tuple[str, str, dict[str, Any], bool]] = [
        ("worker", _MOUNT, {"configMap": {"name": bundle}}, True),
        ("task", TASK, {"secret": {"secretName": wanted.name}}, True),
        ("run", FOLDER, {"emptyDir": {}}, False),
        ("tmp", "/tmp", {"emptyDir": {}}, False),  # noqa: S108 - of the container
    ]
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": image_of(plan),
        "command": ["python", WORKER],
        "workingDir": FOLDER,
        "env": [{"name": "HOME", "value": FOLDER}, *map(_secret_variable, plan.secrets)],
        "resources": _resources(plan),
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
    spec = {
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
        "containers": [container],
        "volumes": [{"name": name, **source} for name, _, source, _ in volumes],
    }
    return merged({**spec, **_placement(plan)}, plan.place.options.get("pod") or {})


def _placement(plan: Plan) -> dict[str, Any]:
    """Return the fields that say on which nodes a pod may run."""
    node = plan.node or {}
    found = {
        "nodeSelector": node.get("selector"),
        "affinity": node.get("affinity"),
        "tolerations": node.get("tolerations"),
        "priorityClassName": node.get("priority"),
    }
    return {name: value for name, value in found.items() if value}


def _secret_variable(wanted: Secret) -> dict[str, Any]:
    """Return the environment variable by which a run gets a secret: the kubelet reads the value, nobody else."""
    _, variable = variables_of(wanted)
    reference = {"name": secret_name(wanted.name), "key": wanted.key or SECRET_KEY}
    return {"name": variable, "valueFrom": {"secretKeyRef": reference}}


def secret_name(name: str) -> str:
    """Return what a secret is called in the cluster, whose names have small letters, digits, '-' and '.' alone."""
    return name.lower().replace("_", "-")


def _resources(plan: Plan) -> dict[str, Any]:
    wanted: dict[str, str] = {}
    if plan.cpu:
        wanted["cpu"] = f"{round(plan.cpu * 1000)}m"
    if plan.mem:
        wanted["memory"] = str(plan.mem)
    if plan.gpus:
        wanted["nvidia.com/gpu"] = str(plan.gpus)
    return {"requests": dict(wanted), "limits": dict(wanted)} if wanted else {}
