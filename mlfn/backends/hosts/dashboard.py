"""Services that Nuclio itself runs on a cluster, deployed through its dashboard."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, ClassVar

from mlfn.backends.hosts.base import ServiceRecord, State, VersionRecord
from mlfn.backends.hosts.checks import not_found, refuse_others
from mlfn.backends.hosts.dashboard_api import LOGIN, Dashboard, RefusedError, UnansweredError
from mlfn.backends.hosts.server_options import ServerOptions
from mlfn.backends.kinds.nuclio.configuration import CODE, TOKEN, configuration, function_name, with_passwords
from mlfn.backends.kinds.nuclio.options import Nuclio
from mlfn.backends.kinds.pods import SECRET_KEY, secret_name
from mlfn.backends.places.base import PlaceConfig
from mlfn.code.envelope import derive, pin_of
from mlfn.errors import OptionError, SecretNotFoundError, ServiceError
from mlfn.host.identity import now
from mlfn.settings.secrets import Secret, read_secret
from mlfn.spec.plan import Plan

_GROUP = "mlfn.io"
_KEPT = 10  # versions that a rollback may return to
_MOST_CODE = 96 * 1024  # bytes of a variable of a process's environment, of which Linux takes 128 KiB
_LOOK = 1.0  # seconds between looks at what is being deployed
_BUILD = 1800.0  # seconds for which an image may be built
_TRIES = 5
_LAST = 4000  # characters of a builder's log
_READY = ("ready", "scaledToZero")
_TERMINAL = (*_READY, "error", "unhealthy", "imported")
_BUILDS = ("waitingForBuild", "building")
_MOST_REPLICAS = 256
_STACK = ("...", "Call stack:")  # places in Nuclio's own code
_ACCESS = re.compile(rb'\{"time": "[^"]*", "method": "')


class DashboardHost:
    """The services of one namespace of Nuclio."""

    SPARE: ClassVar[float] = 20.0
    """Seconds that are waited longer than Nuclio itself waits: it says why a function is not ready."""

    def __init__(self, config: PlaceConfig, *, namespace: str | None = None, **_: Any) -> None:
        if not config.dashboard:
            raise OptionError(
                "Nuclio(engine='dashboard') needs the address of Nuclio's dashboard: set MLFN_NUCLIO_DASHBOARD, as in "
                "http://127.0.0.1:8070 with `kubectl port-forward service/nuclio-dashboard 8070`."
            )
        self._config = config
        self._api = Dashboard(config.dashboard, namespace=namespace or "nuclio", token=self._found(Secret(LOGIN)))

    def deploy(self, plan: Plan, *, again: bool = False) -> tuple[ServiceRecord, bool]:
        """Have Nuclio build and run a plan, and return its service once it is ready, and whether that was to be done."""
        name = function_name(plan.project, plan.name)
        with self._asked(f"{plan.name} cannot be deployed"):
            for left in reversed(range(_TRIES)):
                live = self._api.function(name)
                if live is not None:
                    refuse_others(live, plan, f"Nuclio's function {name}")
                    live = self._settled(plan, live)
                    record = record_of(live)
                    if not again and record.state == "ready" and record.version.hash == plan.function:
                        return record, False
                try:
                    self._put(plan, live)
                except RefusedError as error:
                    if error.status in (409, 412) and left:  # another client is at it: what it does is looked at
                        time.sleep(_LOOK)
                        continue
                    raise
                return self._ready(plan, name), True
        raise AssertionError

    def _put(self, plan: Plan, live: Mapping[str, Any] | None) -> None:
        wanted = self.wanted(plan, record_of(live).versions if live is not None else ())
        if live is None:
            self._api.create(wanted, wanted["metadata"]["labels"]["nuclio.io/project-name"])
            return
        # Labels part a deployment from its pods where they change; a version of another state is refused.
        wanted["metadata"]["labels"] = live["metadata"].get("labels", wanted["metadata"]["labels"])
        if "resourceVersion" in live["metadata"]:
            wanted["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
        self._api.update(wanted["metadata"]["name"], wanted)

    def wanted(self, plan: Plan, versions: tuple[VersionRecord, ...]) -> dict[str, Any]:
        """Return the function's configuration with what is not the plan's: its code, its token, and passwords of triggers."""
        kind = Nuclio(**plan.kind.options)
        made = configuration(kind, plan)
        number = versions[-1].number + 1 if versions else 1
        kept = (*versions, VersionRecord(number, plan.function, plan.hash, now()))[-_KEPT:]
        token = kind.http.token
        made["metadata"]["namespace"] = self._api.namespace
        made["metadata"]["annotations"] |= {
            f"{_GROUP}/function": plan.name,
            f"{_GROUP}/project": plan.project,
            f"{_GROUP}/versions": json.dumps([asdict(item) for item in kept]),
            **({} if token is None else {f"{_GROUP}/token": json.dumps({"name": token.name, "key": token.key})}),
        }
        spec = made["spec"]
        spec["env"] = [*spec["env"], {"name": CODE, "value": self._code(plan, kind)}, self._token_variable(plan, token)]
        passwords = {name: self._value(secret) for name, secret in kind.passwords.items()}
        spec["triggers"] = with_passwords(spec["triggers"], passwords)
        return made

    def _code(self, plan: Plan, kind: Nuclio) -> str:
        """Return the function's code, and what a server is told of it, as the text that the function's module reads."""
        payload = self._config.folder / "payloads" / plan.payload
        with payload.open("rb") as file:
            pin = pin_of(file, self._config.key)
        facts = {
            "payload": plan.payload,
            "pin": pin,
            "code": base64.b64encode(payload.read_bytes()).decode(),
            "secrets": [vars(secret) for secret in plan.secrets],
            "server": {
                **ServerOptions.of_plan(plan, kind),
                "host": "0.0.0.0",  # noqa: S104 - in a pod, behind a token
                "workers": kind.http.workers or kind.workers,
            },
        }
        text = base64.b64encode(zlib.compress(json.dumps(facts).encode(), 9)).decode()
        if len(text) > _MOST_CODE:
            raise OptionError(
                f"The code of {plan.name} takes {len(text) // 1024} KiB packed, and Nuclio gets {_MOST_CODE // 1024} KiB at most: "
                "`Function.check()` names what it captures. Load large values in init_context, put modules into requirements=, or "
                "leave engine= out: a Deployment takes 1 MiB."
            )
        return text

    def _token_variable(self, plan: Plan, token: Secret | None) -> dict[str, Any]:
        if token is None:
            return {"name": TOKEN, "value": self._derived(plan.project, plan.name)}
        reference = {"name": secret_name(token.name), "key": token.key or SECRET_KEY}
        return {"name": TOKEN, "valueFrom": {"secretKeyRef": reference}}

    # -- waiting
    def _ready(self, plan: Plan, name: str) -> ServiceRecord:
        """Wait until Nuclio has come to an end, and return the service; ServiceError where it is not ready."""
        live = self._settled(plan, self._api.function(name))
        if record_of(live).state == "ready":
            return record_of(live)
        time.sleep(_LOOK)  # what its pods say comes after the state
        raise ServiceError(self._not_begun(plan, self._api.function(name) or live))

    def _settled(self, plan: Plan, live: dict[str, Any] | None) -> dict[str, Any]:
        """Return a function once its state is one that does not change by itself."""
        limit = float(Nuclio(**plan.kind.options).ready_timeout)
        name = function_name(plan.project, plan.name)
        begun, spent, last = time.monotonic(), 0.0, time.monotonic()
        unanswered: Exception | None = None
        while True:
            if live is None and unanswered is None:
                raise ServiceError(f"The service {plan.name} did not begin: it was deleted, and not by mlfn.")
            state = _state_of(live) if live is not None else ""
            if unanswered is None and state in _TERMINAL:
                assert live is not None
                return live
            if state not in _BUILDS:
                spent += time.monotonic() - last
            last = time.monotonic()
            if spent > limit + self.SPARE or last - begun > limit + _BUILD:
                if unanswered is not None:
                    raise UnansweredError(str(unanswered)) from unanswered
                assert live is not None
                raise ServiceError(
                    f"The service {plan.name} was not ready within {limit:g} seconds (Nuclio(ready_timeout=...)): Nuclio says {state!r}. "
                    f"It goes on; `mlfn undeploy {plan.name}` ends it.{_said(live)}"
                )
            time.sleep(_LOOK)
            try:
                live, unanswered = self._api.function(name), None
            except UnansweredError as error:  # Nuclio goes on without this client
                unanswered = error

    def _not_begun(self, plan: Plan, live: Mapping[str, Any]) -> str:
        message = str(live.get("status", {}).get("message") or "").strip()
        words = f"The service {plan.name} did not begin: Nuclio's state of it is {_state_of(live)!r}"
        image = live["spec"].get("image") or plan.image
        if any(sign in message for sign in ("ImagePull", "ErrImage", "pull image", "manifest unknown")):
            words = f"The service {plan.name} did not begin: its image {image} cannot be pulled"
        return f"{words}. `mlfn undeploy {plan.name}` removes it.{_said(live)}"

    # -- what is there
    def find(self, project: str, name: str) -> ServiceRecord | None:
        """Return a service as it is now."""
        with self._asked("Services cannot be looked for"):
            live = self._api.function(function_name(project, name))
        record = None if live is None or not _is_ours(live) else record_of(live)
        return record if record is not None and (record.project, record.name) == (project, name) else None

    def list_services(self) -> list[ServiceRecord]:
        """Return all services of the namespace."""
        with self._asked("Services cannot be looked for"):
            found = [record_of(live) for live in self._api.functions() if _is_ours(live)]
        return sorted(found, key=lambda item: (item.project, item.name))

    def scale(self, project: str, name: str, replicas: int) -> ServiceRecord:
        """Have so many pods, and return once they are ready."""
        if isinstance(replicas, bool) or not isinstance(replicas, int) or not 1 <= replicas <= _MOST_REPLICAS:
            raise OptionError(f"scale({replicas!r}): a whole number from 1 to {_MOST_REPLICAS} is allowed.")
        with self._asked(f"{name} cannot be scaled"):
            live = self._api.function(function_name(project, name))
            if live is None:
                raise not_found(project, name, self._known(project))
            spec = {
                **live["spec"],
                "minReplicas": replicas,
                "maxReplicas": replicas,
                "build": {**live["spec"].get("build", {}), "mode": "neverBuild"},
            }
            spec.pop("replicas", None)
            self._api.update(live["metadata"]["name"], {"metadata": live["metadata"], "spec": spec})
            return self._wait(live["metadata"]["name"], name)

    def _wait(self, function: str, name: str) -> ServiceRecord:
        until = time.monotonic() + _BUILD
        while time.monotonic() < until:
            live = self._api.function(function)
            if live is not None and _state_of(live) in _TERMINAL:
                if _state_of(live) not in _READY:
                    raise ServiceError(
                        f"The service {name} is not ready: Nuclio says {_state_of(live)!r}.{_said(live)}"
                    )
                return record_of(live)
            time.sleep(_LOOK)
        raise ServiceError(f"The service {name} was not ready within {_BUILD:g} seconds.")

    def delete(self, project: str, name: str) -> None:
        """Have Nuclio end and forget it."""
        with self._asked(f"{name} cannot be deleted"):
            if self.find(project, name) is None:
                raise not_found(project, name, self._known(project))
            self._api.delete(function_name(project, name))

    def address(self, record: ServiceRecord) -> str:
        """Return where this process reaches a service: its address outside of the cluster, where it has one."""
        outside = record.handle["outside"]
        return f"http://{outside}" if outside and "KUBERNETES_SERVICE_HOST" not in os.environ else record.url

    def token(self, record: ServiceRecord) -> str | None:
        """Return the token that requests have to bring."""
        return (
            self._derived(record.project, record.name) if record.token is None else self._value(Secret(**record.token))
        )

    def lines(self, record: ServiceRecord, *, follow: bool, which: str) -> Iterator[str]:
        """Yield the lines of a log of all pods; with `follow`, of the first of them."""
        with self._asked(f"The log of {record.name} cannot be read"):
            replicas = self._api.replicas(record.handle["function"])
            for replica in replicas[:1] if follow else replicas:
                try:
                    for line in self._api.log(record.handle["function"], replica, follow=follow):
                        if bool(_ACCESS.match(line)) == (which == "access"):
                            yield line.decode("utf-8", "replace")
                except RefusedError as error:
                    if "not found" not in error.said:  # of a pod that is gone by now
                        raise

    def _known(self, project: str) -> list[str]:
        return [item.name for item in self.list_services() if item.project == project]

    def _derived(self, project: str, name: str) -> str:
        """Return a token that the holder of the user's signing key can work out."""
        return derive(self._config.key, f"token of function {self._api.namespace}/{project}/{name}").hex()

    def _value(self, secret: Secret) -> str:
        return read_secret(secret, environ=os.environ, file=self._config.secrets_file)

    def _found(self, secret: Secret) -> str | None:
        try:
            return self._value(secret)
        except SecretNotFoundError:
            return None

    @contextlib.contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        try:
            yield
        except RefusedError as error:
            raise self._api.refused(what, error) from error
        except UnansweredError as error:
            raise self._api.unanswered(what, error) from error


