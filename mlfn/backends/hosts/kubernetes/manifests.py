"""What is created for a service, as plain manifests: Deployment, Service, Secrets, and what scales it. Pure."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from mlfn._version import __version__
from mlfn.backends.hosts.base import VersionRecord
from mlfn.backends.kinds.nuclio.configuration import function_name
from mlfn.backends.kinds.nuclio.options import Nuclio
from mlfn.backends.kinds.nuclio.triggers import Mqtt
from mlfn.backends.kinds.pods import SECRET_KEY, label_value, secret_name
from mlfn.backends.places.kubernetes.objects import GROUP, Wanted, pod_spec
from mlfn.errors import OptionError
from mlfn.host.frozen import frozen
from mlfn.settings.secrets import Secret
from mlfn.spec.plan import Plan

SERVICE = f"{GROUP}/service"
"""The label of all that belongs to a service; its value is the service's name in the cluster."""
RELEASE = f"{GROUP}/release"
"""The label of pods: which version of the service they are, and which try to deploy it."""
PORT = 8080
_REQUIREMENTS = ("uvicorn", "httptools", "nuclio-sdk", "pydantic")
_OF_BROKERS = {"mqtt": "paho-mqtt", "nats": "nats-py"}
TOKEN = "MLFN_SERVICE_TOKEN"  # noqa: S105 - the name of a variable
_PASSWORD = "MLFN_TRIGGER_PASSWORD_{}"  # noqa: S105
DRAIN = 3
"""Seconds for which a pod that is to end takes further requests: so long the cluster may go on sending some to it."""
_PROBE = "/__internal/health"


@frozen
class Release:
    """One version of a service that is to be deployed; `secret` is the name of the Secret with its code."""

    plan: Plan
    namespace: str
    secret: str
    bundle: str
    grace: float
    replicas: int
    versions: tuple[VersionRecord, ...]

    @property
    def kind(self) -> Nuclio:
        """The options of its kind."""
        return Nuclio(**self.plan.kind.options)

    @property
    def name(self) -> str:
        """What the service is called in the cluster."""
        return service_name(self.plan.project, self.plan.name)


def service_name(project: str, name: str) -> str:
    """Return what a service is called in the cluster: a DNS label that begins with a letter."""
    found = function_name(project, name)
    return found if found[0].isalpha() else f"mlfn-{found}"


def requirements(kind: Nuclio) -> list[str]:
    """Return what the server needs in a pod beside mlfn itself; an image that has them is left as it is."""
    named = {trigger.KIND for trigger in kind.named_triggers.values()}
    return [*_REQUIREMENTS, *(package for name, package in _OF_BROKERS.items() if name in named)]


def password_variables(kind: Nuclio) -> dict[str, str]:
    """Return in which variables a pod has the passwords of triggers, by the triggers' names."""
    return {name: _PASSWORD.format(number) for number, name in enumerate(sorted(kind.passwords))}


def token_secret(name: str) -> str:
    """Return the name of the Secret with the token of a service that names none."""
    return f"{name}-token"


def token_reference(kind: Nuclio, name: str) -> dict[str, str]:
    """Return where the cluster has the token of a service."""
    token = kind.http.token
    if token is None:
        return {"name": token_secret(name), "key": SECRET_KEY}
    return _reference(token)


def deployment(release: Release) -> dict[str, Any]:
    """Return the Deployment; it owns all the rest."""
    kind = release.kind
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**_metadata(release.plan, release.namespace, release.name), "annotations": _annotations(release)},
        "spec": {
            "replicas": release.replicas,
            "revisionHistoryLimit": 2,
            "progressDeadlineSeconds": max(1, math.ceil(float(kind.ready_timeout))),
            "selector": {"matchLabels": {SERVICE: release.name}},
            # The version before goes on until this one is ready.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": _template(release),
        },
    }


def _annotations(release: Release) -> dict[str, str]:
    plan, token = release.plan, release.kind.http.token
    found = {
        f"{GROUP}/function": plan.name,
        f"{GROUP}/project": plan.project,
        f"{GROUP}/version": __version__,
        f"{GROUP}/versions": json.dumps([asdict(item) for item in release.versions]),
        f"{GROUP}/replicas": json.dumps(release.kind.bounds),
    }
    return found if token is None else {**found, f"{GROUP}/token": json.dumps({"name": token.name, "key": token.key})}


def _template(release: Release) -> dict[str, Any]:
    kind = release.kind
    container = {
        "ports": [{"name": "http", "containerPort": PORT}],
        "env": [
            {"name": name, "valueFrom": {"secretKeyRef": reference}} for name, reference in _secret_variables(release)
        ],
        "readinessProbe": {
            "httpGet": {"path": _PROBE, "port": "http"},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
            "failureThreshold": 2,
        },
        # Not by `sleep`, which an image with nothing but Python lacks.
        "lifecycle": {"preStop": {"exec": {"command": ["python", "-c", f"import time; time.sleep({DRAIN})"]}}},
    }
    spec: dict[str, Any] = {"restartPolicy": "Always"}
    if kind.service_account:
        spec |= {"serviceAccountName": kind.service_account, "automountServiceAccountToken": True}
    wanted = Wanted(release.secret, release.namespace, release.plan, "", release.grace + DRAIN)
    made = pod_spec(wanted, release.bundle, container=container, spec=spec)
    made["securityContext"] |= kind.security_context
    return {
        "metadata": {
            "labels": {**_labels(release.plan, release.name), RELEASE: release.secret.removeprefix(f"{release.name}-")}
        },
        "spec": made,
    }


