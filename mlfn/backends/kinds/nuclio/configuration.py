"""A function's configuration as Nuclio takes it (``apiVersion: nuclio.io/v1``), from its plan. Pure."""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from mlfn._version import __version__
from mlfn.backends.kinds.nuclio.triggers import AnyTrigger, shown_duration
from mlfn.backends.kinds.pods import label_value, resources, secret_variable
from mlfn.spec.plan import Plan

MODULE = "mlfn_handler"
_IN_IMAGE = "mlfn.serving.deployed:handler"
CODE = "MLFN_SERVICE_CODE"
"""The variable with the code of a function that Nuclio runs on a cluster."""
TOKEN = "MLFN_SERVICE_TOKEN"  # noqa: S105 - the name of a variable
# A byte that is no UTF-8 would otherwise fail the request, with a traceback to the client.
RAW = {"name": "NUCLIO_PYTHON_DECODE_EVENT_STRINGS", "value": "no"}
_SHORTEST_LIMIT = 10  # seconds; below it the engine's clock ends good requests
_SPARE = 5  # seconds that its own time limit comes after mlfn's
_LABEL = "mlfn.io"
_RUNTIMES = ((3, 9), (3, 10), (3, 11), (3, 12))

# The engine finds `init_context` in the module of `handler`, and takes a plain name alone.
SOURCE = '''"""{name}, as mlfn {version} deploys it."""

from mlfn.serving.processor import Service

service = Service("{payload}")


def init_context(context):
    service.start(context)


def handler(context, event):
    return service.handle(context, event)
'''


class Declared(Protocol):
    """What is declared of a function of this kind: the options of `mlfn.Nuclio`."""

    @property
    def bounds(self) -> tuple[int, int]: ...
    @property
    def named_triggers(self) -> Mapping[str, AnyTrigger]: ...
    @property
    def workers(self) -> int: ...
    @property
    def target_cpu(self) -> int: ...
    @property
    def ready_timeout(self) -> float | str: ...
    @property
    def prebuilt(self) -> bool: ...
    @property
    def build_commands(self) -> Sequence[str]: ...
    @property
    def service_type(self) -> str: ...
    @property
    def service_account(self) -> str | None: ...
    @property
    def security_context(self) -> Mapping[str, Any]: ...


def configuration(kind: Declared, plan: Plan) -> dict[str, Any]:
    """Return the configuration of a planned function."""
    least, most = kind.bounds
    spec: dict[str, Any] = {
        "description": f"{plan.name}, version {plan.function[:12]}, by mlfn {__version__}",
        "handler": _IN_IMAGE if kind.prebuilt else f"{MODULE}:handler",
        "runtime": runtime(),
        "minReplicas": least,
        "maxReplicas": most,
        "targetCPU": kind.target_cpu,
        "readinessTimeoutSeconds": round(float(kind.ready_timeout)),
        "triggers": {
            name: _trigger(name, trigger, kind.workers, plan) for name, trigger in kind.named_triggers.items()
        },
        "disableDefaultHTTPTrigger": True,
        "serviceType": kind.service_type,
        # The default level prints the whole configuration.
        "loggerSinks": [{"level": "info"}],
        **_code(kind, plan),
        **_environment(plan),
        **_placement(plan),
    }
    if plan.timeout:
        spec["eventTimeout"] = shown_duration(max(plan.timeout + _SPARE, _SHORTEST_LIMIT))
    if kind.service_account:
        spec["serviceAccount"] = kind.service_account
    if kind.security_context:
        spec["securityContext"] = dict(kind.security_context)
    return {
        "apiVersion": "nuclio.io/v1",
        "kind": "NuclioFunction",
        "metadata": {
            "name": function_name(plan.project, plan.name),
            "labels": {
                "nuclio.io/project-name": "default",
                f"{_LABEL}/function": label_value(plan.name),
                f"{_LABEL}/project": label_value(plan.project),
            },
            # A label that changes would part a deployment from its pods.
            "annotations": {f"{_LABEL}/hash": plan.function},
        },
        "spec": spec,
    }


def function_name(project: str, name: str) -> str:
    """Return what a function is called at the engine: a DNS label; another name in other letters gets a digest."""
    plain = re.sub(r"[^a-z0-9]+", "-", f"{project}-{name}".lower()).strip("-")
    if plain == f"{project}-{name}" and len(plain) <= 56:
        return plain
    digest = hashlib.sha256(f"{project}/{name}".encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{plain[:49].strip('-') or 'function'}-{digest}"


def runtime() -> str:
    """Return the engine's name of this Python, or of the nearest that it has."""
    here = min(max(sys.version_info[:2], _RUNTIMES[0]), _RUNTIMES[-1])
    return f"python:{here[0]}.{here[1]}"


def _code(kind: Declared, plan: Plan) -> dict[str, Any]:
    if kind.prebuilt:
        # `mode: neverBuild` is refused for a new function; an image is pulled each time unless this says otherwise.
        return {"image": plan.image, "imagePullPolicy": "IfNotPresent", "build": {"codeEntryType": "image"}}
    source = SOURCE.format(name=plan.name, version=__version__, payload=plan.payload)
    install = f"pip install --no-cache-dir 'mlfn[nuclio]=={__version__}'"
    build: dict[str, Any] = {
        "codeEntryType": "sourceCode",
        "functionSourceCode": base64.b64encode(source.encode()).decode(),
        "commands": [*kind.build_commands, install],
    }
    if plan.requirements:
        quoted = shlex.join(plan.requirements)
        build["commands"].append(f"pip install --no-cache-dir {quoted}")
    if plan.image:
        build["baseImage"] = plan.image
    return {"build": build}


def _environment(plan: Plan) -> dict[str, Any]:
    env: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in sorted(plan.env.items())]
    return {"env": [*env, *map(secret_variable, plan.secrets), RAW], "resources": resources(plan)}


def _placement(plan: Plan) -> dict[str, Any]:
    node: Mapping[str, Any] = plan.node or {}
    found = {
        "nodeSelector": node.get("selector"),
        "affinity": node.get("affinity"),
        "tolerations": node.get("tolerations"),
        "priorityClassName": node.get("priority"),
        "preemptionMode": {"allow": "allow", "prevent": "prevent", "require": "constrain"}.get(str(node.get("spot"))),
    }
    return {name: value for name, value in found.items() if value}


def _trigger(name: str, trigger: AnyTrigger, workers: int, plan: Plan) -> dict[str, Any]:
    own = trigger.own()
    attributes = {**own.pop("attributes", {}), **trigger.attributes}
    made = {
        "kind": trigger.KIND,
        "name": name,
        "numWorkers": trigger.workers or workers,
        "workerAvailabilityTimeoutMilliseconds": round(float(trigger.wait) * 1000),
        **own,
        "attributes": attributes,
    }
    if plan.timeout:
        made["workerTerminationTimeout"] = shown_duration(max(plan.timeout, _SHORTEST_LIMIT))
    return made


def with_passwords(triggers: Mapping[str, Any], passwords: Mapping[str, str]) -> dict[str, Any]:
    """Return triggers with the values of their passwords, by the triggers' names, for the references."""
    return {name: _with_password(item, passwords.get(name)) for name, item in triggers.items()}


def _with_password(trigger: Mapping[str, Any], value: str | None) -> dict[str, Any]:
    if value is None:
        return dict(trigger)
    if "password" in trigger:
        return {**trigger, "password": value}
    attributes = {name: item for name, item in trigger["attributes"].items() if name != "password"}
    return {**trigger, "attributes": {**attributes, "sasl": {**attributes["sasl"], "password": value}}}