def record_of(live: Mapping[str, Any]) -> ServiceRecord:
    """Return the record of a function that mlfn has made: all that is known of it stands in its annotations and its status."""
    metadata, status = live["metadata"], live.get("status", {})
    annotations = metadata["annotations"]
    token = json.loads(annotations[f"{_GROUP}/token"]) if f"{_GROUP}/token" in annotations else None
    inside = status.get("internalInvocationUrls") or []
    # A dashboard that knows no address of its nodes gives the port of one alone.
    outside = [item for item in status.get("externalInvocationUrls") or () if not item.startswith(":")]
    plain = f"nuclio-{metadata['name']}.{metadata.get('namespace', 'nuclio')}.svc:8080"
    return ServiceRecord(
        name=annotations[f"{_GROUP}/function"],
        project=annotations[f"{_GROUP}/project"],
        host="kubernetes",
        state=_shown_state(live),
        url=f"http://{inside[0] if inside else plain}",
        replicas=int(live["spec"].get("replicas") or live["spec"].get("minReplicas") or 1),
        versions=tuple(VersionRecord(**item) for item in json.loads(annotations[f"{_GROUP}/versions"])),
        handle={"function": metadata["name"], "outside": outside[0] if outside else None},
        token=token,
    )


def _is_ours(live: Mapping[str, Any]) -> bool:
    return f"{_GROUP}/versions" in (live["metadata"].get("annotations") or {})


def _state_of(live: Mapping[str, Any]) -> str:
    return str(live.get("status", {}).get("state") or "")


def _shown_state(live: Mapping[str, Any]) -> State:
    state = _state_of(live)
    return "ready" if state in _READY else "ended" if state == "imported" else "failed"


def _said(live: Mapping[str, Any]) -> str:
    """Return what Nuclio says of a function: its message, and the end of the builder's log."""
    status = live.get("status", {})
    records = [item.get("message", "") for item in status.get("logs") or () if isinstance(item, Mapping)]
    details = [
        str(item.get("err") or item.get("error") or "")
        for item in status.get("logs") or ()
        if isinstance(item, Mapping)
    ]
    lines = [
        str(status.get("message") or ""),
        *(" ".join(filter(None, pair)) for pair in zip(records, details, strict=True)),
    ]
    words = [word.strip() for line in lines for word in line.splitlines()]
    text = "\n".join(dict.fromkeys(word for word in words if word and not word.startswith(_STACK)))
    return f" It said:\n{text[-_LAST:]}" if text else ""
