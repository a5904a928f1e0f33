"""The protocol of hosts, and what they know of a service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any, Literal, Protocol

from mlfn.host.frozen import frozen
from mlfn.spec.plan import Plan

State = Literal["ready", "failed", "ended", "gone"]


@frozen
class VersionRecord:
    """One version of a function that was deployed: its number, hash and plan, and when."""

    number: int
    hash: str
    plan: str
    time: float


@frozen
class ServiceRecord:
    """A service as its host knows it; `token` refers to the secret that requests have to bring.

    `state` is ``ready``; ``ended``, where it was stopped; ``gone``, where its process ended by itself; ``failed``, where none of
    its pods is ready. `url` is its address within its machine or cluster.
    """

    name: str
    project: str
    host: str
    state: State
    url: str
    replicas: int
    versions: tuple[VersionRecord, ...]
    handle: Mapping[str, Any] = field(default_factory=dict)
    token: Mapping[str, Any] | None = None

    @property
    def version(self) -> VersionRecord:
        """The one that answers."""
        return self.versions[-1]


class Host(Protocol):
    """Deploys functions, and finds, scales and deletes what was deployed; from any process."""

    def deploy(self, plan: Plan, *, again: bool = False) -> tuple[ServiceRecord, bool]:
        """Deploy a plan, and return its service once it is ready, and whether anything was to be done.

        Of one that runs in the same version nothing is, unless it is to be done `again`. Raises ServiceError, with the end of
        its log, where it does not begin: the version before it goes on.
        """
        ...

    def find(self, project: str, name: str) -> ServiceRecord | None:
        """Return a service; None where none was deployed under this name."""
        ...

    def list_services(self) -> Sequence[ServiceRecord]:
        """Return all services, by project and name."""
        ...

    def scale(self, project: str, name: str, replicas: int) -> ServiceRecord:
        """Have so many copies answer."""
        ...

    def delete(self, project: str, name: str) -> None:
        """End a service after what it has begun, and forget it."""
        ...

    def address(self, record: ServiceRecord) -> str:
        """Return where this process reaches a service."""
        ...

    def token(self, record: ServiceRecord) -> str | None:
        """Return the token that requests have to bring; None where there is none."""
        ...

    def lines(self, record: ServiceRecord, *, follow: bool, which: str) -> Iterator[str]:
        """Yield the lines of its log ``"server"`` or ``"access"``; with `follow`, as they come, until it is deleted."""
        ...
