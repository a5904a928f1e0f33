"""What a user of a namespace has to be allowed for runs and services, and nothing more. Pure."""

from __future__ import annotations

from typing import Any

RULES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("batch", "jobs", ("create", "get", "list", "patch", "delete")),
    ("kubeflow.org", "mpijobs", ("create", "get", "list", "delete")),
    ("kubernetes.dask.org", "daskjobs", ("create", "get", "list", "delete")),
    ("sparkoperator.k8s.io", "sparkapplications", ("create", "get", "list", "delete")),
    ("kubernetes.dask.org", "daskclusters", ("create", "get")),
    ("kubernetes.dask.org", "daskautoscalers", ("create", "get")),
    ("apps", "deployments", ("create", "get", "list", "update", "delete")),
    ("autoscaling", "horizontalpodautoscalers", ("create", "patch", "deletecollection")),
    ("", "services", ("create", "patch", "deletecollection")),
    ("", "secrets", ("create", "patch", "delete", "deletecollection")),
    ("", "configmaps", ("create", "list", "delete")),
    ("", "pods", ("list", "watch", "delete")),
    ("", "pods/log", ("get",)),
    ("", "pods/portforward", ("create", "get")),
    ("", "events", ("list",)),
)
"""API group, resource and verbs of each request that a place or a host makes."""


def role(namespace: str) -> dict[str, Any]:
    """Return the Role with exactly the verbs that runs and services in a namespace take."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "mlfn", "namespace": namespace},
        "rules": [
            {"apiGroups": [group], "resources": [resource], "verbs": list(verbs)} for group, resource, verbs in RULES
        ],
    }
