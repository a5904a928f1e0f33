"""Executions as objects of operators, which make pods of them: one run each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mlfn.backends.places.kubernetes.place import KubernetesPlace


class OperatorPlace(KubernetesPlace):
    """Objects of operators, each with one run."""

    CAPABILITIES = replace(KubernetesPlace.CAPABILITIES, max_units=1, window="client", counts_failures=False)

    @staticmethod
    def target(
        *, namespace: str | None = None, context: str | None = None, kubeconfig: str | None = None, **_: Any
    ) -> Mapping[str, Any]:
        """Return what to connect to; the options of a kind and of pods are the plan's."""
        return KubernetesPlace.target(namespace=namespace, context=context, kubeconfig=kubeconfig)
