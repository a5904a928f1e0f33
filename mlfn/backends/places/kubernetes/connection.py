"""The API server, as plain requests: the official client says where it is and who asks."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from mlfn.errors import MissingExtraError, OptionError, PlaceError

_TIMEOUT = (5.0, 30.0)  # seconds to connect, and between two pieces of an answer
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_CONNECTIONS = 64
_UNAUTHORIZED = 401
_MERGE, _OPERATIONS = "application/merge-patch+json", "application/json-patch+json"


Body = Mapping[str, Any] | Sequence[Mapping[str, Any]]


class ApiError(Exception):
    """The API server refuses: `status` is HTTP's, `reason` is Kubernetes' word."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message

    @property
    def is_of_login(self) -> bool:
        """Whether the server does not know who asks, as after a token has expired."""
        return self.status == _UNAUTHORIZED


class UnreachableError(Exception):
    """There is no answer: what was asked may have happened all the same."""


class Connection:
    """Requests to one API server as one user; any thread may use it."""

    def __init__(self, *, kubeconfig: str | None = None, context: str | None = None) -> None:
        self._source = (kubeconfig, context)
        configuration, self.namespace, self.is_inside = _configured(*self._source)
        from kubernetes.client.rest import RESTClientObject

        configuration.connection_pool_maxsize = _CONNECTIONS
        self.host: str = configuration.host.rstrip("/")
        self._configuration = configuration
        self._pool = RESTClientObject(configuration).pool_manager

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """Return an object, or a list of some."""
        return self._call("GET", path, query)

    def post(self, path: str, body: Mapping[str, Any], **query: Any) -> dict[str, Any]:
        """Create an object."""
        return self._call("POST", path, query, body)

    def put(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Replace an object; refused as a conflict where it is not the one that `body` was made of."""
        return self._call("PUT", path, {}, body)

    def patch(self, path: str, body: Body) -> dict[str, Any]:
        """Change some of an object, by what is to be merged into it, or by operations one after another."""
        return self._call("PATCH", path, {}, body)

    def delete(self, path: str, body: Mapping[str, Any] | None = None, **query: Any) -> bool:
        """Delete an object, or those of a list that a query selects; False where there is none."""
        try:
            self._call("DELETE", path, query, body or {})
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    def stream(self, path: str, *, idle: float | None = None, **query: Any) -> Stream:
        """Open an answer that goes on; `idle` seconds without a piece of it end it."""
        return Stream(self._open("GET", path, query, timeout=(_TIMEOUT[0], idle)))

    def websocket(self, path: str, protocol: str, **query: Any) -> Any:
        """Open a web socket, as the official client does."""
        from kubernetes.stream import ws_client

        library: Any = ws_client  # untyped
        url = f"ws{self.host.removeprefix('http')}{path}?{urlencode(query)}"
        headers = {"sec-websocket-protocol": protocol, **self._login()}
        try:
            return library.create_websocket(self._configuration, url, headers)
        except Exception as error:  # each layer beneath has errors of its own
            raise UnreachableError(_told(error)) from error

    def close(self) -> None:
        """Close what no request is using."""
        self._pool.clear()

    def _call(self, method: str, path: str, query: Mapping[str, Any], body: Body | None = None) -> dict[str, Any]:
        answer = self._open(method, path, query, body)
        try:
            data = answer.data
        except Exception as error:
            raise UnreachableError(_told(error)) from error
        found: dict[str, Any] = json.loads(data)
        return found

    def _login(self) -> dict[str, str]:
        """Return the headers that say who asks."""
        settings = self._configuration.auth_settings().values()
        return {item["key"]: item["value"] for item in settings if item["in"] == "header" and item["value"]}

    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any],
        body: Body | None = None,
        *,
        timeout: tuple[float, float | None] = _TIMEOUT,
    ) -> Any:
        login = self._login()
        try:
            return self._request(method, path, query, body, login, timeout)
        except ApiError as error:
            if not error.is_of_login or not self._has_new_login(login):
                raise
        return self._request(method, path, query, body, self._login(), timeout)

    def _has_new_login(self, refused: Mapping[str, str]) -> bool:
        """Return whether the kubeconfig has another login than the one refused, as after its user has logged in again."""
        with suppress(PlaceError, OptionError):
            self._configuration = _configured(*self._source)[0]
        return self._login() != refused

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any],
        body: Body | None,
        login: Mapping[str, str],
        timeout: tuple[float, float | None],
    ) -> Any:
        import urllib3

        headers = {"Accept": "application/json", **login}
        if body is not None:
            patch = _MERGE if isinstance(body, Mapping) else _OPERATIONS
            headers["Content-Type"] = patch if method == "PATCH" else "application/json"
        url = f"{self.host}{path}{'?' + urlencode(query) if query else ''}"
        try:
            answer = self._pool.request(
                method,
                url,
                headers=headers,
                body=None if body is None else json.dumps(body).encode(),
                preload_content=False,
                retries=False,
                timeout=urllib3.Timeout(connect=timeout[0], read=timeout[1]),
            )
            refusal = _refusal(answer) if answer.status >= 400 else None
        except Exception as error:  # each layer beneath has errors of its own
            raise UnreachableError(_told(error)) from error
        if refusal is not None:
            raise refusal
        return answer


class Stream:
    """The pieces of an answer that goes on; any thread may close it."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def pieces(self) -> Iterator[bytes]:
        """Yield what arrives, until the server ends it; raise UnreachableError where the connection breaks."""
        try:
            yield from self._answer.stream(1 << 16)
        except Exception as error:
            raise UnreachableError(_told(error)) from error
        finally:
            self.close()

    def lines(self) -> Iterator[bytes]:
        """Yield whole lines."""
        rest = b""
        for piece in self.pieces():
            *lines, rest = (rest + piece).split(b"\n")
            yield from lines

    def close(self) -> None:
        """End it."""
        self._answer.close()
        self._answer.release_conn()


def _refusal(answer: Any) -> ApiError:
    text = answer.data.decode(errors="replace")
    try:
        status = json.loads(text)
        return ApiError(answer.status, str(status.get("reason", "")), str(status.get("message", text)))
    except (ValueError, AttributeError):
        return ApiError(answer.status, "", text.strip() or str(answer.reason))


def _told(error: Exception) -> str:
    return str(error) or type(error).__name__


def _configured(kubeconfig: str | None, context: str | None) -> tuple[Any, str, bool]:
    """Return the client's configuration, the namespace that goes with it, and whether this is a pod of that cluster."""
    try:
        from kubernetes import client
        from kubernetes import config as loaders
    except ImportError as error:
        raise MissingExtraError(
            "on='kubernetes' needs the package kubernetes: pip install 'mlfn[kubernetes]'."
        ) from error
    config: Any = loaders  # untyped
    configuration = client.Configuration()
    is_inside = "KUBERNETES_SERVICE_HOST" in os.environ
    # Not left to the client, which has read the variable when it was imported.
    files = kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
    known = [path for path in files.split(os.pathsep) if path]
    if not any(Path(path).expanduser().exists() for path in known):
        if kubeconfig is None and context is None and is_inside:
            config.load_incluster_config(client_configuration=configuration)
            return configuration, _NAMESPACE_FILE.read_text().strip(), True
        raise PlaceError(
            f"on='kubernetes' finds no cluster: there is no {' or '.join(known)}. Set KUBECONFIG, or name the file by "
            "on('kubernetes', kubeconfig='...')."
        )
    try:
        contexts, current = config.list_kube_config_contexts(config_file=files)
        names = [item["name"] for item in contexts]
        if context is not None and context not in names:
            raise OptionError(
                f"on('kubernetes', context={context!r}): {' or '.join(known)} has {', '.join(names) or 'none'}; name one of these."
            )
        config.load_kube_config(config_file=files, context=context, client_configuration=configuration)
    except config.ConfigException as error:
        raise PlaceError(f"on='kubernetes' cannot use {' or '.join(known)}: {error}.") from error
    chosen = current if context is None else next(item for item in contexts if item["name"] == context)
    return configuration, chosen["context"].get("namespace") or "default", False
