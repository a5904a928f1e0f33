"""The services of a cluster, whichever engine runs them: Deployments of the embedded server, and functions of Nuclio."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlfn.backends.hosts.base import Host, ServiceRecord
from mlfn.backends.hosts.checks import not_found
from mlfn.backends.hosts.dashboard import DashboardHost
from mlfn.backends.hosts.kubernetes.host import KubernetesHost
from mlfn.backends.kinds.nuclio.options import DASHBOARD, Nuclio
from mlfn.backends.places.base import PlaceConfig
from mlfn.errors import MlfnError
from mlfn.spec.plan import Plan


class ClusterHost:
    """Deploys with the engine that a function names, and finds what was deployed by either."""

    def __init__(self, config: PlaceConfig, **options: Any) -> None:
        self._config = config
        self._options = options
        self._made: dict[bool, Host] = {}

    def deploy(self, plan: Plan, *, again: bool = False) -> tuple[ServiceRecord, bool]:
        """Deploy a plan with its engine."""
        kind = Nuclio(**plan.kind.options)
        return self._host(is_nuclio=kind.engine == DASHBOARD).deploy(plan, again=again)

    def find(self, project: str, name: str) -> ServiceRecord | None:
        """Return a service as it is now."""
        found = self._host(is_nuclio=True).find(project, name) if self._config.dashboard else None
        if found is not None:
            return found
        deployments = self._deployments()
        return None if deployments is None else deployments.find(project, name)

    def list_services(self) -> list[ServiceRecord]:
        """Return all services."""
        functions = self._host(is_nuclio=True).list_services() if self._config.dashboard else ()
        deployments = self._deployments()
        found = [*functions, *(() if deployments is None else deployments.list_services())]
        return sorted(found, key=lambda item: (item.project, item.name))

    def _deployments(self) -> Host | None:
        """Return the host of Deployments; None where only Nuclio's dashboard is known, and no cluster."""
        try:
            return self._host(is_nuclio=False)
        except MlfnError:
            if not self._config.dashboard:
                raise
            return None

    def scale(self, project: str, name: str, replicas: int) -> ServiceRecord:
        """Have so many copies answer."""
        return self._of(self._required(project, name)).scale(project, name, replicas)

    def delete(self, project: str, name: str) -> None:
        """End a service, and forget it."""
        self._of(self._required(project, name)).delete(project, name)

    def address(self, record: ServiceRecord) -> str:
        """Return where this process reaches a service."""
        return self._of(record).address(record)

    def token(self, record: ServiceRecord) -> str | None:
        """Return the token that requests have to bring."""
        return self._of(record).token(record)

    def lines(self, record: ServiceRecord, *, follow: bool, which: str) -> Iterator[str]:
        """Yield the lines of a log."""
        return self._of(record).lines(record, follow=follow, which=which)

    def _required(self, project: str, name: str) -> ServiceRecord:
        found = self.find(project, name)
        if found is None:
            raise not_found(project, name, [item.name for item in self.list_services() if item.project == project])
        return found

    def _of(self, record: ServiceRecord) -> Host:
        return self._host(is_nuclio=_is_function(record.handle))

    def _host(self, *, is_nuclio: bool) -> Host:
        if is_nuclio not in self._made:
            maker: Any = DashboardHost if is_nuclio else KubernetesHost
            self._made[is_nuclio] = maker(self._config, **self._options)
        return self._made[is_nuclio]


def _is_function(handle: Mapping[str, Any]) -> bool:
    return "function" in handle
