"""What a place asks the API server for: each method is called in a thread of its own, and may wait."""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from mlfn.backends.places.base import PlaceConfig
from mlfn.backends.places.kubernetes import objects
from mlfn.backends.places.kubernetes.bundle import worker_bundle
from mlfn.backends.places.kubernetes.connection import ApiError, Connection, UnreachableError
from mlfn.backends.places.kubernetes.objects import EXECUTION, Wanted
from mlfn.backends.places.kubernetes.staging import Staged
from mlfn.errors import PlaceError, StorageError
from mlfn.spec.record import Reason
from mlfn.worker.task import Task

_AGAIN = (408, 409, 429)  # and all that are the server's own fault: it may be asked again
_MOST_EVENTS = 50


class Requests:
    """Requests about the executions of one namespace."""

    def __init__(self, connection: Connection, namespace: str, config: PlaceConfig) -> None:
        self.connection = connection
        self.namespace = namespace
        self._config = config
        self._bundle: str | None = None
        self._lock = threading.Lock()

    @property
    def where(self) -> dict[str, str]:
        """Which cluster and namespace this is."""
        return {"server": self.connection.host, "namespace": self.namespace}

    def create(self, wanted: Wanted, tasks: Sequence[Task]) -> None:
        """Create a Job, then its Secret; what is there already, under the same name and ours, counts as created.

        Raises ApiError for a refusal, UnreachableError, StorageError for what is too large or cannot be read.
        """
        staged = Staged(wanted, self._config, tasks)
        bundle = self._keep_bundle()
        owner = self._create_job(objects.job(wanted, bundle))
        try:
            self.connection.post(
                f"/api/v1/namespaces/{self.namespace}/secrets",
                objects.secret(wanted, staged.assignment, staged.tasks, staged.files, owner=owner),
            )
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise

    def job(self, execution: str) -> dict[str, Any] | None:
        """Return a Job; None where there is none."""
        try:
            return self.connection.get(self._job_path(execution))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def why_no_pod(self, execution: str) -> str | None:
        """Return what the last event of a Job says of a pod that could not be made."""
        path = f"/api/v1/namespaces/{self.namespace}/events"
        found = self.connection.get(path, fieldSelector=f"involvedObject.name={execution}", limit=_MOST_EVENTS)["items"]
        failed = [event for event in found if event.get("reason") == "FailedCreate"]
        if not failed:
            return None
        last = max(failed, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
        return str(last.get("message", ""))

    def delete(self, execution: str) -> None:
        """Delete a Job with its pods and its Secret, if it is there."""
        self.connection.delete(self._job_path(execution), {"propagationPolicy": "Background"})

    def hold(self, execution: str, parallel: int) -> None:
        """Let no more units of an execution be at work at a time than there are."""
        self.connection.patch(self._job_path(execution), {"spec": {"parallelism": parallel}})

    def delete_pod(self, name: str) -> None:
        """Delete one pod, if it is there: its process gets SIGTERM, and SIGKILL after the grace time."""
        self.connection.delete(f"/api/v1/namespaces/{self.namespace}/pods/{name}")

    def _job_path(self, execution: str) -> str:
        return f"/apis/batch/v1/namespaces/{self.namespace}/jobs/{execution}"

    def _create_job(self, manifest: Mapping[str, Any]) -> str:
        """Create a Job, or take the one that is there; return its id."""
        name = manifest["metadata"]["name"]
        try:
            made = self.connection.post(f"/apis/batch/v1/namespaces/{self.namespace}/jobs", manifest)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            made = self.connection.get(self._job_path(name))
            if made["metadata"].get("labels", {}).get(EXECUTION) != name:
                raise
        return str(made["metadata"]["uid"])

    def _keep_bundle(self) -> str:
        """Create the ConfigMap with mlfn, once, and return its name."""
        with self._lock:
            if self._bundle is None:
                digest, archive = worker_bundle()
                name = objects.bundle_name(digest)
                path = f"/api/v1/namespaces/{self.namespace}/configmaps"
                try:
                    self.connection.post(path, objects.config_map(self.namespace, name, archive))
                except ApiError as error:
                    if error.reason != "AlreadyExists":
                        raise
                self._bundle = name
        return self._bundle


def keep_secret(connection: Connection, namespace: str, name: str, value: str, *, key: str | None) -> None:
    """Keep a value under a key of a Secret; raise PlaceError where the cluster refuses."""
    path, called = f"/api/v1/namespaces/{namespace}/secrets", objects.secret_name(name)
    data = {key or objects.SECRET_KEY: base64.b64encode(value.encode()).decode()}
    try:
        try:
            connection.post(path, {"metadata": {"name": called}, "data": data})
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            connection.patch(f"{path}/{called}", {"data": data})
    except (ApiError, UnreachableError) as error:
        raise PlaceError(
            f"Secret {called!r} cannot be kept in namespace {namespace!r} at {connection.host}: {error}."
        ) from error


def is_final(error: ApiError) -> bool:
    """Return whether the same request will be refused again."""
    return 400 <= error.status < 500 and error.status not in _AGAIN


def refusal(error: Exception) -> tuple[Reason, str]:
    """Return why an execution cannot be created, as a reason and words that go on from the function's name."""
    if isinstance(error, ApiError):
        return Reason.ERROR, f": the cluster refuses it ({error.message})."
    reason = Reason.STORAGE if isinstance(error, (StorageError, OSError)) else Reason.ERROR
    return reason, f" cannot be sent to the cluster: {error}"
