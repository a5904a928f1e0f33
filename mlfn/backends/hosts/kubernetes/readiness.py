"""Why pods of a service are not ready, in the cluster's words and their own. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mlfn.backends.places.kubernetes.objects import CONTAINER
from mlfn.backends.places.kubernetes.words import End, container_of, explain, taken_away, waiting_for, without_pod
from mlfn.host.frozen import frozen
from mlfn.spec.plan import Plan
from mlfn.spec.record import Reason

PATIENCE: Mapping[str, float] = {"image": 20.0, "start": 10.0, "refused": 5.0, "ended": 0.0}
"""Seconds after which nothing better is to be expected; for room and quota as long as `ready_timeout` says."""


@frozen
class Trouble:
    """What keeps a pod from being ready: of which sort, in which words; `error` is the type of what was raised there."""

    sort: str
    words: str
    error: str = ""
    pod: str | None = None
    restarted: bool = False

    def is_final(self, seconds: float) -> bool:
        """Return whether it will not pass, after so many seconds of it."""
        return seconds >= PATIENCE.get(self.sort, float("inf"))


def trouble_of(plan: Plan, pod: Mapping[str, Any]) -> Trouble | None:
    """Return what keeps a pod from being ready; None where it is ready, or begins."""
    name = pod["metadata"]["name"]
    container: Mapping[str, Any] = container_of(pod) or {}
    state = container.get("state", {})
    ended = state.get("terminated") or container.get("lastState", {}).get("terminated")
    if ended is not None:
        words, error = _said(plan, pod, ended)
        return Trouble("ended", words, error, name, restarted="terminated" not in state)
    waiting = waiting_for(pod)
    return None if waiting is None else Trouble(waiting.sort, f"it waits for {waiting.words}", pod=name)


def _said(plan: Plan, pod: Mapping[str, Any], ended: Mapping[str, Any]) -> tuple[str, str]:
    """Return what a server that ended says of that, and the type of the error; else what its container says."""
    try:
        said = json.loads(ended.get("message") or "{}")
    except ValueError:
        said = {}
    if isinstance(said, dict) and "error" in said:
        return str(said["error"]).strip().splitlines()[-1], str(said.get("kind") or "")  # the log has the traceback
    error = "SkewError" if isinstance(said, dict) and "wanted" in said else ""
    return f"its pod{_end(plan, pod, ended).message}", error


def last_end(plan: Plan, pod: Mapping[str, Any]) -> tuple[Reason, str] | None:
    """Return why a pod is taken away, or its container has ended last; None where neither holds."""
    if (taken := taken_away(pod)) is not None:
        return taken.reason, taken.message
    container: Mapping[str, Any] = container_of(pod) or {}
    ended = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated")
    if ended is None:
        return None
    end = _end(plan, pod, ended)
    return end.reason, end.message


def _end(plan: Plan, pod: Mapping[str, Any], ended: Mapping[str, Any]) -> End:
    status = {**pod["status"], "containerStatuses": [{"name": CONTAINER, "state": {"terminated": ended}}]}
    return explain(plan, {**pod, "status": status}, is_deleted=False)


def trouble_of_deployment(found: Mapping[str, Any]) -> Trouble | None:
    """Return why a Deployment cannot make pods."""
    conditions = found.get("status", {}).get("conditions", ())
    failure = next((item for item in conditions if item["type"] == "ReplicaFailure" and item["status"] == "True"), None)
    if failure is None:
        return None
    waiting = without_pod(str(failure.get("message", "")))
    return Trouble(waiting.sort, f"it waits for {waiting.words}")
