"""What a user of a namespace has to be allowed, and nothing more. Pure."""

from __future__ import annotations

from typing import Any

RULES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("batch", "jobs", ("create", "get", "patch", "delete")),
    ("", "secrets", ("create",)),
    ("", "configmaps", ("create",)),
    ("", "pods", ("list", "watch", "delete")),
    ("", "pods/log", ("get",)),
    ("", "events", ("list",)),
)
"""API group, resource and verbs of each request that a place makes."""


def role(namespace: str) -> dict[str, Any]:
    """Return the Role with exactly the verbs that runs in a namespace take."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "mlfn", "namespace": namespace},
        "rules": [
            {"apiGroups": [group], "resources": [resource], "verbs": list(verbs)} for group, resource, verbs in RULES
        ],
    }
