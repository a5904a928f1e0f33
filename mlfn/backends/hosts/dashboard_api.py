"""The REST API of Nuclio's dashboard, as far as services need it; its refusals as errors with words."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from mlfn.errors import ServiceError

LOGIN = "NUCLIO_DASHBOARD_TOKEN"
"""The secret that is sent to a dashboard behind a login; one without is asked without it."""
_TIMEOUT = 75.0  # the dashboard answers a function within a minute, when its state is stored
_NAMESPACE = "x-nuclio-function-namespace"


class RefusedError(Exception):
    """An answer that is no success: its status, and the dashboard's own words."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"{status}: {said}")
        self.status = status
        self.said = said


class UnansweredError(Exception):
    """The dashboard does not answer."""


class Dashboard:
    """One namespace of one dashboard."""

    def __init__(self, url: str, *, namespace: str, token: str | None) -> None:
        self.url = url.rstrip("/")
        self.namespace = namespace
        self._parts = urlsplit(self.url)
        self._headers = {_NAMESPACE: namespace, **({"Authorization": f"Bearer {token}"} if token else {})}

    def function(self, name: str) -> dict[str, Any] | None:
        """Return a function with its spec and status; None where there is none."""
        try:
            found: dict[str, Any] = json.loads(self._asked("GET", f"/api/functions/{quote(name)}"))
        except RefusedError as error:
            if error.status == 404:
                return None
            raise
        return found

    def functions(self) -> list[dict[str, Any]]:
        """Return all functions."""
        found: dict[str, dict[str, Any]] = json.loads(self._asked("GET", "/api/functions"))
        return list(found.values())

    def create(self, wanted: Mapping[str, Any], project: str) -> None:
        """Have a function created; it is accepted here, and fails later, if it does."""
        self._asked("POST", "/api/functions", wanted, **{"x-nuclio-project-name": project})

    def update(self, name: str, wanted: Mapping[str, Any]) -> None:
        """Have a function replaced; accepted as with `create`."""
        self._asked("PUT", f"/api/functions/{quote(name)}", wanted)

    def delete(self, name: str) -> None:
        """Delete a function, whatever its state; one that is gone already is no error."""
        body = {"metadata": {"name": name, "namespace": self.namespace}}
        self._asked("DELETE", "/api/functions", body, **{"x-nuclio-delete-function-ignore-state-validation": "true"})

    def replicas(self, name: str) -> list[str]:
        """Return the names of a function's pods."""
        found: dict[str, Any] = json.loads(self._asked("GET", f"/api/functions/{quote(name)}/replicas"))
        return list(found.get("names") or [])

    def log(self, name: str, replica: str, *, follow: bool) -> Iterator[bytes]:
        """Yield the lines of a pod's log; with `follow`, as they come, until it ends."""
        query = urlencode({"follow": str(follow).lower()})  # it follows unless it is told not to
        path = f"/api/functions/{quote(name)}/logs/{quote(replica)}?{query}"
        with closing(self._connection(None if follow else _TIMEOUT)) as connection:
            answer = self._answer(connection, "GET", path, None, {})
            if answer.status >= 400:
                raise _refusal(answer.status, answer.read())
            try:
                while line := answer.readline():
                    yield line.rstrip(b"\n")
            except (OSError, http.client.HTTPException) as error:
                raise UnansweredError(f"{type(error).__name__}: {error}") from error

    def _asked(self, method: str, path: str, body: Mapping[str, Any] | None = None, **headers: str) -> bytes:
        with closing(self._connection(_TIMEOUT)) as connection:
            answer = self._answer(connection, method, path, body, headers)
            try:
                content = answer.read()
            except (OSError, http.client.HTTPException) as error:
                raise UnansweredError(f"{type(error).__name__}: {error}") from error
        if answer.status >= 400:
            raise _refusal(answer.status, content)
        return content

    def _answer(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
    ) -> http.client.HTTPResponse:
        data = None if body is None else json.dumps(body).encode()
        sent = {**self._headers, "Content-Type": "application/json", **headers}
        try:
            connection.request(method, f"{self._parts.path}{path}", body=data, headers=sent)
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise UnansweredError(f"{type(error).__name__}: {error}") from error

    def _connection(self, timeout: float | None) -> http.client.HTTPConnection:
        is_safe = self._parts.scheme == "https"
        kind = http.client.HTTPSConnection if is_safe else http.client.HTTPConnection
        return kind(self._parts.hostname or "", self._parts.port, timeout=timeout)

    def refused(self, what: str, error: RefusedError) -> ServiceError:
        """Return the error for an answer that is no success."""
        where = f"{what}: Nuclio's dashboard at {self.url}"
        if error.status in (401, 403):
            return ServiceError(
                f"{where} wants a login, and answers {error.status} ({error.said}): `mlfn secret set {LOGIN}` keeps the token that is sent as "
                "'Authorization: Bearer ...'."
            )
        if error.status >= 500:
            return ServiceError(f"{where} failed with {error.status} ({error.said}): its own log says why. Try again.")
        return ServiceError(f"{where} refuses it with {error.status}: {error.said}")

    def unanswered(self, what: str, error: Exception) -> ServiceError:
        """Return the error for a dashboard that does not answer."""
        return ServiceError(
            f"{what}: Nuclio's dashboard does not answer at {self.url} ({error}). MLFN_NUCLIO_DASHBOARD says where it is; from outside of "
            "the cluster, `kubectl port-forward service/nuclio-dashboard 8070` makes it http://127.0.0.1:8070."
        )


def _refusal(status: int, content: bytes) -> RefusedError:
    try:
        said = str(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError):
        said = content[:500].decode("utf-8", "replace").strip() or "it says nothing more"
    return RefusedError(status, said)
