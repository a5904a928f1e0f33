"""Why a pod waits and why it ended, as a reason and words. Pure."""

from __future__ import annotations

import json
import signal as signals
from collections.abc import Mapping
from typing import Any

from mlfn.backends.kinds.pods import image_of
from mlfn.backends.places.kubernetes.objects import CONTAINER
from mlfn.host.frozen import frozen
from mlfn.spec.plan import Plan
from mlfn.spec.record import Reason
from mlfn.spec.values import shown_bytes

_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
LIMITS: Mapping[str, float] = {
    "image": 120.0,
    "start": 60.0,
    "mount": 60.0,
    "volume": 600.0,
    "claim": 600.0,
    "creating": float("inf"),
    "room": float("inf"),
    "quota": float("inf"),
    "ranks": 600.0,
    "operator": 300.0,
    "refused": 60.0,
}
"""Seconds that a unit waits for each sort of thing before it fails; for room and quota as long as it takes."""
RANKS: Mapping[str, str] = {"room": "ranks", "quota": "ranks", "creating": "ranks"}
"""Sorts of waiting that end where a unit has several pods: those that have room keep it from others."""
_KILLED = 128
_SILENT = 15.0
# Of a Job and an MPIJob, of a DaskJob, of a SparkApplication.
_ENDS = {*("Failed", "Complete", "Succeeded"), "Successful", *("FAILED", "COMPLETED", "SUBMISSION_FAILED")}
_DELETED = ": its pod was deleted, and not by mlfn."


@frozen
class Waiting:
    """What a unit waits for: a sort of `LIMITS`, and words."""

    sort: str
    words: str


@frozen
class End:
    """How a unit ended that reported no outcome."""

    reason: Reason
    message: str
    exit_code: int | None = None
    signal: int | None = None
    deleted: bool = False


def waiting_for(pod: Mapping[str, Any]) -> Waiting | None:
    """Return what a pod waits for; None where its container runs or has run."""
    status = pod["status"]
    container = container_of(pod)
    state = container.get("state", {}) if container else {}
    if "running" in state or "terminated" in state:
        return None
    waits = state.get("waiting", {})
    reason, message = waits.get("reason", ""), waits.get("message", "")
    if reason in _IMAGE:
        return Waiting("image", f"its image: {_sentence(message) or reason}")
    if reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError"):
        return Waiting("start", f"its container, which cannot start: {_sentence(message) or reason}")
    conditions = {item["type"]: item for item in status.get("conditions", ())}
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        why = _sentence(scheduled.get("message", "")) or scheduled.get("reason", "")
        return Waiting("claim" if "persistentvolumeclaim" in why else "room", f"a node: {why}")
    if not scheduled:
        return Waiting("room", "a node")
    return Waiting("creating", "its container to be created")


def without_mount(words: str, secret: str) -> Waiting:
    """Return what a pod waits for that cannot mount something, as the cluster says why; `secret` is what its task comes in."""
    gone = (
        "; that one holds its task, and was deleted by somebody else" if f'secret "{secret}" not found' in words else ""
    )
    return Waiting("mount" if "not found" in words else "volume", f"what its pod mounts: {_sentence(words)}{gone}")


