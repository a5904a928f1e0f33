"""One watch over the pods of a namespace, whatever the number of runs."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from mlfn.backends.places.kubernetes.connection import ApiError, Connection, UnreachableError
from mlfn.backends.places.kubernetes.messages import Message, PodSeen, PodsListed
from mlfn.backends.places.kubernetes.objects import EXECUTION

logger = logging.getLogger(__name__)
_AGAIN = 1.0  # seconds until another try
_SERVED = 290  # seconds after which the server ends a watch
_PAGE = 500


class PodWatch(threading.Thread):
    """Lists the pods of all executions, then tells each change; begins anew where the server has forgotten."""

    def __init__(self, connection: Connection, namespace: str, tell: Callable[[Message], object]) -> None:
        super().__init__(name="mlfn-pods", daemon=True)
        self._connection = connection
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._tell = tell
        self.is_closed = False
        self._warned = ""  # said once, until pods are listed again

    def run(self) -> None:
        """Watch until it is closed."""
        while not self.is_closed:
            try:
                self._watch(self._list())
            except UnreachableError as error:
                logger.debug("the watch of pods is broken: %s", error)
            except ApiError as error:
                if error.message != self._warned:
                    logger.warning("the pods of %s cannot be watched: %s", self._path, error.message)
                self._warned = error.message
            except Exception:
                logger.exception("the watch of pods begins anew after an unexpected error")
            if not self.is_closed:
                time.sleep(_AGAIN)

    def _list(self) -> str:
        names: set[str] = set()
        more: dict[str, Any] = {}
        while True:
            page = self._connection.get(self._path, labelSelector=EXECUTION, limit=_PAGE, **more)
            for pod in page["items"]:
                names.add(pod["metadata"]["name"])
                self._tell(PodSeen(_kept(pod)))
            token = page["metadata"].get("continue")
            if not token:
                self._warned = ""
                self._tell(PodsListed(frozenset(names)))
                return str(page["metadata"]["resourceVersion"])
            more = {"continue": token}

    def _watch(self, version: str) -> None:
        """Tell changes since a version until the server has forgotten it."""
        while True:
            query = {
                "watch": "true",
                "allowWatchBookmarks": "true",
                "resourceVersion": version,
                "timeoutSeconds": _SERVED,
            }
            try:
                stream = self._connection.stream(self._path, idle=_SERVED + 30, labelSelector=EXECUTION, **query)
            except ApiError as error:
                if error.status == 410:
                    return
                raise
            for line in stream.lines():
                if self.is_closed:
                    return
                change = json.loads(line)
                if change["type"] == "ERROR":
                    return  # as a rule 410: what came after that version is forgotten
                version = change["object"]["metadata"]["resourceVersion"]
                if change["type"] != "BOOKMARK":
                    self._tell(PodSeen(_kept(change["object"]), is_deleted=change["type"] == "DELETED"))


def _kept(pod: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is read of a pod: thousands of them are kept."""
    metadata, spec = pod["metadata"], pod.get("spec", {})
    return {
        "metadata": {
            name: metadata[name] for name in ("name", "uid", "labels", "deletionTimestamp") if name in metadata
        },
        "spec": {name: spec[name] for name in ("nodeName",) if name in spec},
        "status": pod.get("status", {}),
    }
