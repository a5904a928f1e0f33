"""What is known of a service: all of it stands in its Deployment. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mlfn.backends.hosts.base import ServiceRecord, State, VersionRecord
from mlfn.backends.hosts.kubernetes.manifests import PORT, token_of
from mlfn.backends.places.kubernetes.objects import GROUP


def record_of(found: Mapping[str, Any]) -> ServiceRecord:
    """Return the record of a Deployment that mlfn has made."""
    metadata = found["metadata"]
    annotations = metadata["annotations"]
    name, namespace = metadata["name"], metadata["namespace"]
    token = token_of(annotations)
    return ServiceRecord(
        name=annotations[f"{GROUP}/function"],
        project=annotations[f"{GROUP}/project"],
        host="kubernetes",
        state=_state(found),
        url=f"http://{name}.{namespace}.svc:{PORT}",
        replicas=found["spec"]["replicas"],
        versions=tuple(VersionRecord(**item) for item in json.loads(annotations[f"{GROUP}/versions"])),
        handle={"namespace": namespace, "name": name, "uid": metadata["uid"]},
        token=None if token is None else {"name": token.name, "key": token.key},
    )


def _state(found: Mapping[str, Any]) -> State:
    if not found["spec"]["replicas"]:
        return "ended"
    return "ready" if found.get("status", {}).get("availableReplicas") else "failed"


def bounds_of(found: Mapping[str, Any]) -> tuple[int, int]:
    """Return the least and the most replicas that a Deployment was declared with."""
    least, most = json.loads(found["metadata"]["annotations"][f"{GROUP}/replicas"])
    return least, most


def code_of(found: Mapping[str, Any]) -> str:
    """Return the name of the Secret with the code that a Deployment's pods have."""
    volumes = found["spec"]["template"]["spec"]["volumes"]
    return str(next(item["secret"]["secretName"] for item in volumes if item["name"] == "task"))


def is_rolled_out(found: Mapping[str, Any]) -> bool:
    """Return whether all pods of a Deployment are of its last version, and ready, and no others are left."""
    status, wanted = found.get("status", {}), found["spec"]["replicas"]
    if status.get("observedGeneration", 0) < found["metadata"]["generation"]:
        return False
    counts = (status.get(name, 0) for name in ("updatedReplicas", "availableReplicas", "replicas"))
    return all(count == wanted for count in counts)