def container_of(pod: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the status of the container that runs the function."""
    found = pod["status"].get("containerStatuses") or ()
    return next((item for item in found if item["name"] == CONTAINER), None)


def terminated_of(pod: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return how its container terminated; None while it has not."""
    container = container_of(pod)
    found: Mapping[str, Any] | None = (container or {}).get("state", {}).get("terminated")
    return found


def without_pod(words: str) -> Waiting:
    """Return what a unit waits for whose pod cannot be made, as the cluster says why."""
    return Waiting("quota" if "exceeded quota" in words else "refused", f"a pod: {_sentence(words)}")


def without_operator(found: Mapping[str, Any], age: float) -> Waiting | None:
    """Return what a unit waits for whose object is `age` seconds old; None where somebody has acted on it, or may soon."""
    if found.get("status") or age < _SILENT:
        return None
    kind = found["kind"]
    return Waiting(
        "operator", f"the operator of {kind}s, which has not acted on this one: does it run (kubectl get pods -A)?"
    )


def object_end(found: Mapping[str, Any]) -> End | None:
    """Return how a unit without a pod ended, once its Job, or its operator's object, is over."""
    status = found.get("status", {})
    application = status.get("applicationState", {})
    states = {item["type"] for item in status.get("conditions", ()) if item["status"] == "True"}
    if not {*states, status.get("jobStatus"), application.get("state")} & _ENDS:
        return None
    if why := application.get("errorMessage"):
        # Of all that spark-submit writes, the exception.
        said = next((line for line in why.splitlines() if "Exception" in line), why)
        return End(Reason.ERROR, f" could not begin: {_sentence(said)}.")
    return End(Reason.LOST, ": its pod is gone, and its log with it.", deleted=True)


def gives_up(found: Mapping[str, Any]) -> bool:
    """Return whether a Job lets no other of its units begin, and ends those at work, as too many have failed."""
    conditions = found.get("status", {}).get("conditions", ())
    return any(item.get("reason") == "MaxFailedIndexesExceeded" and item["status"] == "True" for item in conditions)


def has_begun(pod: Mapping[str, Any]) -> bool:
    """Return whether its container runs or has run: then it has a log."""
    state = (container_of(pod) or {}).get("state", {})
    return "running" in state or bool(state.get("terminated", {}).get("containerID"))


def is_over(pod: Mapping[str, Any]) -> bool:
    """Return whether nothing of a pod runs any more, or ever will."""
    return terminated_of(pod) is not None or pod["status"].get("phase") in ("Failed", "Succeeded")


def explain(plan: Plan, pod: Mapping[str, Any], *, is_deleted: bool) -> End:
    """Return why a unit ended, which has reported no outcome; its message goes on from the function's name."""
    terminated = terminated_of(pod)
    if terminated is None:
        return taken_away(pod) or _never_ran(pod, is_deleted=is_deleted)
    return _by_itself(plan, terminated) or taken_away(pod) or _exited(plan, pod, terminated, is_deleted=is_deleted)


def _by_itself(plan: Plan, terminated: Mapping[str, Any]) -> End | None:
    """Return the end of a unit that its first process has ended, or the kernel."""
    summary = _summary(terminated)
    if "words" in summary:
        return End(Reason.ERROR, f": a pod of its ranks could not start: {summary['words']}.")
    if "python" in summary:
        return _skew(plan, summary["python"], summary["wanted"])
    if summary.get("why") == "timeout":
        limit = f"{plan.timeout:g} s; raise timeout=, or make it quicker."
        return End(Reason.TIMEOUT, f" did not end within its timeout of {limit}")
    if summary.get("oom") or terminated.get("reason") == "OOMKilled":
        return End(*out_of_memory(plan), exit_code=int(terminated.get("exitCode", 0)))
    return None


def out_of_memory(plan: Plan) -> tuple[Reason, str]:
    """Return the reason and the words of a unit that the kernel has killed for want of memory."""
    limit = f"its limit of mem={shown_bytes(plan.mem)}" if plan.mem else "what its node has"
    return Reason.OOM, f" took more memory than {limit}; raise mem=, or use less."


def taken_away(pod: Mapping[str, Any]) -> End | None:
    """Return the end of a unit whose pod the cluster itself took away."""
    status = pod["status"]
    disruption = next((item for item in status.get("conditions", ()) if item["type"] == "DisruptionTarget"), None)
    if disruption is None and status.get("reason") not in ("Evicted", "Preempting"):
        return None
    why = (disruption or {}).get("message") or status.get("message") or "evicted"
    return End(Reason.PREEMPTED, f": its pod was taken away ({_sentence(why)}).")


def _never_ran(pod: Mapping[str, Any], *, is_deleted: bool) -> End:
    if is_deleted:
        return End(Reason.LOST, _DELETED, deleted=True)
    status = pod["status"]
    why = _sentence(status.get("message", "")) or status.get("reason") or "no reason given"
    return End(Reason.NEVER_STARTED, f": its pod failed before it could begin: {why}.")


def _exited(plan: Plan, pod: Mapping[str, Any], terminated: Mapping[str, Any], *, is_deleted: bool) -> End:
    code, summary = int(terminated.get("exitCode", 0)), _summary(terminated)
    signal = summary.get("signal") or (code - _KILLED if code > _KILLED else None)
    if is_deleted or pod["metadata"].get("deletionTimestamp"):
        return End(Reason.LOST, _DELETED, code, signal, deleted=True)
    if summary.get("why") == "stopped":
        return End(Reason.ERROR, ": its pod got SIGTERM, which mlfn did not send; find what sent it.", code, signal)
    if terminated.get("reason") in ("StartError", "ContainerCannotRun"):
        why = _sentence(terminated.get("message", ""))
        return End(
            Reason.ERROR, f": its container cannot start: {why}; does image={image_of(plan)!r} have python?", code
        )
    how = f"exit code {code}" if signal is None else f"signal {signal}, {_name(signal)}"
    said = f": its process ended ({how}) before an outcome was reported; run.logs() has what it wrote, if anything."
    return End(Reason.ERROR, said, None if signal else code, signal)


def _skew(plan: Plan, here: str, wanted: str) -> End:
    return End(
        Reason.SKEW,
        f" was packed by Python {wanted}, and image={image_of(plan)!r} has Python {here}: code of one minor version does not run on "
        f'another. Choose an image with Python {wanted} (image="python:{wanted}-slim"), or submit from Python {here}.',
    )


def _summary(terminated: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found = json.loads(terminated.get("message") or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _sentence(text: str) -> str:
    return " ".join(text.split()).rstrip(".")[:500]


def _name(number: int) -> str:
    try:
        return signals.Signals(number).name
    except ValueError:
        return "unknown"
