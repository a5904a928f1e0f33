"""What engines on Kubernetes have in common: labels, references to secrets, resources. Pure."""

from __future__ import annotations

import re
import sys
from typing import Any

from mlfn.settings.secrets import Secret, variables_of
from mlfn.spec.plan import Plan

SECRET_KEY = "value"  # noqa: S105 - a name
"""The key of a Secret that a reference without a key means."""
_MOST_LABEL = 63


def image_of(plan: Plan) -> str:
    """Return the image that a plan asks for, or the plain one of this Python."""
    return plan.image or "python:{}.{}-slim".format(*sys.version_info)


def label_value(text: str) -> str:
    """Return a text as a label may hold it: letters, digits, '-', '_' and '.', one of the first two at both ends."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", text)[:_MOST_LABEL]
    return plain.strip("-_.")


def secret_variable(wanted: Secret) -> dict[str, Any]:
    """Return the environment variable by which a run gets a secret: the kubelet reads the value, nobody else."""
    _, variable = variables_of(wanted)
    reference = {"name": secret_name(wanted.name), "key": wanted.key or SECRET_KEY}
    return {"name": variable, "valueFrom": {"secretKeyRef": reference}}


def secret_name(name: str) -> str:
    """Return what a secret is called in the cluster, whose names have small letters, digits, '-' and '.' alone."""
    return name.lower().replace("_", "-")


def resources(plan: Plan) -> dict[str, Any]:
    """Return what a container asks for, as requests and limits."""
    wanted: dict[str, str] = {}
    if plan.cpu:
        wanted["cpu"] = f"{round(plan.cpu * 1000)}m"
    if plan.mem:
        wanted["memory"] = str(plan.mem)
    if plan.gpus:
        wanted["nvidia.com/gpu"] = str(plan.gpus)
    return {"requests": dict(wanted), "limits": dict(wanted)} if wanted else {}