def _secret_variables(release: Release) -> Iterator[tuple[str, dict[str, str]]]:
    kind = release.kind
    yield TOKEN, token_reference(kind, release.name)
    for name, variable in password_variables(kind).items():
        yield variable, _reference(kind.passwords[name])


def _reference(secret: Secret) -> dict[str, str]:
    return {"name": secret_name(secret.name), "key": secret.key or SECRET_KEY}


def service(release: Release, owner: str) -> dict[str, Any]:
    """Return the Service, by which the pods are reached under one name."""
    kind = release.kind
    port: dict[str, Any] = {"name": "http", "port": PORT, "targetPort": "http"}
    if kind.service_type == "NodePort" and kind.http.port:
        port["nodePort"] = kind.http.port
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _owned(release, release.name, owner),
        "spec": {"type": kind.service_type, "selector": {SERVICE: release.name}, "ports": [port]},
    }


def scaler(release: Release, owner: str) -> dict[str, Any] | None:
    """Return what has the cluster choose the number of pods by their load; None where that number is fixed."""
    kind = release.kind
    least, most = kind.bounds
    if least == most:
        return None
    target = {"type": "Utilization", "averageUtilization": kind.target_cpu}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _owned(release, release.name, owner),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": release.name},
            "minReplicas": least,
            "maxReplicas": most,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        },
    }


def code(release: Release, content: Mapping[str, bytes], owner: str) -> dict[str, Any]:
    """Return the Secret with the code of one version."""
    made = _secret(release, release.secret, content, owner)
    return {**made, "immutable": True}


def token(release: Release, value: str, owner: str) -> dict[str, Any]:
    """Return the Secret with the token of a service that names none."""
    return _secret(release, token_secret(release.name), {SECRET_KEY: value.encode()}, owner)


def _secret(release: Release, name: str, content: Mapping[str, bytes], owner: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _owned(release, name, owner),
        "data": {key: base64.b64encode(data).decode() for key, data in content.items()},
    }


def _owned(release: Release, name: str, owner: str) -> dict[str, Any]:
    """Return the metadata of what goes with the Deployment."""
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": release.name, "uid": owner}
    made = _metadata(release.plan, release.namespace, release.name)
    return {**made, "name": name, "ownerReferences": [reference]}


def _metadata(plan: Plan, namespace: str, name: str) -> dict[str, Any]:
    return {"name": name, "namespace": namespace, "labels": _labels(plan, name)}


def _labels(plan: Plan, name: str) -> dict[str, str]:
    return {
        SERVICE: name,
        f"{GROUP}/function": label_value(plan.name),
        f"{GROUP}/project": label_value(plan.project),
        "app.kubernetes.io/managed-by": "mlfn",
    }


def check(plan: Plan) -> None:
    """Raise OptionError for what a Deployment of the embedded server cannot do."""
    kind = Nuclio(**plan.kind.options)
    least, most = kind.bounds
    named = {trigger.KIND for trigger in kind.named_triggers.values()}
    if least == 0:
        raise _refused(
            plan, f"replicas={(least, most)}", "nothing starts a Deployment that is at 0", f"replicas=(1, {most})"
        )
    if least < most and not plan.cpu:
        raise OptionError(
            f"{plan.name} has replicas={(least, most)}, between which the cluster chooses by the share of cpu= that its pods use: "
            "say how much one asks for, as in @mlfn.function(cpu=0.5, ...)."
        )
    if "cron" in named and most > 1:
        raise _refused(
            plan, f"replicas={(least, most)} and mlfn.Cron", "each of its pods would keep the schedule", "replicas=1"
        )
    unshared = [
        topic
        for trigger in kind.named_triggers.values()
        if isinstance(trigger, Mqtt)
        for topic in trigger.topics
        if not topic.startswith("$share/")
    ]
    if unshared and most > 1:
        raise _refused(
            plan,
            f"replicas={(least, most)} and mlfn.Mqtt of {unshared[0]!r}",
            "each of its pods would get each message",
            f"replicas=1, or a shared subscription, as in topics=['$share/{plan.name}/{unshared[0]}']",
        )
    if kind.prebuilt or kind.build_commands:
        raise _refused(
            plan, "prebuilt= or build_commands=", "it builds no image", "image= with what the function needs"
        )
    if kind.http.ingresses:
        name = service_name(plan.project, plan.name)
        raise _refused(
            plan, "Http(ingresses=...)", "it makes no Ingress", f"an Ingress of your own for the Service {name}"
        )


def _refused(plan: Plan, what: str, why: str, instead: str) -> OptionError:
    return OptionError(
        f"{plan.name} has {what}, which Nuclio(engine='deployment') cannot honour: {why}; use {instead}."
    )


def token_of(annotations: Mapping[str, str]) -> Secret | None:
    """Return the secret that a deployed service's requests have to bring, where the function names one."""
    kept = annotations.get(f"{GROUP}/token")
    return None if kept is None else Secret(**json.loads(kept))
