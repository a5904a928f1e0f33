"""Services on a cluster: each is a Deployment of the embedded server, which knows all that is known of it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from mlfn import errors
from mlfn.backends.hosts.base import ServiceRecord, VersionRecord
from mlfn.backends.hosts.checks import not_found, refuse_other_triggers, refuse_others
from mlfn.backends.hosts.kubernetes import manifests
from mlfn.backends.hosts.kubernetes.forward import Forward
from mlfn.backends.hosts.kubernetes.logs import lines_of
from mlfn.backends.hosts.kubernetes.manifests import RELEASE, SERVICE, Release
from mlfn.backends.hosts.kubernetes.readiness import Trouble, last_end, trouble_of, trouble_of_deployment
from mlfn.backends.hosts.kubernetes.records import bounds_of, code_of, is_rolled_out, record_of
from mlfn.backends.hosts.run_files import internal_token
from mlfn.backends.hosts.server_options import ServerOptions
from mlfn.backends.kinds.nuclio.options import Nuclio
from mlfn.backends.places.base import PlaceConfig
from mlfn.backends.places.kubernetes.bundle import worker_bundle
from mlfn.backends.places.kubernetes.connection import ApiError, Connection, UnreachableError
from mlfn.backends.places.kubernetes.objects import GROUP, Wanted, bundle_name
from mlfn.backends.places.kubernetes.requests import Requests
from mlfn.backends.places.kubernetes.staging import Staged
from mlfn.backends.places.kubernetes.words import has_begun, taken_away
from mlfn.code.envelope import derive
from mlfn.errors import MlfnError, OptionError, ServiceError
from mlfn.host.identity import new_id, now
from mlfn.settings import current as settings
from mlfn.settings.secrets import Secret, read_secret
from mlfn.spec.plan import Plan
from mlfn.spec.record import Reason

_KEPT = 10  # versions that a rollback may return to
_MOST_REPLICAS = 256
_LOOK = 0.5  # seconds between looks at what begins or ends
_LAST_LINES = 40
_EXIT_SECONDS = 30.0  # after the grace time, in which the cluster ends pods
_TRIES = 5


@dataclass
class NotReadyError(Exception):
    """A version does not become ready."""

    trouble: Trouble | None
    said: str = ""


class KubernetesHost:
    """The services of one namespace of one cluster."""

    NAME = "kubernetes"

    def __init__(
        self,
        config: PlaceConfig,
        *,
        namespace: str | None = None,
        context: str | None = None,
        kubeconfig: str | None = None,
        **_: Any,
    ) -> None:
        self._config = config
        self._connection = Connection(kubeconfig=kubeconfig, context=context)
        self._namespace = namespace or self._connection.namespace
        self._forwards: dict[str, Forward] = {}

    @staticmethod
    def check_plan(plan: Plan) -> None:
        """Raise OptionError for what the embedded server in pods cannot do."""
        refuse_other_triggers(plan)
        manifests.check(plan)

    @staticmethod
    def manifests(plan: Plan) -> list[dict[str, Any]]:
        """Return what would be created, without the content of Secrets; the namespace is the context's."""
        namespace = plan.place.options.get("namespace") or "default"
        version = VersionRecord(1, plan.function, plan.hash, 0.0)
        name = manifests.service_name(plan.project, plan.name)
        release = Release(
            plan,
            namespace,
            f"{name}-1",
            bundle_name(worker_bundle()[0]),
            _grace(plan, settings.current().grace),
            max(1, Nuclio(**plan.kind.options).bounds[0]),
            (version,),
        )
        made = [
            manifests.deployment(release),
            manifests.service(release, ""),
            manifests.code(release, {}, ""),
            *([] if release.kind.http.token else [manifests.token(release, "", "")]),
            *filter(None, [manifests.scaler(release, "")]),
        ]
        for item in made:
            item["metadata"].pop("ownerReferences", None)
            if "namespace" not in plan.place.options:
                del item["metadata"]["namespace"]
            if item["kind"] == "Secret":
                item["data"] = {}
        return made

    # -- deploying
    def deploy(self, plan: Plan, *, again: bool = False) -> tuple[ServiceRecord, bool]:
        """Create or replace the Deployment of a plan, and return its service once it is ready, and whether that was to be done."""
        self.check_plan(plan)
        name = manifests.service_name(plan.project, plan.name)
        with self._asked(f"{plan.name} cannot be deployed"):
            for left in reversed(range(_TRIES)):
                live = self._deployment(name)
                if live is not None:
                    refuse_others(live, plan, f"the Deployment {name} in namespace {self._namespace}")
                    if not again and record_of(live).version.hash == plan.function:
                        return self._there(plan, record_of(live)), False
                with contextlib.suppress(_TakenError):
                    return self._replace(plan, live, last=not left), True
        raise AssertionError

    def _there(self, plan: Plan, record: ServiceRecord) -> ServiceRecord:
        """Return what is deployed already, once it is ready: another client may be at it."""
        try:
            return record_of(self._ready(plan, record))
        except NotReadyError as error:
            raise _not_begun(plan, error) from None

    def _replace(self, plan: Plan, live: dict[str, Any] | None, *, last: bool) -> ServiceRecord:
        release = self._release(plan, live)
        try:
            made = self._put(release, live)
        except ApiError as error:
            if error.reason in ("AlreadyExists", "Conflict") and not last:
                raise _TakenError from error  # another client was first: what it has done is looked at
            raise
        try:
            found = self._ready(plan, record_of(made))
        except NotReadyError as error:
            self._take_back(release, live)
            raise _not_begun(plan, error) from None
        except BaseException:
            self._take_back(release, live)
            raise
        if live is not None:
            self._apply_others(release, live["metadata"]["uid"])
            self._delete("secrets", code_of(live))
        return record_of(found)

    def _release(self, plan: Plan, live: Mapping[str, Any] | None) -> Release:
        kind = Nuclio(**plan.kind.options)
        versions: tuple[VersionRecord, ...] = record_of(live).versions if live is not None else ()
        number = versions[-1].number + 1 if versions else 1
        is_kept = live is not None and bounds_of(live) == kind.bounds and live["spec"]["replicas"]
        version = VersionRecord(number, plan.function, plan.hash, now())
        name = manifests.service_name(plan.project, plan.name)
        return Release(
            plan,
            self._namespace,
            f"{name}-{number}-{new_id()[:6]}",
            Requests(self._connection, self._namespace, self._config).keep_bundle(),
            _grace(plan, self._config.grace),
            live["spec"]["replicas"] if live is not None and is_kept else max(1, kind.bounds[0]),
            (*versions, version)[-_KEPT:],
        )

    def _put(self, release: Release, live: dict[str, Any] | None) -> dict[str, Any]:
        """Create all objects of a version, the Deployment first: it owns the others; the one that is there, after its Secret."""
        content = self._content(release)
        wanted, path = manifests.deployment(release), self._path("deployments")
        if live is None:
            made = self._connection.post(path, wanted)
            try:
                self._apply_secrets(release, content, made["metadata"]["uid"])
                self._apply_others(release, made["metadata"]["uid"])
            except BaseException:
                self._delete_all(release.name)
                raise
            return made
        try:
            self._apply_secrets(release, content, live["metadata"]["uid"])
            return self._connection.put(f"{path}/{release.name}", _over(live, wanted))
        except BaseException:
            self._delete("secrets", release.secret)
            raise

    def _apply_secrets(self, release: Release, content: Mapping[str, bytes], owner: str) -> None:
        plan = release.plan
        self._apply("secrets", manifests.code(release, content, owner))
        if release.kind.http.token is None:
            self._apply("secrets", manifests.token(release, self._derived(plan.project, plan.name), owner))

    def _apply_others(self, release: Release, owner: str) -> None:
        scaler = manifests.scaler(release, owner)
        if scaler is None:
            self._delete_labelled("horizontalpodautoscalers", release.name)
        else:
            self._apply("horizontalpodautoscalers", scaler)
        self._apply("services", manifests.service(release, owner))

    def _content(self, release: Release) -> dict[str, bytes]:
        """Return what the Secret of a version holds: the code, and what its server is started with."""
        plan, kind = release.plan, release.kind
        staged = Staged(Wanted(release.secret, release.namespace, plan, "", release.grace), self._config, [])
        requirements = [*manifests.requirements(kind), *staged.assignment["requirements"]]
        asked = {**staged.assignment, "starts": "mlfn.serving.server.pod", "requirements": requirements}
        http = kind.http
        options = {
            **ServerOptions.of_plan(plan, kind),
            "host": "0.0.0.0",  # noqa: S104 - in a pod, behind a token
            "port": manifests.PORT,
            "workers": http.workers or kind.workers,
            "grace": release.grace,
            "internal": internal_token(self._config.key, plan.project, plan.name),
            "in_pod": True,
            "passwords": manifests.password_variables(kind),
        }
        return {"assignment.json": json.dumps({**asked, "server": options}).encode(), **staged.files}

    def _ready(self, plan: Plan, record: ServiceRecord) -> dict[str, Any]:
        """Wait until a version is ready, and return its Deployment; NotReadyError where it does not become that."""
        limit = float(Nuclio(**plan.kind.options).ready_timeout)
        until, since, sort = time.monotonic() + limit, 0.0, ""
        while True:
            trouble: Trouble | None
            try:
                found = self._deployment(record.handle["name"])
                if found is None:
                    raise NotReadyError(Trouble("ended", "its Deployment was deleted, and not by mlfn"))
                if is_rolled_out(found):
                    return found
                trouble = self._trouble(plan, found)
            except UnreachableError as error:  # for a while: the pods begin without this client
                trouble = Trouble("cluster", f"the cluster at {self._connection.host} does not answer ({error})")
            if trouble is None or trouble.sort != sort:
                sort, since = trouble.sort if trouble else "", time.monotonic()
            if (trouble is not None and trouble.is_final(time.monotonic() - since)) or time.monotonic() > until:
                raise NotReadyError(trouble, self._last_words(trouble))
            time.sleep(_LOOK)

    def _trouble(self, plan: Plan, found: Mapping[str, Any]) -> Trouble | None:
        """Return the first thing that keeps a version from being ready, the most final one first."""
        release = found["spec"]["template"]["metadata"]["labels"][RELEASE]
        pods = self._pods(found["metadata"]["name"], release=release)
        troubles = [trouble_of_deployment(found), *(trouble_of(plan, pod) for pod in pods)]
        there = [item for item in troubles if item is not None]
        return min(
            there, key=lambda item: (not item.is_final(float("inf")) or item.sort != "ended", item.sort), default=None
        )

    def _last_words(self, trouble: Trouble | None) -> str:
        """Return the end of the log of a pod that does not become ready."""
        if trouble is None or trouble.pod is None:
            return ""
        path = f"{self._path('pods')}/{trouble.pod}/log"
        more = {"previous": "true"} if trouble.restarted else {}
        with contextlib.suppress(ApiError, UnreachableError):
            pieces = self._connection.stream(path, idle=10.0, container="main", tailLines=_LAST_LINES, **more).pieces()
            return b"".join(pieces).decode("utf-8", "replace").strip()
        return ""

    def _take_back(self, release: Release, live: Mapping[str, Any] | None) -> None:
        """Have the version before go on alone; what has no version before is deleted."""
        if live is None:
            self._delete_all(release.name)
            return
        for _ in range(_TRIES):
            found = self._deployment(release.name)
            if found is None or code_of(found) != release.secret:
                return  # another client has deployed it since
            with contextlib.suppress(ApiError):
                self._connection.put(f"{self._path('deployments')}/{release.name}", _over(found, live))
                break
        self._delete("secrets", release.secret)

    # -- what is there
    def find(self, project: str, name: str) -> ServiceRecord | None:
        """Return a service as it is now."""
        with self._asked("Services cannot be looked for"):
            found = self._deployment(manifests.service_name(project, name))
        if found is None or SERVICE not in found["metadata"].get("labels", {}):
            return None
        record = record_of(found)
        return record if (record.project, record.name) == (project, name) else None

    def list_services(self) -> list[ServiceRecord]:
        """Return all services of the namespace."""
        with self._asked("Services cannot be looked for"):
            found = self._connection.get(self._path("deployments"), labelSelector=SERVICE)["items"]
        there = [record_of(item) for item in found if "deletionTimestamp" not in item["metadata"]]
        return sorted(there, key=lambda item: (item.project, item.name))

    def scale(self, project: str, name: str, replicas: int) -> ServiceRecord:
        """Have so many pods, and return once they are ready."""
        if isinstance(replicas, bool) or not isinstance(replicas, int) or not 1 <= replicas <= _MOST_REPLICAS:
            raise OptionError(f"scale({replicas!r}): a whole number from 1 to {_MOST_REPLICAS} is allowed.")
        with self._asked(f"{name} cannot be scaled"):
            return self._scaled(self._with_replicas(project, name, replicas), replicas)

    def _with_replicas(self, project: str, name: str, replicas: int) -> ServiceRecord:
        for left in reversed(range(_TRIES)):
            live = self._deployment(manifests.service_name(project, name))
            if live is None:
                raise self._not_found(project, name)
            least, most = bounds_of(live)
            if least < most:
                raise OptionError(
                    f"scale({replicas}): the cluster itself chooses between {least} and {most} pods of {name}: deploy it with "
                    f"replicas={replicas}, or with other bounds."
                )
            changed = {**live, "spec": {**live["spec"], "replicas": replicas}}
            try:
                return record_of(
                    self._connection.put(f"{self._path('deployments')}/{live['metadata']['name']}", changed)
                )
            except ApiError as error:
                if error.reason != "Conflict" or not left:
                    raise
        raise AssertionError

    def _scaled(self, record: ServiceRecord, replicas: int) -> ServiceRecord:
        until = time.monotonic() + 120.0
        while True:
            found = self._deployment(record.handle["name"])
            if found is None:
                raise self._not_found(record.project, record.name)
            if is_rolled_out(found):
                return record_of(found)
            if time.monotonic() > until:
                waits = [trouble_of_deployment(found), *(_waits(pod) for pod in self._pods(record.handle["name"]))]
                words = next((item.words for item in waits if item is not None), "they have not begun")
                raise ServiceError(f"{record.name} has not {replicas} pods that are ready within 120 s: {words}.")
            time.sleep(_LOOK)

    def delete(self, project: str, name: str) -> None:
        """End the pods after what they have begun, and delete all that belongs to the service."""
        called = manifests.service_name(project, name)
        with self._asked(f"{name} cannot be deleted"):
            live = self._deployment(called)
            if live is None:
                raise self._not_found(project, name)
            grace = live["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
            self._delete_all(called)
            until = time.monotonic() + grace + _EXIT_SECONDS
            while self._pods(called) and time.monotonic() < until:
                time.sleep(_LOOK)
        self._forwards.pop(called, None)

    def _delete_all(self, name: str) -> None:
        self._delete("deployments", name)
        # Not left to the owner's deletion, which comes later: what is deployed in its place has the same names.
        for plural in ("services", "horizontalpodautoscalers", "secrets"):
            self._delete_labelled(plural, name)

    # -- reaching it
    def address(self, record: ServiceRecord) -> str:
        """Return where this process reaches a service: within the cluster by its name, else by a port that leads there."""
        if self._connection.is_inside:
            return record.url
        name = record.handle["name"]
        if name not in self._forwards:
            self._forwards[name] = Forward(
                self._connection, self._namespace, partial(_newest, self._connection, self._path("pods"), name)
            )
        return self._forwards[name].url

    # -- single pods, for runs that a service executes
    @property
    def where(self) -> dict[str, str]:
        """Which cluster and namespace this is."""
        return {"server": self._connection.host, "namespace": self._namespace}

    def pods(self, plan: Plan, *, ready: bool = False) -> list[str]:
        """Return the pods of a service whose server may answer; with `ready` those that take requests."""
        with self._asked(f"The pods of {plan.name} cannot be looked for"):
            found = self._pods(manifests.service_name(plan.project, plan.name))
        return [str(pod["metadata"]["name"]) for pod in found if (_is_ready(pod) if ready else has_begun(pod))]

    def address_of(self, pod: str) -> str:
        """Return where this process reaches one pod."""
        if self._connection.is_inside:
            found = self._connection.get(f"{self._path('pods')}/{pod}")
            return f"http://{found['status']['podIP']}:{manifests.PORT}"
        if pod not in self._forwards:
            self._forwards[pod] = Forward(self._connection, self._namespace, lambda: pod)
        return self._forwards[pod].url

    def why_gone(self, plan: Plan, pod: str | None) -> tuple[Reason, str] | None:
        """Return why a pod goes, or why its container has ended last, as a reason and words that go on from the function's name."""
        with self._asked(f"The pods of {plan.name} cannot be looked for"):
            found = self._pods(manifests.service_name(plan.project, plan.name))
        named = next((item for item in found if item["metadata"]["name"] == pod), None)
        return None if named is None else last_end(plan, named)

    def taken_away(self) -> dict[str, tuple[Reason, str]]:
        """Return the pods of services that the cluster takes away, and why."""
        with self._asked("The pods of services cannot be looked for"):
            found = self._connection.get(self._path("pods"), labelSelector=SERVICE)["items"]
        ends = {str(pod["metadata"]["name"]): taken_away(pod) for pod in found}
        return {name: (end.reason, end.message) for name, end in ends.items() if end is not None}

    # -- who may call it, and what it says
    def token(self, record: ServiceRecord) -> str | None:
        """Return the token that requests have to bring."""
        if record.token is None:
            return self._derived(record.project, record.name)
        import os

        return read_secret(Secret(**record.token), environ=os.environ, file=self._config.secrets_file)

    def lines(self, record: ServiceRecord, *, follow: bool, which: str) -> Iterator[str]:
        """Yield the lines of a log of all pods."""
        name = record.handle["name"]

        def begun() -> list[str]:
            pods = sorted(self._pods(name), key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
            return [str(pod["metadata"]["name"]) for pod in pods if has_begun(pod)]

        return lines_of(self._connection, self._namespace, begun, follow=follow, which=which)

    # -- requests
    def _derived(self, project: str, name: str) -> str:
        """Return a token that the holder of the user's signing key can work out, and nobody else."""
        return derive(self._config.key, f"token of service {self._namespace}/{project}/{name}").hex()

    def _path(self, plural: str) -> str:
        group = {"deployments": "apis/apps/v1", "horizontalpodautoscalers": "apis/autoscaling/v2"}.get(plural, "api/v1")
        return f"/{group}/namespaces/{self._namespace}/{plural}"

    def _deployment(self, name: str) -> dict[str, Any] | None:
        try:
            found = self._connection.get(f"{self._path('deployments')}/{name}")
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return None if "deletionTimestamp" in found["metadata"] else found

    def _pods(self, name: str, *, release: str | None = None) -> list[dict[str, Any]]:
        selector = f"{SERVICE}={name}" + (f",{RELEASE}={release}" if release is not None else "")
        found: list[dict[str, Any]] = self._connection.get(self._path("pods"), labelSelector=selector)["items"]
        return found

    def _apply(self, plural: str, manifest: Mapping[str, Any]) -> None:
        """Create an object, or change the one that is there, unless it is another's."""
        path, metadata = self._path(plural), manifest["metadata"]
        try:
            self._connection.post(path, manifest)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
        else:
            return
        changes = [
            {
                "op": "test",
                "path": f"/metadata/labels/{SERVICE.replace('/', '~1')}",
                "value": metadata["labels"][SERVICE],
            },
            {"op": "add", "path": "/metadata/ownerReferences", "value": metadata["ownerReferences"]},
            *(
                {"op": "add", "path": f"/{part}/{key}", "value": value}
                for part in ("spec", "data")
                for key, value in manifest.get(part, {}).items()
            ),
        ]
        try:
            self._connection.patch(f"{path}/{metadata['name']}", changes)
        except ApiError as error:
            if error.status != 422:
                raise
            raise OptionError(
                f"{manifest['kind']} {metadata['name']} in namespace {self._namespace} is not mlfn's to change ({error.message}): delete it, or "
                "give the function another name, as in with_options(name='...')."
            ) from error

    def _delete(self, plural: str, name: str) -> None:
        self._connection.delete(f"{self._path(plural)}/{name}", {"propagationPolicy": "Background"})

    def _delete_labelled(self, plural: str, name: str) -> None:
        """Delete what belongs to a service, and not what is merely called so."""
        self._connection.delete(self._path(plural), labelSelector=f"{SERVICE}={name}")

    def _not_found(self, project: str, name: str) -> MlfnError:
        known = [item.name for item in self.list_services() if item.project == project]
        return not_found(project, name, known)

    @contextlib.contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        """Raise ServiceError for what the cluster refuses, and where it does not answer."""
        try:
            yield
        except ApiError as error:
            raise ServiceError(
                f"{what} in namespace {self._namespace} of {self._connection.host}: the cluster refuses it ({error.message}). "
                f"`mlfn rbac --namespace {self._namespace}` prints the rights that it takes."
            ) from error
        except UnreachableError as error:
            raise ServiceError(f"{what}: the cluster at {self._connection.host} does not answer ({error}).") from error


def _newest(connection: Connection, path: str, name: str) -> str | None:
    """Return the newest pod of a service that takes requests; it holds no host, which would keep a port open for ever."""
    ready = [pod for pod in connection.get(path, labelSelector=f"{SERVICE}={name}")["items"] if _is_ready(pod)]
    newest = max(ready, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default=None)
    return None if newest is None else str(newest["metadata"]["name"])


class _TakenError(Exception):
    """Another client has changed the same Deployment."""


def _grace(plan: Plan, grace: float) -> float:
    return max(grace, plan.timeout or 0)


def _over(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return a Deployment that is there with what is wanted in its place; refused where it has changed since it was read."""
    kept, new = live["metadata"], wanted["metadata"]
    metadata = {
        **kept,
        "labels": {**kept.get("labels", {}), **new["labels"]},
        # Those of others stay; a token that is named no more goes.
        "annotations": {
            **{name: value for name, value in kept.get("annotations", {}).items() if not name.startswith(f"{GROUP}/")},
            **{name: value for name, value in new["annotations"].items() if name.startswith(f"{GROUP}/")},
        },
    }
    return {**live, "metadata": metadata, "spec": {**live["spec"], **wanted["spec"]}}


def _not_begun(plan: Plan, error: NotReadyError) -> MlfnError:
    limit = float(Nuclio(**plan.kind.options).ready_timeout)
    trouble = error.trouble
    why = (
        trouble.words
        if trouble is not None
        else f"it was not ready within {limit:g} seconds (Nuclio(ready_timeout=...))"
    )
    said = f" It said:\n{error.said}" if error.said else ""
    text = f"The service {plan.name} did not begin: {why.rstrip('.')}. The version before it, if there was one, goes on.{said}"
    kind: Any = getattr(errors, (trouble.error if trouble else "") or "", None)
    # Code that cannot be loaded there is no fault of the service.
    made: MlfnError = kind(text) if kind in (errors.SkewError, errors.RebuildError) else ServiceError(text)
    return made


def _waits(pod: Mapping[str, Any]) -> Trouble | None:
    from mlfn.backends.places.kubernetes.words import waiting_for

    waiting = waiting_for(pod)
    return None if waiting is None else Trouble(waiting.sort, f"one waits for {waiting.words}")


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", ())
    is_ready = any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)
    return is_ready and "deletionTimestamp" not in pod["metadata"]
