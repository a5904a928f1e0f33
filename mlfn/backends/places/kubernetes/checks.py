"""What `mlfn doctor --on kubernetes` asks of a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mlfn.backends.places.kubernetes.connection import ApiError, Connection, UnreachableError
from mlfn.backends.places.kubernetes.roles import RULES

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_NEARLY = 0.9  # of a quota

Check = tuple[str, str, str]
"""Name, verdict (``"ok"``, ``"note"`` or ``"fails"``) and words."""


def checks(connection: Connection) -> Iterator[Check]:
    """Yield whether the cluster answers, what its user may do, and what its quotas leave; nothing is created."""
    namespace = connection.namespace
    try:
        version = connection.get("/version")["gitVersion"]
    except (ApiError, UnreachableError) as error:
        yield (
            "cluster",
            "fails",
            f"no answer of {connection.host}: {error}. Is it the right one? kubectl config current-context",
        )
        return
    yield "cluster", "ok", f"Kubernetes {version} at {connection.host}, namespace {namespace}"
    try:
        yield _permissions(connection, namespace)
        yield _quotas(connection, namespace)
    except UnreachableError as error:
        yield "cluster", "fails", f"{connection.host} does not answer any more: {error}."


def _permissions(connection: Connection, namespace: str) -> Check:
    lacking = [
        f"{verb} {resource}{f'.{group}' * bool(group)}"
        for group, resource, verbs in RULES
        for verb in verbs
        if not _is_allowed(connection, namespace, group, resource, verb)
    ]
    if not lacking:
        return "permissions", "ok", f"all that runs take in namespace {namespace}"
    words = f"this user may not {', '.join(lacking)} in namespace {namespace}. An administrator types: mlfn rbac --namespace {namespace}"
    return "permissions", "fails", f"{words} | kubectl apply -f -, and binds that Role to the user."


def _is_allowed(connection: Connection, namespace: str, group: str, resource: str, verb: str) -> bool:
    name, _, below = resource.partition("/")
    asked = {"namespace": namespace, "group": group, "resource": name, "subresource": below, "verb": verb}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    answer = connection.post(_REVIEWS, {**review, "spec": {"resourceAttributes": asked}})
    return bool(answer["status"]["allowed"])


def _quotas(connection: Connection, namespace: str) -> Check:
    try:
        found = connection.get(f"/api/v1/namespaces/{namespace}/resourcequotas")["items"]
    except ApiError as error:
        return (
            "quota",
            "note",
            f"cannot be read ({error.message}); a run that one keeps from starting says so while it waits.",
        )
    used = [
        (
            f"{name} {status.get('used', {}).get(name, '0')} of {hard}",
            _number(status.get("used", {}).get(name, "0")),
            _number(hard),
        )
        for status in (item.get("status", {}) for item in found)
        for name, hard in status.get("hard", {}).items()
    ]
    full = [words for words, taken, hard in used if hard is not None and taken is not None and taken >= _NEARLY * hard]
    if full:
        return "quota", "note", f"nearly used up: {', '.join(full)}; runs wait until there is room."
    return "quota", "ok", ", ".join(words for words, *_ in used) or f"namespace {namespace} has none"


def _number(quantity: Any) -> float | None:
    """Return a quantity of Kubernetes as a number."""
    from kubernetes.utils import quantity as quantities

    library: Any = quantities  # untyped

    try:
        return float(library.parse_quantity(quantity))
    except ValueError:
        return None
