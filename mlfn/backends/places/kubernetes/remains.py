"""What lies in a namespace, for garbage collection: the objects of executions, and ConfigMaps with mlfn that nothing uses."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from mlfn.backends.places.base import Remains
from mlfn.backends.places.kubernetes.bundle import worker_bundle
from mlfn.backends.places.kubernetes.connection import ApiError, Connection, UnreachableError
from mlfn.backends.places.kubernetes.objects import BUNDLE, EXECUTION, HOME, RESOURCES, Resource, bundle_name
from mlfn.errors import PlaceError

_PAGE = 500
_BUNDLE_SECONDS = 30 * 86400.0  # for which one is kept: an older mlfn somewhere may go on with it
_SERVICES = Resource("apps/v1", "Deployment", "deployments")


def remains_in(connection: Connection, namespace: str) -> list[Remains]:
    """Return the executions of a namespace, whoever created them, and the ConfigMaps with mlfn that nothing uses any more.

    Raises PlaceError.
    """
    try:
        return list(_remains_in(connection, namespace))
    except (ApiError, UnreachableError) as error:
        raise PlaceError(
            f"What is in namespace {namespace!r} at {connection.host} cannot be listed: {error}. `mlfn doctor --on kubernetes` says "
            "what you may do there."
        ) from error


def remove(connection: Connection, found: Remains) -> None:
    """Delete an object, with the pods and the Secret that it owns; raise PlaceError."""
    try:
        connection.delete(found.handle["path"], {"propagationPolicy": "Background"})
    except (ApiError, UnreachableError) as error:
        raise PlaceError(f"{found.name} cannot be removed: {error}.") from error


def _remains_in(connection: Connection, namespace: str) -> Iterator[Remains]:
    used = "".join(map(json.dumps, _items(connection, _SERVICES.path(namespace), "app.kubernetes.io/managed-by=mlfn")))
    for resource in RESOURCES:
        path = resource.path(namespace)
        for item in _items(connection, path, EXECUTION):
            used += json.dumps(item.get("spec"))
            labels = item["metadata"]["labels"]
            yield _found(resource.kind, path, item, labels[EXECUTION], labels.get(HOME, ""))
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for item in _items(connection, path, BUNDLE):
        name, found = item["metadata"]["name"], _found("ConfigMap", path, item)
        if name not in used and name != bundle_name(worker_bundle()[0]) and found.age >= _BUNDLE_SECONDS:
            yield found


def _items(connection: Connection, path: str, selector: str) -> Iterator[Mapping[str, Any]]:
    more: dict[str, str] = {}
    while True:
        try:
            page = connection.get(path, labelSelector=selector, limit=_PAGE, **more)
        except ApiError as error:
            if error.status == 404:  # an operator that is not installed has none
                return
            raise
        yield from page["items"]
        if not (token := page["metadata"].get("continue")):
            return
        more = {"continue": token}


def _found(kind: str, path: str, item: Mapping[str, Any], execution: str | None = None, home: str = "") -> Remains:
    metadata = item["metadata"]
    created = datetime.fromisoformat(str(metadata["creationTimestamp"]).replace("Z", "+00:00")).timestamp()
    name = f"{kind} {metadata['namespace']}/{metadata['name']}"
    return Remains(name, time.time() - created, {"path": f"{path}/{metadata['name']}"}, execution, home)
