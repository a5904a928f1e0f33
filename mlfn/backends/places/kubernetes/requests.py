"""What a place asks the API server for: each method is called in a thread of its own, and may wait."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlfn.backends.kinds.base import Companion
from mlfn.backends.kinds.pods import SECRET_KEY, secret_name
from mlfn.backends.places.base import PlaceConfig
from mlfn.backends.places.kubernetes import objects
from mlfn.backends.places.kubernetes.bundle import worker_bundle
from mlfn.backends.places.kubernetes.connection import ApiError, Connection, UnreachableError
from mlfn.backends.places.kubernetes.objects import ASKED, EXECUTION, JOB, Resource, Wanted, resource_of
from mlfn.backends.places.kubernetes.staging import Staged
from mlfn.errors import OptionError, PlaceError, StorageError
from mlfn.spec.record import Reason
from mlfn.worker.task import Task

_AGAIN = (408, 409, 429)  # and all that are the server's own fault: it may be asked again
_MOST_EVENTS = 500
_NO_POD = ("FailedCreate", "MPIJobFailed", "ValidationError")  # events of a Job, of an operator's object
_NO_MOUNT = ("FailedMount", "FailedAttachVolume")  # events of a pod


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
        """Create an execution's object, then its Secret; what is there already, under the same name and ours, counts as created.

        Raises ApiError for a refusal, UnreachableError, StorageError for what is too large or cannot be read.
        """
        staged = Staged(wanted, self._config, tasks)
        bundle = self.keep_bundle()
        companions, install = objects.companions_of(wanted.plan), objects.install_of(wanted.plan)
        for item in companions:
            if item.asked is not None:
                self._keep(item, objects.companion(wanted, bundle, item), install)
        owner = self._create_object(resource_of(wanted.plan), objects.execution(wanted, bundle), install)
        for item in companions:
            if item.asked is None:
                resource = Resource(item.api_version, item.kind, item.plural)
                self._create_object(resource, objects.companion(wanted, bundle, item, owner=owner), install)
        try:
            self.connection.post(
                f"/api/v1/namespaces/{self.namespace}/secrets",
                objects.secret(wanted, staged.assignment, staged.units, staged.files, owner=owner),
            )
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise

    def object(self, resource: Resource, execution: str) -> dict[str, Any] | None:
        """Return an execution's object; None where there is none."""
        try:
            return self.connection.get(self._path(resource, execution))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def why_no_pod(self, resource: Resource, execution: str) -> str | None:
        """Return what the last event of an execution's object, or of what its operator makes, says of a pod that could not be made."""
        path = f"/api/v1/namespaces/{self.namespace}/events"
        # What an operator makes is called after the object.
        selector = f"involvedObject.name={execution}" if resource == JOB else "type=Warning"
        found = self.connection.get(path, fieldSelector=selector, limit=_MOST_EVENTS)["items"]
        own = [event for event in found if str(event["involvedObject"]["name"]).startswith(execution)]
        return _last_message(event for event in own if event.get("reason") in _NO_POD)

    def why_not_mounted(self, pod: str) -> str | None:
        """Return what the last event of a pod says of something that it cannot mount."""
        path = f"/api/v1/namespaces/{self.namespace}/events"
        found = self.connection.get(path, fieldSelector=f"involvedObject.name={pod}", limit=_MOST_EVENTS)["items"]
        return _last_message(event for event in found if event.get("reason") in _NO_MOUNT)

    def delete(self, resource: Resource, execution: str) -> None:
        """Delete an execution's object with its pods and its Secret, if it is there."""
        self.connection.delete(self._path(resource, execution), {"propagationPolicy": "Background"})

    def hold(self, execution: str, parallel: int) -> None:
        """Let no more units of an execution be at work at a time than there are."""
        self.connection.patch(self._path(JOB, execution), {"spec": {"parallelism": parallel}})

    def delete_pod(self, name: str) -> None:
        """Delete one pod, if it is there: its process gets SIGTERM, and SIGKILL after the grace time."""
        self.connection.delete(f"/api/v1/namespaces/{self.namespace}/pods/{name}")

    def _path(self, resource: Resource, execution: str) -> str:
        return f"{resource.path(self.namespace)}/{execution}"

    def _create_object(self, resource: Resource, manifest: Mapping[str, Any], install: str | None) -> str:
        """Create it, or take the one that is there; return its id."""
        name = manifest["metadata"]["name"]
        try:
            made = self._post(resource, manifest, install)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            made = self.connection.get(self._path(resource, name))
            if made["metadata"].get("labels", {}).get(EXECUTION) != name:
                raise
        return str(made["metadata"]["uid"])

    def _keep(self, item: Companion, manifest: Mapping[str, Any], install: str | None) -> None:
        """Create what many runs share, unless it is there; raise OptionError where that was made for something else."""
        resource, name = Resource(item.api_version, item.kind, item.plural), item.name
        try:
            self._post(resource, manifest, install)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            metadata = self.connection.get(self._path(resource, name))["metadata"]
            if "deletionTimestamp" in metadata:
                raise ApiError(409, "Conflict", f"{item.kind} {name!r} is being deleted") from error
            refuse_other(item, metadata, self.namespace)

    def _post(self, resource: Resource, manifest: Mapping[str, Any], install: str | None) -> dict[str, Any]:
        """Create an object; raise PlaceError, with what to type, where the cluster does not know its kind."""
        try:
            return self.connection.post(resource.path(self.namespace), manifest)
        except ApiError as error:
            if error.status == 404 and error.reason != "NotFound":
                raise PlaceError(
                    f"it knows no {resource.kind} of {resource.api_version}: have its administrator install the operator that brings it, "
                    f"which docs/kubernetes.md names{f', by `{install}`' if install else ''}"
                ) from error
            raise

    def keep_bundle(self) -> str:
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


