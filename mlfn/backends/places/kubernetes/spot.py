"""Spot nodes, as the large clouds label and taint them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LABELS: Mapping[str, str] = {
    "cloud.google.com/gke-spot": "true",
    "cloud.google.com/gke-provisioning": "spot",
    "eks.amazonaws.com/capacityType": "SPOT",
    "karpenter.sh/capacity-type": "spot",
    "kubernetes.azure.com/scalesetpriority": "spot",
}
"""Of the nodes of Google, of Amazon, of Karpenter and of Azure; a taint, where there is one, has the same key and value."""


def tolerations() -> list[dict[str, str]]:
    """Return what lets a pod run on spot nodes."""
    return [
        {"key": name, "operator": "Equal", "value": value, "effect": "NoSchedule"} for name, value in _LABELS.items()
    ]


def affinity(spot: str) -> dict[str, Any]:
    """Return the node affinity of a pod that requires spot nodes, or that prevents them."""
    if spot == "require":
        terms = [{"matchExpressions": [_expression("In", name)]} for name in _LABELS]  # one of them will do
    else:
        terms = [{"matchExpressions": [_expression("NotIn", name) for name in _LABELS]}]
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}


def _expression(operator: str, name: str) -> dict[str, Any]:
    return {"key": name, "operator": operator, "values": [_LABELS[name]]}
