"""`Service`: a deployed function, as users hold it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from mlfn.backends.hosts.base import Host, ServiceRecord, VersionRecord
from mlfn.errors import NotFoundError, ParameterError, ServiceError
from mlfn.handles.service_client import Client
from mlfn.serving.answers import JSON
from mlfn.serving.replies import Reply
from mlfn.serving.returned import to_json
from mlfn.serving.triggered import to_bytes
from mlfn.spec.plan import Plan


class Service:
    """A deployed function: called it answers as the function does, from any process.

    It outlives the process that deployed it. Raises NotFoundError where it was deleted meanwhile.
    """

    def __init__(self, record: ServiceRecord, host: Host, plans: Any, *, is_new: bool = True) -> None:
        self._record = record
        self._host = host
        self._plans = plans
        self.is_new = is_new
        self._client: Client | None = None

    @property
    def name(self) -> str:
        """The function's name."""
        return self._record.name

    @property
    def project(self) -> str:
        """The function's project."""
        return self._record.project

    @property
    def url(self) -> str:
        """Where it answers this process; ``/docs`` there is a page to try it."""
        return self._host.address(self._record)

    @property
    def address(self) -> str:
        """Where it answers within its cluster; of a service on this machine, as `url`."""
        return self._record.url

    @property
    def state(self) -> str:
        """``"ready"``, ``"deleted"``, ``"ended"``, ``"gone"`` (its process has ended by itself) or ``"failed"`` (no pod is ready)."""
        found = self._host.find(self.project, self.name)
        return "deleted" if found is None else found.state

    @property
    def replicas(self) -> int:
        """How many copies answer."""
        return self._current().replicas

    @property
    def versions(self) -> list[VersionRecord]:
        """The versions that were deployed, the newest last: number, hash and time."""
        return list(self._current().versions)

    def __call__(self, /, **params: Any) -> Any:
        """Return what the function returns for these parameters; ServiceError for any answer that is no success."""
        return self.invoke(**params).value()

    async def acall(self, /, **params: Any) -> Any:
        """Return what the function returns, without blocking the loop."""
        return await asyncio.to_thread(self, **params)

    def invoke(self, /, **params: Any) -> Reply:
        """Post parameters as JSON, and return the whole answer, whatever its status."""
        return self.post(params)

    def post(
        self,
        body: Any = b"",
        path: str = "/",
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Reply:
        """Post a body: a text or bytes as they are, all else as JSON; wait `timeout` seconds for the answer at most."""
        return self.request("POST", path, body=body, headers=headers, timeout=timeout)

    def get(self, path: str = "/", *, timeout: float | None = None) -> Reply:
        """Get a path, its query included."""
        return self.request("GET", path, timeout=timeout)

    def request(
        self,
        method: str,
        path: str = "/",
        *,
        body: Any = b"",
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Reply:
        """Send one HTTP request."""
        sent = dict(headers or {})
        if not isinstance(body, (str, bytes, bytearray)):
            body = to_json(body)
            sent.setdefault("Content-Type", JSON)
        if self._client is None:
            self._client = Client(self.url, self._host.token(self._record))
        try:
            return self._client.request(method, path, to_bytes(body), sent, timeout)
        except ConnectionRefusedError as error:
            return self._moved(method, path, to_bytes(body), sent, timeout, error)
        except OSError as error:
            if (found := self._current()).state != "ready":
                raise self._unready(found) from error
            raise ServiceError(
                f"The service {self.name} gave no answer at {self.url} ({type(error).__name__}: {error}): "
                f"its log says more, mlfn.service({self.name!r}).logs()."
            ) from error

    def logs(self, *, follow: bool = False, which: str = "server") -> Iterator[str]:
        """Yield the lines of its log, or with ``which="access"`` one for each request; with `follow`, as they come."""
        if which not in ("server", "access"):
            raise ParameterError(f"logs(which={which!r}): 'server' or 'access' is allowed.")
        yield from self._host.lines(self._current(), follow=follow, which=which)

    @property
    def metrics(self) -> dict[str, float]:
        """What it counts, by the names that Prometheus sees at ``/metrics``."""
        return self.read_metrics()

    def read_metrics(self, *, timeout: float | None = None) -> dict[str, float]:
        """Return `metrics`, for which it is waited `timeout` seconds at most."""
        found: dict[str, float] = {}
        for line in self.get("/__internal/metrics", timeout=timeout).text.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                found[name] = float(value)
        return found

    def scale(self, replicas: int) -> Service:
        """Have so many copies answer, and return the service."""
        self._record = self._host.scale(self.project, self.name, replicas)
        return self

    def delete(self) -> None:
        """End it after what it has begun, and forget it."""
        self._host.delete(self.project, self.name)

    def rollback(self, number: int | None = None) -> Service:
        """Deploy an earlier version again, the one before unless a `number` is given, and return its service."""
        versions = self.versions
        wanted = [item for item in versions[:-1] if number in (None, item.number)]
        if not wanted:
            there = ", ".join(str(item.number) for item in versions[:-1]) or "none"
            raise NotFoundError(f"{self.name} has no earlier version{f' {number}' if number else ''}. There: {there}.")
        plan: Plan = self._plans(wanted[-1].plan)
        record, _ = self._host.deploy(plan, again=True)
        return Service(record, self._host, self._plans)

    def __repr__(self) -> str:
        return f"<mlfn.Service {self.project}/{self.name} {self.state} {self.url}>"

    def _current(self) -> ServiceRecord:
        found = self._host.find(self.project, self.name)
        if found is None:
            raise NotFoundError(f"The service {self.name!r} was deleted: deploy it again.")
        return found

    def _moved(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], timeout: float | None, error: OSError
    ) -> Reply:
        """Ask again where it is: it may have been deployed anew at another address."""
        found = self._current()
        if found.state == "ready" and found.url != self._record.url:
            self._record = found
            self._client = Client(self.url, self._host.token(self._record))
            return self._client.request(method, path, body, headers, timeout)
        raise self._unready(found) from error

    def _unready(self, found: ServiceRecord) -> ServiceError:
        return ServiceError(
            f"The service {self.name} does not answer at {self.url}: its state is {found.state!r}. Its log says why, "
            f"mlfn.service({self.name!r}).logs(); deploy() begins it again."
        )