def _last_message(events: Iterable[Mapping[str, Any]]) -> str | None:
    last = max(events, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""), default=None)
    return None if last is None else str(last.get("message", ""))


def refuse_other(item: Companion, metadata: Mapping[str, Any], namespace: str) -> None:
    """Raise OptionError where an object that is there was not made for what is asked for now."""
    called, command = f"{item.kind} {item.name!r}", f"kubectl -n {namespace} delete {item.plural} {item.name}"
    text = metadata.get("annotations", {}).get(ASKED)
    if text is None:
        raise OptionError(
            f"{called} is there in namespace {namespace!r}, and mlfn has not made it: choose another name."
        )
    there, here = json.loads(text), json.loads(json.dumps(item.asked))
    unlike = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    if unlike:
        raise OptionError(
            f"{called} in namespace {namespace!r} was made with {_listed(there, unlike)}, and this run asks for "
            f"{_listed(here, unlike)}: choose another name, ask for the same, or have it made anew, by `{command}` once nobody uses it."
        )


def _listed(options: Mapping[str, Any], names: Sequence[str]) -> str:
    return ", ".join(f"{name}={options.get(name)!r}" for name in names)


def keep_secret(connection: Connection, namespace: str, name: str, value: str, *, key: str | None) -> None:
    """Keep a value under a key of a Secret; raise PlaceError where the cluster refuses."""
    path, called = f"/api/v1/namespaces/{namespace}/secrets", secret_name(name)
    data = {key or SECRET_KEY: base64.b64encode(value.encode()).decode()}
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
    return 400 <= error.status < 500 and error.status not in _AGAIN and not error.is_of_login


def without_answer(host: str, error: ApiError | UnreachableError) -> str:
    """Return what an execution waits for that cannot be created now."""
    if isinstance(error, ApiError) and error.is_of_login:
        return f"a login that the cluster at {host} accepts ({error.message}): log in again as for kubectl; the kubeconfig is read again"
    return f"an answer of the cluster at {host}: {error}"


def refusal(error: Exception) -> tuple[Reason, str]:
    """Return why an execution cannot be created, as a reason and words that go on from the function's name."""
    if isinstance(error, (ApiError, PlaceError)):
        words = error.message if isinstance(error, ApiError) else str(error)
        return Reason.ERROR, f": the cluster refuses it ({words})."
    reason = Reason.STORAGE if isinstance(error, (StorageError, OSError)) else Reason.ERROR
    return reason, f" cannot be sent to the cluster: {error}"
