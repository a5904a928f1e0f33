"""The view model of a deployed service: where it answers, in which version, and what it has answered."""

from __future__ import annotations

from mlfn.errors import MlfnError
from mlfn.handles.service import Service
from mlfn.host.frozen import frozen
from mlfn.ui.wording import number, plural

_MOST_VERSIONS = 8
_PATIENCE = 1.0  # seconds for its counts: a card waits no longer for a service that is busy


@frozen
class ServiceView:
    """A service; `versions` are (number, hash, time of its deployment), the newest first."""

    name: str
    project: str
    state: str
    url: str
    replicas: int
    versions: tuple[tuple[int, str, float], ...]
    more_versions: int = 0
    counts: tuple[tuple[str, str], ...] = ()


def view_service(service: Service) -> ServiceView:
    """Return the view of a service as it is now. Raises NotFoundError where it was deleted."""
    versions, state = service.versions, service.state
    shown = [(item.number, item.hash, item.time) for item in reversed(versions[-_MOST_VERSIONS:])]
    return ServiceView(
        name=service.name,
        project=service.project,
        state=state,
        url=service.url,
        replicas=service.replicas,
        versions=tuple(shown),
        more_versions=len(versions) - len(shown),
        counts=tuple(_counts(service)) if state == "ready" else (),
    )


def _counts(service: Service) -> list[tuple[str, str]]:
    """Return what the replica that answers has counted; nothing where it counts nothing, or has no time to say so."""
    try:
        metrics = service.read_metrics(timeout=_PATIENCE)
    except (MlfnError, OSError):
        return []
    answered = {_label(name, "status"): value for name, value in metrics.items() if "requests_total" in name}
    total = sum(answered.values())
    failed = sum(value for status, value in answered.items() if status.startswith("5"))
    found = [("answered", plural(int(total), "request") if total else "none yet")]
    if failed:
        found.append(("failed", f"{failed:,.0f} (status 5xx)"))
    if total:
        spent = sum(value for name, value in metrics.items() if name.startswith("mlfn_request_seconds_sum"))
        found.append(("mean time", f"{number(1000 * spent / total)} ms"))
    return found


def _label(name: str, label: str) -> str:
    return name.partition(f'{label}="')[2].partition('"')[0]
